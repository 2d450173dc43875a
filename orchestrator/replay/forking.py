"""A counterfactual: a recorded instance, and what would have become of it from one point on, had something else come.

Everything up to the point of the fork is as recorded. From there the inputs, edited, go through the definition of this
checkout. As long as the instance is where it was in the recording, deadlines pass when they were recorded; once it is
not, the clock decides: a deadline passes at its moment, unless something came before it. Ids of commands are derived,
so recorded answers still fit the commands they answer; the answer to a command that the fork never sent does not come.
The history itself is not touched, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from orchestrator import history, words
from orchestrator.catalog import Catalog
from orchestrator.replay.edits import CannotFork, Edit, Item
from orchestrator.replay.injecting import Inject, injected
from orchestrator.replay.past import CannotRead, Past, past
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.replay.waiting import waits_for
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import Action, DeadlinePassed, EventArrived, Input, PersonActed
from orchestrator.saga.machine import Transition, Verdict, decide, fold, stuck
from orchestrator.saga.state import SagaState
from orchestrator.saga.story import story

MOST_DEADLINES = 100
"""Deadlines that pass after the last input when nobody answers: a pivot would be repeated for ever."""


@dataclass(frozen=True, slots=True)
class Timeout:
    """Right after the point of the fork, nothing comes until this step's deadline has passed."""

    step: str


@dataclass(frozen=True, slots=True)
class Unheard:
    """An input that moved nothing in the fork, and why."""

    origin: int | None
    input: str
    why: str


@dataclass(frozen=True, slots=True)
class Fork:
    """Both timelines. `origins` and `hows` say of each forked transition after `at` where its input is from."""

    at: int
    recorded: Recorded
    forked: Recorded
    origins: tuple[int | None, ...]
    hows: tuple[str, ...]
    unheard: tuple[Unheard, ...]
    waits_for: tuple[str, ...]
    """What the fork waits for at its end, in words."""


def fork(
    recorded: Recorded,
    catalog: Catalog,
    at: int,
    edits: Sequence[Edit] = (),
    *,
    after: Sequence[Inject | Timeout] = (),
    silence: bool = False,
) -> Fork:
    """What would have become of `recorded` after its transition `at` (0: from its start).

    `after` happens right there, then the recorded inputs with their `edits`. With `silence`, deadlines pass after the
    last of them until nothing more is due. Raises CannotFork.
    """
    last = len(recorded.transitions)
    if not 0 <= at <= last:
        raise CannotFork(f"--at {at}: the history has transitions 1 to {last} (0: before the first)")
    try:
        been = past(recorded, catalog)
    except CannotRead as error:
        raise CannotFork(str(error)) from error
    items = [Item(given, seq) for seq, given in enumerate(been.inputs, 1) if seq > at]
    for edit in edits:
        items = edit.apply(items, catalog.registry)
    try:
        forking = _Forking(recorded, been, catalog, at)
    except history.CorruptHistory as error:
        raise CannotFork(f"the history cannot be read here: {error}; `amends replay` says more") from error
    for happening in after:
        forking.happen(happening)
    for item in items:
        forking.take(item)
    if silence:
        forking.fall_silent()
    return forking.result()


@dataclass(frozen=True, slots=True)
class _Moved:
    """Where a transition of the fork leads, and its row of the history."""

    state: SagaState
    line: RecordedTransition


