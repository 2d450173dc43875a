"""What can be found out about an instance, as values. Lengths of time are in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from orchestrator.saga.inputs import Action
from orchestrator.saga.state import Direction


@dataclass(frozen=True, slots=True)
class Usual:
    """How long the same step has taken in other instances, from its first command (or its begin) to its answer."""

    p50: float
    p99: float
    sample: int


class Awaits(StrEnum):
    """What ends the waiting, if it ends well."""

    ANSWER = "answer"
    EVENT = "event"
    TIME = "time"


class Then(StrEnum):
    """What happens at the deadline if nothing comes before."""

    SENT_AGAIN = "sent_again"
    SENT_FOR_EVER = "sent_for_ever"
    IN_DOUBT = "in_doubt"
    """And the saga goes back."""
    STUCK = "stuck"
    GOES_BACK = "goes_back"
    GOES_ON = "goes_on"


@dataclass(frozen=True, slots=True)
class Awaited:
    """One step that an instance waits for.

    `types` are the events that would end it. `attempts` is None where there is no bound; it and `then` are None too
    where the definition is not loaded. `due` is None where only an event or a person moves it on.
    """

    step: str
    awaits: Awaits
    direction: Direction
    since: datetime
    round: int = 1
    attempt: int = 0
    attempts: int | None = None
    due: datetime | None = None
    then: Then | None = None
    command: str | None = None
    command_id: UUID | None = None
    last_sent: datetime | None = None
    types: tuple[str, ...] = ()
    usual: Usual | None = None

    @property
    def participant(self) -> str | None:
        """The service that answers, by the first word of the command's type."""
        return self.command.partition(".")[0] if self.command else None


# -- causes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DefinitionMissing:
    """Its definition is in no module that AMENDS_SAGAS names here; where the orchestrator lacks it too, it stands."""

    name: str
    version: int


@dataclass(frozen=True, slots=True)
class RowUnreadable:
    """Its row cannot be read by the definition that is loaded here, and what is wrong with it."""

    name: str
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class NobodyActs:
    """Its deadline has passed and no orchestrator has acted on it."""

    deadline: datetime
    late: float


@dataclass(frozen=True, slots=True)
class Ahead:
    """An older row of the same key, which must leave the outbox first."""

    id: int
    type: str
    created_at: datetime
    attempts: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class StillInOutbox:
    """A message of this saga has not left the outbox; `ahead` are the rows it stands behind, oldest first."""

    id: int
    type: str
    message_id: UUID
    created_at: datetime
    age: float
    attempts: int
    last_error: str | None
    ahead: tuple[Ahead, ...]

    @property
    def held_up(self) -> bool:
        """False while it has only just been written."""
        return self.attempts > 0 or bool(self.ahead) or self.age > JUST_WRITTEN


JUST_WRITTEN = 15.0
"""Seconds in which a row normally leaves: the grace of whoever wrote it, and a sweep."""


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """A message of this saga became a dead letter; `is_command` where it is a command the saga waits for.

    `sent_again_at` and `sent_again_by` are None where nobody has sent it again since.
    """

    id: UUID
    service: str
    type: str | None
    message_id: str | None
    reason: str
    error: str
    at: datetime
    is_command: bool
    sent_again_at: datetime | None = None
    sent_again_by: str | None = None


@dataclass(frozen=True, slots=True)
class ParkedHere:
    """An event came for this instance, and the instance was not ready for it."""

    type: str
    message_id: UUID
    reason: str
    at: datetime


class Place(StrEnum):
    """Where an event lies that never reached its saga."""

    PARKED = "parked"
    DEAD_LETTER = "dead_letter"


class Almost(StrEnum):
    """How two keys differ that were meant to be one."""

    SAME = "same"
    CASE = "case"
    WHITESPACE = "whitespace"
    DASHES = "dashes"
    WRITING = "case, whitespace and dashes"
    PREFIX = "prefix"
    ONE_CHARACTER = "one character"
    TWO_CHARACTERS = "two characters"


@dataclass(frozen=True, slots=True)
class NearMiss:
    """An event of an awaited type that reached no saga, and whose key (or correlation id) is almost this one's."""

    place: Place
    id: int | UUID
    """Of the row of what is parked; of the dead letter itself."""
    type: str
    message_id: str | None
    at: datetime
    reason: str
    what: str
    """`key` or `correlation id`."""
    wanted: str
    found: str
    almost: Almost


@dataclass(frozen=True, slots=True)
class NoQueue:
    """The broker has no queue of this name."""

    queue: str


@dataclass(frozen=True, slots=True)
class NobodyReads:
    """The queue is there and has no consumer; `ready` messages wait in it."""

    queue: str
    ready: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """The queue has consumers, and messages that wait for them."""

    queue: str
    ready: int
    consumers: int


Cause = (
    DefinitionMissing
    | RowUnreadable
    | NobodyActs
    | StillInOutbox
    | DeadLettered
    | ParkedHere
    | NearMiss
    | NoQueue
    | NobodyReads
    | Backlog
)


# -- stuck and ended -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Raised:
    """What an exception in a saga's own code says: `where` is the last line of that code in the traceback."""

    error: str
    file: str | None = None
    line: int | None = None
    function: str | None = None


class StuckBy(StrEnum):
    """Why a person must decide."""

    EXCEPTION = "exception"
    NO_ANSWER = "no_answer"
    CONTRACT = "contract"
    UNREADABLE = "unreadable"
    """Its row could not be read when something came for it."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """Why, since when, and what was tried then; `given` is the input that did it, in a word."""

    by: StuckBy
    since: datetime
    given: str
    reason: str
    steps: tuple[str, ...]
    raised: Raised | None = None


@dataclass(frozen=True, slots=True)
class Repair:
    """What a person could do now; `needs` is the type of an answer that must be supplied."""

    action: Action
    step: str | None = None
    needs: str | None = None


@dataclass(frozen=True, slots=True)
class Late:
    """Something that came after the end, or when it was no longer waited for."""

    given: str
    at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One instance: where it is, since when, and what speaks for why; the most likely cause first.

    `ended_at` is None while it has not ended; what comes late moves `updated_at`, not the end. `broker` is
    empty where the broker was asked, and else says why it was not.
    """

    id: UUID
    name: str
    version: int
    key: str
    status: str
    reason: str
    now: datetime
    started_at: datetime
    updated_at: datetime
    awaited: tuple[Awaited, ...]
    causes: tuple[Cause, ...]
    stuck: Stuck | None
    ended_at: datetime | None
    late: tuple[Late, ...]
    repairs: tuple[Repair, ...]
    broker: str = ""
