"""Replaying one instance: its recorded inputs folded through the definition of this checkout, and compared.

No database, no clock, no logging, and nothing is sent: what a history holds and what the definition does with it are
all there is. Almost every transition gives the very texts that were recorded, and then nothing is parsed or explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from contracts.registry import InvalidMessage, UnknownMessage
from messaging.envelope import MessageTooLarge
from orchestrator import history
from orchestrator.catalog import Catalog
from orchestrator.instance import outgoing_of
from orchestrator.replay import explaining, integrity
from orchestrator.replay.difference import Difference, Kind, Replayed
from orchestrator.replay.outcome import Failed, Outcome, Passage
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import EventArrived, Input
from orchestrator.saga.machine import move
from orchestrator.saga.state import SagaState

__all__ = ["Difference", "Kind", "Replayed", "replay"]


def replay(recorded: Recorded, catalog: Catalog) -> Replayed:
    """Fold a history through the definition that `catalog` has for it, up to the first difference.

    Raises nothing: a definition that is not loaded, an input that cannot be read and whatever the definition's own
    functions raise are differences.
    """
    sagas: dict[int, Saga[Any]] = {}
    versions = recorded.versions()
    for version in dict.fromkeys((*versions, recorded.version)):
        saga = catalog.get(recorded.name, version)
        if saga is None:
            return _replayed(recorded, 0, explaining.not_loaded(replace(recorded, version=version), catalog))
        sagas[version] = saga
    folding = _Folding(recorded, [sagas[each] for each in versions], sagas[recorded.version], catalog)
    difference = folding.run()
    if difference is not None and difference.kind is not Kind.HISTORY:
        # Code that differs explains nothing where the recording contradicts itself.
        difference = integrity.broken(recorded) or difference
    return _replayed(recorded, folding.folded, difference)


def _replayed(recorded: Recorded, folded: int, difference: Difference | None) -> Replayed:
    return Replayed(recorded.id, recorded.name, recorded.version, recorded.key, folded, difference)


class _Folding:
    """One instance on its way through its history; `folded` counts the transitions that were the same."""

    def __init__(self, recorded: Recorded, sagas: Sequence[Saga[Any]], last: Saga[Any], catalog: Catalog) -> None:
        self._recorded = recorded
        self._sagas = sagas
        """What decides each transition: another version from that on by which a person migrated the instance."""
        self._saga = last
        self._registry = catalog.registry
        self._state: SagaState | None = None
        self.folded = 0

    def run(self) -> Difference | None:
        for line, saga in zip(self._recorded.transitions, self._sagas, strict=True):
            self._saga = saga
            if line.seq != self.folded + 1:
                return integrity.gap(self.folded, line.seq)
            difference = self._take(line)
            if difference is not None:
                return difference
            self.folded += 1
        return integrity.row(self._recorded, self._saga, self._state)

    def _take(self, line: RecordedTransition) -> Difference | None:
        try:
            given = history.load_input(line.input, self._registry)
        except history.CorruptHistory as error:
            return integrity.unreadable(line.seq, error)
        except (UnknownMessage, InvalidMessage) as error:
            return explaining.cannot_be_read(line, error)
        outcome: Outcome | Failed
        try:
            transition, state = move(self._saga, self._recorded.id, self._state, given)
            facts, commands = history.dump_facts(transition.facts), history.dump_sends(transition.sends)
        except Exception as error:  # noqa: BLE001 - what a definition raises makes that one instance stuck
            outcome = Failed(error)
        else:
            if facts == line.facts and commands == line.commands:
                self._state = state
                return self._other_key(line, given) if line.seq == 1 else None
            outcome = Outcome(transition, facts, commands)
        return self._weigh(line, given, outcome)

    def _weigh(self, line: RecordedTransition, given: Input, outcome: Outcome | Failed) -> Difference | None:
        passage = Passage(self._recorded, self._saga, self._registry, self._state, line, given)
        weighed = explaining.weigh(passage, self._storable(given, outcome))
        if isinstance(weighed, Difference):
            return weighed
        self._state = weighed
        return self._other_key(line, given)

    def _storable(self, given: Input, outcome: Outcome | Failed) -> Outcome | Failed:
        """What the engine would have found only when it wrote: a message too large to be sent."""
        if isinstance(outcome, Outcome):
            cause = str(given.message_id) if isinstance(given, EventArrived) else None
            try:
                for send in outcome.transition.sends:
                    outgoing_of(str(self._recorded.id), send, given.at, cause=cause, said=history.said(send))
            except MessageTooLarge as error:
                return Failed(error)
        return outcome

    def _other_key(self, line: RecordedTransition, given: Input) -> Difference | None:
        if line.seq > 1 or not isinstance(given, EventArrived):
            return None
        return explaining.other_key(self._recorded, self._saga, line, given.event)