class _Forking:
    """One fork on its way."""

    def __init__(self, recorded: Recorded, been: Past, catalog: Catalog, at: int) -> None:
        self._recorded = recorded
        self._catalog = catalog
        self._registry = catalog.registry
        begun = been.inputs[0] if been.inputs else None
        self._begun = begun.event if isinstance(begun, EventArrived) else None
        self._at = at
        self._inputs = been.inputs
        self._states = been.states
        self._state = been.states[at]
        self._saga: Saga[Any] = been.sagas[at - 1] if at else been.first
        """The version that decides: another one once a person has migrated the instance."""
        self._lines = list(recorded.transitions[:at])
        self._now: datetime = self._lines[-1].at if self._lines else recorded.started_at
        self._ever = _commands(recorded.transitions)
        self._sent = _commands(self._lines)
        self._origins: list[int | None] = []
        self._hows: list[str] = []
        self._parked: list[tuple[Item, str]] = []
        self._kept_for_later: set[UUID] = set()
        """The messages that were parked here at some time."""
        self._unheard: list[Unheard] = []

    # -- what comes ------------------------------------------------------------------------------------------

    def happen(self, happening: Inject | Timeout) -> None:
        """An injected event, or a silence until a step's deadline."""
        if isinstance(happening, Inject):
            self._apply(Item(self._arrival(happening), None, "injected"))
            return
        reached = self._state.steps.get(happening.step) if self._state else None
        if reached is None or reached.due is None:
            waiting = ", ".join(self._state.current) if self._state else ""
            raise CannotFork(
                f"--timeout {happening.step}: it has no deadline after transition {self._at}; "
                f"{f'it waits for {waiting} there' if waiting else 'nothing is waited for there'}"
            )
        self._pass_until(reached.due)
        if self._state is not None and self._state.deadline is not None and self._state.deadline <= reached.due:
            self._deadline(self._state.deadline)

    def take(self, item: Item) -> None:
        """An input that was recorded, or made from one."""
        if not item.how and isinstance(item.given, EventArrived) and item.given.message_id in self._kept_for_later:
            return  # the recorded engine tried again what it had parked; so did this fork, when it was time here
        if self._diverged(item):
            if isinstance(item.given, DeadlinePassed):
                return  # from here on the clock decides
            self._pass_until(item.given.at)
        cause = item.given.causation_id if isinstance(item.given, EventArrived) else None
        if cause in self._ever and cause not in self._sent:
            why = f"it answers {self._ever[cause]}, which was never sent here"
            self._unheard.append(Unheard(item.origin, words.of_input(item.given), why))
            return
        self._apply(item)

    def fall_silent(self) -> None:
        """Nobody says anything any more."""
        for _ in range(MOST_DEADLINES):
            if self._state is None or self._state.deadline is None:
                return
            self._deadline(self._state.deadline)

    # -- what becomes of it ----------------------------------------------------------------------------------

    def _diverged(self, item: Item) -> bool:
        return item.origin is None or bool(item.how) or self._state != self._states[item.origin - 1]

    def _pass_until(self, moment: datetime) -> None:
        while self._state is not None and self._state.deadline is not None and self._state.deadline < moment:
            self._deadline(self._state.deadline)

    def _deadline(self, due: datetime) -> None:
        self._apply(self._recorded_deadline() or Item(DeadlinePassed(max(due, self._now)), None, "clock"))

    def _recorded_deadline(self) -> Item | None:
        """The one that passed next in the recording, where this fork is where the recording was then."""
        for seq, given in enumerate(self._inputs[self._at :], self._at + 1):
            if isinstance(given, DeadlinePassed) and self._states[seq - 1] == self._state:
                return Item(given, seq)
        return None

    def _apply(self, item: Item) -> None:
        given = replace(item.given, at=max(item.given.at, self._now))
        transition, moved = self._decided(given)
        self._now = given.at
        if moved is not None:
            self._keep(item, moved)
        if transition.verdict is Verdict.PARKED:
            self._parked.append((item, transition.note))
            if isinstance(given, EventArrived):
                self._kept_for_later.add(given.message_id)
        elif transition.verdict is Verdict.APPLIED:
            self._reconsider()
        elif not transition.facts:
            why = f"{transition.verdict.value}{f': {transition.note}' if transition.note else ''}"
            self._unheard.append(Unheard(item.origin, words.of_input(given), why))

    def _reconsider(self) -> None:
        """As the engine does: after a transition, what is parked may have become due."""
        moved = True
        while moved:
            moved = False
            for each in list(self._parked):
                item = replace(each[0], given=replace(each[0].given, at=self._now))
                transition, moved_on = self._decided(item.given)
                if moved_on is not None:
                    self._keep(item, moved_on)
                if transition.verdict is Verdict.PARKED:
                    # Where the definition's own code raised on it, that has made the instance stuck: it stays parked.
                    self._parked[self._parked.index(each)] = (each[0], transition.note if transition.facts else each[1])
                else:
                    self._parked.remove(each)
                    moved = True

    def _decided(self, given: Input) -> tuple[Transition, _Moved | None]:
        saga = self._saga
        if isinstance(given, PersonActed) and given.action is Action.MIGRATE and given.to_version is not None:
            saga = self._catalog.get(self._recorded.name, given.to_version) or saga
        try:
            transition = decide(saga, self._recorded.id, self._state, given)
            moved = self._moved(given, transition)
        except Exception as error:  # noqa: BLE001 - DESIGN rule: what a definition raises makes that one instance stuck
            transition = stuck(self._state, given, story(error))
            return transition, self._moved(given, transition)
        self._saga = saga if transition.verdict is Verdict.APPLIED else self._saga
        return transition, moved

    def _moved(self, given: Input, transition: Transition) -> _Moved | None:
        """As the engine does: what cannot be stored raises here, and is the definition's fault as any error in it."""
        if not transition.facts:
            return None
        state = fold(self._state, transition.facts)
        history.dump_data(state.data)
        line = RecordedTransition(
            len(self._lines) + 1,
            given.at,
            history.dump_input(given),
            history.dump_facts(transition.facts),
            history.dump_sends(transition.sends),
        )
        return _Moved(state, line)

    def _keep(self, item: Item, moved: _Moved) -> None:
        self._state = moved.state
        self._lines.append(moved.line)
        self._sent |= _commands([moved.line])
        self._origins.append(item.origin)
        self._hows.append(item.how)

    def _arrival(self, inject: Inject) -> EventArrived:
        identity = uuid5(self._recorded.id, f"fork/{len(self._lines)}/{inject.type}")
        event, cause = injected(inject, self._registry, self._saga, self._recorded, self._begun, self._state)
        return EventArrived(self._now, identity, event, inject.type.partition(".")[0], cause)

    # -- the end ---------------------------------------------------------------------------------------------

    def result(self) -> Fork:
        state = self._state or SagaState()
        for item, note in self._parked:
            self._unheard.append(Unheard(item.origin, words.of_input(item.given), f"parked: {note}"))
        forked = replace(
            self._recorded,
            version=self._saga.version,
            status=state.status.value,
            step=state.waits_for,
            reason=state.reason,
            data=history.dump_data(state.data),
            progress=history.dump_progress(state),
            updated_at=self._now,
            deadline=state.deadline,
            transitions=tuple(self._lines),
        )
        return Fork(
            self._at,
            self._recorded,
            forked,
            tuple(self._origins),
            tuple(self._hows),
            tuple(self._unheard),
            waits_for(self._saga, state),
        )


def _commands(lines: Sequence[RecordedTransition]) -> dict[UUID, str]:
    """The wire type of everything these transitions sent, by message id."""
    return {each.id: each.type for line in lines for each in history.load_sends(line.commands)}
