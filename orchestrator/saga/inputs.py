"""What can happen to a saga instance: four kinds of input, each with the moment it was taken up.

History keeps every input, so that a history alone says all that a replay needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from contracts.message import Event
from contracts.value import value


@value
class EventArrived:
    """A message: the start, an answer, an awaited event, a cancellation."""

    at: datetime
    message_id: UUID
    event: Event
    source: str
    causation_id: UUID | None = None
    id_text: str = field(default="", init=False, compare=False, repr=False)
    """The message's id as text, where somebody knows that; never in what `replace` makes."""


_set_text: Callable[[EventArrived, str], None] = vars(EventArrived)["id_text"].__set__


def known_as(given: EventArrived, text: str) -> EventArrived:
    """The same input, which now knows that `text` is its message's id."""
    _set_text(given, text)
    return given


@value
class DeadlinePassed:
    """The instance's deadline has come and nothing else has."""

    at: datetime


class Action(StrEnum):
    """What a person can do to an instance (rule 12)."""

    RETRY = "retry"
    SKIP = "skip"
    COMPENSATE = "compensate"
    RESOLVE = "resolve"
    CANCEL = "cancel"
    ABANDON = "abandon"
    RESCHEDULE = "reschedule"
    MIGRATE = "migrate"


@value
class PersonActed:
    """A person has decided; who and why are part of the history.

    retry: send what is awaited again · skip: take `answer` as the step's answer · resolve: the step (or its
    compensation) was done by hand, `why` is the evidence · compensate: go back, with the data as it is · cancel: go
    back as the saga's own `cancel_on` would, with `answer` as its event · abandon: end here, as it is · reschedule:
    the step is looked at when `due`, or never by itself (None) · migrate: go on as another version of the saga.
    """

    at: datetime
    action: Action
    who: str
    why: str
    step: str | None = None
    answer: Event | None = None
    due: datetime | None = None
    from_version: int | None = None
    to_version: int | None = None


@value
class ReadFailed:
    """What the instance was could not be read when something came for it; `why` says what was wrong."""

    at: datetime
    why: str


Input = EventArrived | DeadlinePassed | PersonActed | ReadFailed
