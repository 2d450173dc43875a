"""One instance played in memory: what the engine does with a saga, without its database, its broker and its clock.

The order of things is the engine's: an input is decided, its facts are folded, what nobody awaits yet is parked, and
after every transition what is parked is looked at again. Whatever the definition's own functions raise makes the
instance stuck. What would be stored is stored here too, as the same JSON, and read back before the next input.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic
from uuid import UUID, uuid5

from contracts.message import Event
from orchestrator import history
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.saga.definition import Saga
from orchestrator.saga.facts import Fact
from orchestrator.saga.inputs import DeadlinePassed, EventArrived, Input, PersonActed
from orchestrator.saga.machine import Transition, Verdict, decide, fold, stuck
from orchestrator.saga.state import SagaState, Send, saga_id
from orchestrator.saga.steps import D
from orchestrator.saga.story import story

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
"""What the virtual clock shows when a test begins, unless it says otherwise."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One input and what became of it, for the timeline."""

    number: int
    given: Input
    verdict: Verdict
    facts: tuple[Fact, ...]
    sends: tuple[Send, ...]
    note: str
    data: Any
    """The saga's data afterwards."""


@dataclass
class Playing(Generic[D]):
    """An instance, its virtual clock, its history and what is parked for it."""

    saga: Saga[D]
    key: str
    now: datetime = START
    state: SagaState | None = None
    moments: list[Moment] = field(default_factory=list)
    rows: list[RecordedTransition] = field(default_factory=list)
    parked: list[EventArrived] = field(default_factory=list)
    raised: Exception | None = None
    """What the definition's own functions raised last."""
    _arrivals: int = 0

    def __post_init__(self) -> None:
        self.id: UUID = saga_id(self.saga.name, self.key)

    # -- what can happen to it -------------------------------------------------------------------------------

    def event(self, event: Event, causation_id: UUID | None = None, message_id: UUID | None = None) -> Transition:
        """A message comes in now."""
        self._arrivals += 1
        identity = message_id or uuid5(self.id, f"event {self._arrivals}")
        source = event.wire_type.partition(".")[0]
        given = EventArrived(self.now, identity, event, source, causation_id)
        transition = self.take(given)
        # The same answer once more is the same message: it is parked once.
        if transition.verdict is Verdict.PARKED and identity not in {each.message_id for each in self.parked}:
            self.parked.append(given)
        return transition

    def take(self, given: Input) -> Transition:
        """Apply an input, and after a transition whatever has become due of what is parked."""
        transition = self._apply(given)
        if transition.verdict is Verdict.APPLIED:
            self._reconsider()
        return transition

    def migrate(self, saga: Saga[Any], given: PersonActed) -> Transition:
        """A person brings it to this definition, which decides whether it goes; then it is the instance's own."""
        before, self.saga = self.saga, saga
        transition = self.take(given)
        if transition.verdict is not Verdict.APPLIED:
            self.saga = before
        return transition

    def pass_time(self, duration: timedelta) -> None:
        """Let the clock go on; each deadline on the way is taken up at its own moment."""
        end = self.now + duration
        while self.state is not None and (deadline := self.state.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.take(DeadlinePassed(self.now))
        self.now = end

    def next_deadline(self) -> None:
        """Let the clock go on to the next deadline, if one is coming, and take it up."""
        deadline = None if self.state is None else self.state.deadline
        if deadline is not None:
            self.pass_time(max(deadline - self.now, timedelta(0)))

    # -- what the engine does with it ------------------------------------------------------------------------

    def _apply(self, given: Input, *, from_parking: bool = False) -> Transition:
        try:
            transition = decide(self.saga, self.id, self.state, given)
            self._keep(given, transition)
        except Exception as error:  # noqa: BLE001 - as in the engine: what a definition raises makes its instance stuck
            self.raised = error
            transition = stuck(self.state, given, story(error))
            self._keep(given, transition)
        if transition.facts or not from_parking or transition.verdict is not Verdict.PARKED:
            data = None if self.state is None else self.state.data
            number = len(self.moments) + 1
            self.moments.append(
                Moment(number, given, transition.verdict, transition.facts, transition.sends, transition.note, data)
            )
        return transition

    def _keep(self, given: Input, transition: Transition) -> None:
        if not transition.facts:
            return
        state = fold(self.state, transition.facts)
        row = RecordedTransition(
            seq=len(self.rows) + 1,
            at=self.now,
            input=history.dump_input(given),
            facts=history.dump_facts(transition.facts),
            commands=history.dump_sends(transition.sends),
        )
        # In the engine a saga's state is read back from its row before the next batch.
        self.state = history.load_state(
            self.saga,
            status=state.status.value,
            reason=state.reason,
            data=history.dump_data(state.data),
            progress=history.dump_progress(state),
        )
        self.rows.append(row)

    def _reconsider(self) -> None:
        moved = True
        while moved:
            moved = False
            for given in list(self.parked):
                transition = self._apply(replace(given, at=self.now), from_parking=True)
                if transition.verdict is not Verdict.PARKED:
                    self.parked.remove(given)
                    moved = True

    # -- what can be seen of it ------------------------------------------------------------------------------

    @property
    def recorded(self) -> Recorded:
        """The instance as the orchestrator's database would hold it. Raises LookupError before the first transition."""
        state = self.state
        if state is None or not self.rows:
            raise LookupError(f"{self.saga!r} has not started")
        return Recorded(
            id=self.id,
            name=self.saga.name,
            version=self.saga.version,
            key=self.key,
            status=state.status.value,
            step=state.waits_for,
            reason=state.reason,
            data=history.dump_data(state.data),
            progress=history.dump_progress(state),
            started_at=self.rows[0].at,
            updated_at=self.rows[-1].at,
            deadline=state.deadline,
            transitions=tuple(self.rows),
        )
