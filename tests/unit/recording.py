"""A played instance as the recorded one that an engine would have left."""

from __future__ import annotations

import traceback
from typing import Any

from orchestrator import history
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import Input
from orchestrator.saga.machine import Transition, decide, stuck
from tests.unit.journey import journey
from tests.unit.play import Play
from tests.unit.work import Begun, Done


class Recording(Play):
    """A play that keeps every transition as the texts of a history row."""

    def __init__(self, saga: Saga[Any], key: object = 7) -> None:
        super().__init__(saga, key)
        self.key = str(key)
        self.lines: list[RecordedTransition] = []

    def take(self, given: Input) -> Transition:
        try:
            transition = decide(self.saga, self.id, self.state, given)
        except Exception as error:  # noqa: BLE001 - as the engine does
            transition = stuck(self.state, given, "".join(traceback.format_exception(error)))
        if transition.facts:
            self.lines.append(
                RecordedTransition(
                    len(self.lines) + 1,
                    given.at,
                    history.dump_input(given),
                    history.dump_facts(transition.facts),
                    history.dump_sends(transition.sends),
                )
            )
        return self.carry_out(transition)

    @property
    def recorded(self) -> Recorded:
        """Its row and its history."""
        return Recorded(
            id=self.id,
            name=self.saga.name,
            version=self.saga.version,
            key=self.key,
            status=self.current.status.value,
            step=self.current.waits_for,
            reason=self.current.reason,
            data=history.dump_data(self.current.data),
            progress=history.dump_progress(self.current),
            started_at=self.lines[0].at,
            updated_at=self.lines[-1].at,
            deadline=self.current.deadline,
            transitions=tuple(self.lines),
        )


def waiting(saga: Saga[Any] | None = None) -> Recording:
    """An instance whose first step has succeeded, and whose second waits for its answer."""
    play = Recording(saga or journey())
    play.event(Begun(id=7))
    play.answer("stock", Done())
    return play
