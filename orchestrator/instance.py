"""An instance while a batch is folded over it, and the row it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.value import value
from messaging.envelope import Envelope, known_as, text_of
from messaging.outbox_rows import OutboxRow, outgoing
from messaging.telemetry.traceparent import same_trace
from orchestrator import history, timers
from orchestrator.parked import ParkedEvent
from orchestrator.saga.attributes import attributes
from orchestrator.saga.definition import Saga
from orchestrator.saga.facts import DataChanged, Fact, Migrated, Started
from orchestrator.saga.inputs import EventArrived, Input
from orchestrator.saga.state import SagaState, Send, Status
from orchestrator.saga.transition import Transition
from orchestrator.texts import Said, Texts

SOURCE = "orchestrator"
_ENDED = frozenset(status.value for status in Status if status.terminal)


@dataclass(slots=True)
class Instance:
    """One instance while a batch is folded over it."""

    id: UUID
    name: str
    saga: Saga[Any] | None
    key: str
    state: SagaState | None = None
    revision: int = 0
    loaded_revision: int = 0
    started_at: datetime | None = None
    moved_at: datetime | None = None
    """Of its last transition."""
    traceparent: str | None = None
    """Where its trace began: of its row."""
    place: str | None = None
    """Where in its trace the input is that it is moved by: what it sends now belongs there."""
    version: int = 0
    """Of its row; says which definition is missing where `saga` is None."""
    status: str = ""
    """Of its row, as it was loaded: known also where `state` is not."""
    unreadable: str = ""
    """Why its row cannot be used, where that is so: words for what is parked."""
    unreadable_because: str = ""
    """What is wrong with it then."""
    parked: list[ParkedEvent] = field(default_factory=list)
    attributes: Mapping[str, str] | None = None
    """What it can be found by, where this batch has changed it."""
    written: str = ""
    """The JSON of its state's data, where that has been written already."""
    text: str = field(default="", compare=False)
    """Its id, as it stands in every message, where that has been written already."""
    borrowed: bool = False
    """Whether `traceparent` is only its first input's in this batch: its row, which was there, says none."""

    def arrive(self, place: str | None) -> None:
        """It is moved by an input from this place of a trace: one of another trace does not take it over there."""
        if place is None and self.traceparent is None:
            return
        if self.traceparent is None:
            self.traceparent, self.borrowed = place, self.loaded_revision > 0
        self.place = place if same_trace(place, self.traceparent) else self.traceparent

    def become(self, moved: Moved, at: datetime) -> None:
        """It is moved by this transition at this moment."""
        self.state, self.written = moved.state, moved.written
        self.attributes = self.attributes if moved.attributes is None else moved.attributes
        self.revision += 1
        self.started_at = self.started_at or at
        self.moved_at = at

    def rest(self, texts: Texts) -> None:
        """It is written, with these texts: from now on it is as it will be when its row is read the next time."""
        if self.borrowed:
            self.traceparent, self.borrowed = None, False
        self.loaded_revision, self.status, self.place = self.revision, texts.status, self.traceparent
        self.version = self.version if self.saga is None else self.saga.version
        self.parked, self.attributes = [], None

    def as_read(self) -> Instance:
        """Another one, to be changed instead of this one, which is as its row was read and nothing is parked for."""
        # In the order of its fields: a quarter of what `dataclasses.replace` takes.
        copy = Instance(
            self.id,
            self.name,
            self.saga,
            self.key,
            self.state,
            self.revision,
            self.loaded_revision,
            self.started_at,
            self.moved_at,
            self.traceparent,
            self.place,
            self.version,
            self.status,
        )
        copy.written, copy.text = self.written, self.text
        return copy

    @property
    def ended(self) -> bool:
        """Whether it awaits nothing any more; needs no definition."""
        return self.state.status.terminal if self.state is not None else self.status in _ENDED


@value
class Moved:
    """A transition as it will be stored and sent."""

    state: SagaState
    written: str
    row: tuple[Any, ...]
    """Of its history, in the order of HISTORY."""
    sends: list[OutboxRow]
    attributes: Mapping[str, str] | None


