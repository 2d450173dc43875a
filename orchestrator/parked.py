"""Parked events: what came before anybody awaited it (early, reordered, for an instance not started).

Looked at after every transition of its instance, and again from time to time, in case the instance was being started by
another process just then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from contracts.registry import Registry
from messaging.bulk import Outcome, Writes
from messaging.database import Conflict
from messaging.dead_letters import DeadLetter, letter_id
from messaging.envelope import CONTENT_TYPE
from messaging.plans import exactly, plan
from messaging.received import Received, read_stored
from messaging.shapes import Select
from orchestrator.schema import parked_event

FIRST_LOOK = timedelta(seconds=2)
LONGEST_WAIT = timedelta(minutes=10)
_UNWRITTEN = 0
_LOOK = plan(Select, tuple(parked_event.c), parked_event.c.saga_id)
_LOOK_AGAIN = plan(Select, (parked_event.c.id,), parked_event.c.saga_id)


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """An event that waits for its instance to be ready for it."""

    id: int
    saga_id: UUID
    message_id: UUID
    name: str
    type: str
    queue: str
    body: str
    reason: str
    parked_at: datetime
    retry_at: datetime


_COLUMNS = ("saga_id", "message_id", "name", "type", "queue", "body", "reason", "parked_at", "retry_at")


def look(reads: Writes, ids: Sequence[UUID]) -> Outcome:
    """What is parked for these instances, once `reads` has run; `events` makes events of it.

    That is as of before a lock was waited for, if one was in the same round trip; see `unchanged`.
    """
    return reads.add(_LOOK, ids)


def events(found: Outcome) -> list[ParkedEvent]:
    """Events that were found, in the order they came."""
    return sorted((ParkedEvent(*row) for row in found.rows), key=lambda each: each.id)


def unchanged(writes: Writes, found: Outcome, ids: Sequence[UUID]) -> tuple[Callable[[], None], Outcome]:
    """Look once more, together with what is written, and say what is found.

    What is returned raises Conflict then, if others lie there now.

    Whoever parks or takes up an event of an instance holds the instance's row until its transaction ends. While we
    waited for that row, what we looked at has become old.
    """
    again = writes.add(_LOOK_AGAIN, ids)

    def check() -> None:
        if set(again.values) != {row.id for row in found.rows}:
            raise Conflict("another process has parked or taken up an event of this batch's instances")

    if not found.rows:
        again.guard = exactly(0)
    return check, again


def received(event: ParkedEvent, registry: Registry) -> Received:
    """The message as it came."""
    return read_stored(event.body, registry, queue=event.queue, attempts=0, first_at=event.parked_at)


def letter(event: ParkedEvent, service: str, now: datetime) -> DeadLetter:
    """What an event becomes that nobody has awaited for too long."""
    return DeadLetter(
        letter_id=letter_id(str(event.message_id), service),
        service=service,
        queue=event.queue,
        reason="expired",
        error=f"nobody awaited it since {event.parked_at.isoformat()}: {event.reason}",
        message_id=str(event.message_id),
        type=event.type,
        correlation_id=str(event.saga_id),
        exchange="",
        routing_key=event.type,
        properties=json.dumps({"content_type": CONTENT_TYPE}),
        body=event.body.encode(),
        attempts=0,
        at=now,
    )


class Changes:
    """What a batch parks, takes up and puts off again."""

    def __init__(self) -> None:
        self._added: list[ParkedEvent] = []
        self._removed: list[int] = []
        self._postponed: list[dict[str, Any]] = []

    def add(self, saga_id: UUID, name: str, message: Received, reason: str, now: datetime) -> ParkedEvent:
        """Park a message; returns it as it will be read back, but without a row number."""
        event = ParkedEvent(
            id=_UNWRITTEN,
            saga_id=saga_id,
            message_id=message.envelope.id,
            name=name,
            type=message.envelope.type,
            queue=message.queue,
            body=message.body,
            reason=reason[:500],
            parked_at=now,
            retry_at=now + FIRST_LOOK,
        )
        self._added.append(event)
        return event

    def remove(self, event: ParkedEvent) -> None:
        """It has been taken up, or given up."""
        if event.id == _UNWRITTEN:
            self._added.remove(event)
        else:
            self._removed.append(event.id)

    def postpone(self, event: ParkedEvent, now: datetime) -> None:
        """Look again after as long as it has been parked, at most ten minutes."""
        age = max(now - event.parked_at, FIRST_LOOK)
        self._postponed.append({"id": event.id, "retry_at": now + min(age, LONGEST_WAIT)})

    def write(self, writes: Writes) -> None:
        """Together with what else the batch writes."""
        if not (self._added or self._removed or self._postponed):
            return
        added = [{name: getattr(event, name) for name in _COLUMNS} for event in self._added]
        writes.insert(parked_event, _COLUMNS, added, ignore_conflicts=True)
        # What was put off and then taken up all the same is only taken up.
        removed = set(self._removed)
        postponed = [row for row in self._postponed if row["id"] not in removed]
        writes.update(parked_event, ("id",), ("retry_at",), postponed)
        writes.delete(parked_event.c.id, sorted(removed))