def moved_by(
    instance: Instance, given: Input, transition: Transition, state: SagaState | None, now: datetime
) -> Moved | None:
    """The transition in the form it is stored and sent; raises where the definition's own values cannot be."""
    if not transition.facts or state is None:
        return None
    said = [history.said(send) for send in transition.sends]
    row = (
        instance.id,
        instance.revision + 1,
        given.at,
        history.dump_input(given),
        history.dump_facts(transition.facts),
        history.dump_sends(transition.sends, said),
    )
    written = written_by(transition.facts, instance.written) or history.dump_data(state.data)
    sends: list[OutboxRow] = []
    if said:
        cause = given.id_text or text_of(given.message_id) if isinstance(given, EventArrived) else None
        identity = instance.text = instance.text or text_of(instance.id)
        sends = [
            outgoing_of(identity, send, now, cause=cause, said=each, traceparent=instance.place)
            for send, each in zip(transition.sends, said, strict=True)
        ]
    return Moved(state, written, row, sends, changed_attributes(instance, state))


def written_by(facts: Sequence[Fact], before: str) -> str:
    """The JSON of the data after these facts, `before` of the data before them; empty where nobody has written it."""
    for fact in facts:
        if isinstance(fact, (DataChanged, Started)):
            before = fact.text
        elif isinstance(fact, Migrated):
            before = ""
    return before


def changed_attributes(instance: Instance, after: SagaState) -> Mapping[str, str] | None:
    """What the instance can be found by after a transition; None where that is what it was before."""
    saga, before = instance.saga, instance.state.data if instance.state is not None else None
    if saga is None:
        return None
    if instance.loaded_revision and instance.version != saga.version:
        # Migrated: what another version declares may be indexed by other names.
        return attributes(saga.search, after.data)
    if not saga.search or after.data is before:
        return None
    found = attributes(saga.search, after.data)
    return None if found == attributes(saga.search, before) else found


def worth_waiting(instance: Instance, event: ParkedEvent) -> bool:
    """Whether a parked event may yet be awaited, however long that takes."""
    if instance.ended:
        return False  # whoever ended it, also where nobody has its definition any more
    state, saga = instance.state, instance.saga
    if instance.loaded_revision and (state is None or saga is None):
        return True  # its row or its definition cannot be read here and now
    if state is None or saga is None:
        return False
    # What waits for a person waits as long as the person takes; an early approval, as long as the way to it.
    ahead = (wait for wait in saga.waits if wait.event.wire_type == event.type and wait.name not in state.steps)
    return state.status is Status.STUCK or any(ahead)


HISTORY = ("saga_id", "seq", "at", "input", "facts", "commands")
COLUMNS = (
    "id",
    "name",
    "version",
    "key",
    "status",
    "step",
    "reason",
    "data",
    "progress",
    "revision",
    "deadline",
    "started_at",
    "updated_at",
    "traceparent",
)


@value
class KeptInstance:
    """An instance as it will be kept: its row in `saga`, or what changes in that, and what these say of its state."""

    row: tuple[Any, ...]
    texts: Texts
    deadline: datetime | None


def kept(instance: Instance) -> KeptInstance:
    """The instance that was loaded as `timers.update_instances` takes it, a new one as its row in the order of COLUMNS.

    Raises LookupError for one that has not moved yet.
    """
    state, saga, at = instance.state, instance.saga, instance.moved_at
    if state is None or saga is None or at is None:
        raise LookupError(f"instance {instance.id} has no state to write")
    data = instance.written or history.dump_data(state.data)
    texts = Texts(state.status.word, state.reason, data, history.dump_progress(state))
    deadline, before = state.deadline, instance.loaded_revision
    if before:
        row = timers.change(instance.id, before, instance.revision, saga.version, texts, state.waits_for, deadline, at)
    else:
        row = (
            instance.id,
            saga.name,
            saga.version,
            instance.key,
            texts.status,
            state.waits_for,
            texts.reason,
            texts.data,
            texts.progress,
            instance.revision,
            deadline,
            instance.started_at or at,
            at,
            instance.traceparent,
        )
    return KeptInstance(row, texts, deadline)


def outgoing_of(
    identity: str, send: Send, now: datetime, *, cause: str | None, said: Said, traceparent: str | None = None
) -> OutboxRow:
    """A message that an instance sends, as its row in the outbox; raises MessageTooLarge.

    `said` is what `history.said` gives for it.
    """
    message = send.message
    # In the order of its fields: there are as many as messages, and by their names they would take twice as much.
    envelope = Envelope(
        send.id,
        message.wire_type,
        message.wire_version,
        SOURCE,
        now,
        identity,
        cause,
        identity,
        send.compensates,
        traceparent,
    )
    return outgoing(message, known_as(envelope, said.id), said.data)
