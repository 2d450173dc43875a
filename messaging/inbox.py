"""The inbox: each message id is acted on once, and a repeated command gets the answer that was stored.

A row's status:
    done       acted on; the answer, if there was one, lies beside it
    deferred   put off, waiting in `deferred`
    started    being handled outside any transaction (a card gateway); waiting in `deferred` in case we die
    tombstone  its compensation came first: when it comes, it is dropped
    failed     it became a dead letter
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.value import value
from messaging import bulk
from messaging.bulk import Outcome, Writes
from messaging.database import Conflict
from messaging.plans import exactly, plan
from messaging.schema import inbox
from messaging.shapes import Insert, Select


class Status(StrEnum):
    """What has become of a message id."""

    DONE = "done"
    DEFERRED = "deferred"
    STARTED = "started"
    TOMBSTONE = "tombstone"
    FAILED = "failed"


@value
class Answer:
    """An answer as it was sent."""

    id: UUID
    type: str
    body: str


@value
class Entry:
    """What the inbox knows of a message id."""

    status: Status
    answer: Answer | None = None


_CLAIMED = ("message_id", "consumer", "status", "received_at")
_NUMBER = attrgetter("int")  # what UUIDs compare by, a tenth as dear as their own comparison
_SETTLED = ("status", "received_at", "answer_id", "answer_type", "answer_body")
_ENTERED = ("message_id", "consumer", *_SETTLED)
_DONE = Entry(Status.DONE)
_LOOK = plan(Select, (inbox.c.message_id, inbox.c.consumer), inbox.c.message_id)
_CLAIM = plan(Insert, inbox, _CLAIMED, False, None, _CLAIMED[1:])
_CLAIM_CAREFULLY = plan(Insert, inbox, _CLAIMED, True, "message_id", _CLAIMED[1:])
_ALIKE = ("consumer", "received_at", "status", "answer_type")
_ENTER_ONE = plan(Insert, inbox, _ENTERED, False, None, _ALIKE, False)
_ENTER_ONE_CAREFULLY = plan(Insert, inbox, _ENTERED, True, None, _ALIKE, True)


async def claim(
    connection: AsyncConnection,
    consumer: str,
    ids: Collection[UUID],
    now: datetime,
    status: Status = Status.DONE,
) -> set[UUID]:
    """Take the ids nobody has taken yet; the others wait for whoever is taking them now, and are not returned."""
    writes = Writes()
    claimed = claim_with(writes, consumer, ids, now, status)
    await writes.run(connection)
    return set(claimed.values)


def claim_with(
    writes: Writes,
    consumer: str,
    ids: Collection[UUID],
    now: datetime,
    status: Status = Status.DONE,
    *,
    careful: bool = True,
) -> Outcome:
    """The same together with what else is written; the outcome's `values` are the ids that were taken.

    Not `careful`, all of them are, or `writes` raises a unique violation; the outcome then says nothing.
    """
    # In one order everywhere, so that two workers with the same ids wait instead of deadlocking.
    records = [(identity, consumer, status, now) for identity in sorted(ids, key=_NUMBER)]
    return writes.add(_CLAIM_CAREFULLY if careful else _CLAIM, records)


def look(writes: Writes, ids: Collection[UUID]) -> Outcome:
    """Which of these ids anybody has an entry of, once `writes` has run: `known` then says which are a consumer's."""
    return writes.add(_LOOK, sorted(ids, key=_NUMBER))


def known(found: Outcome, consumer: str) -> set[UUID]:
    """The ids that this consumer has an entry of already."""
    return {row.message_id for row in found.rows if row.consumer == consumer}


async def entries(
    connection: AsyncConnection, consumer: str, ids: Collection[UUID], *, lock: bool = False
) -> dict[UUID, Entry]:
    """What is known of these ids; `lock` keeps others from changing it until the transaction ends."""
    columns = (
        inbox.c.message_id,
        inbox.c.consumer,
        inbox.c.status,
        inbox.c.answer_id,
        inbox.c.answer_type,
        inbox.c.answer_body,
    )
    suffix = "ORDER BY message_id FOR UPDATE" if lock else ""
    rows = await bulk.select(connection, columns, inbox.c.message_id, sorted(ids), suffix)
    return {
        row.message_id: Entry(
            Status(row.status),
            Answer(row.answer_id, row.answer_type, row.answer_body) if row.answer_id else None,
        )
        for row in rows
        if row.consumer == consumer
    }


async def touch(connection: AsyncConnection, consumer: str, ids: Collection[UUID], now: datetime) -> None:
    """Make the entries of these ids as young as their messages, which have come again and may go on coming.

    Pruning goes by that age: of a command that a saga repeats for weeks the answer must not be forgotten meanwhile.
    """
    records = [{"message_id": identity, "consumer": consumer, "received_at": now} for identity in sorted(ids)]
    await bulk.update(connection, inbox, ("message_id", "consumer"), ("received_at",), records)


def enter(
    writes: Writes,
    consumer: str,
    ids: Collection[UUID],
    outcomes: Mapping[UUID, Entry],
    now: datetime,
    *,
    careful: bool = True,
) -> tuple[Callable[[], None], Outcome]:
    """Claim ids together with what has become of them, and say how many: a row is written once.

    What is returned raises Conflict, once `writes` has run, where somebody else has claimed one of them meanwhile. Not
    `careful`, it is `writes` that raises, a unique violation.
    """
    # In one order everywhere, as they are claimed.
    records = [_record(each, consumer, outcomes.get(each, _DONE), now) for each in sorted(ids, key=_NUMBER)]
    if len(records) == 1:
        entered = writes.add(_ENTER_ONE_CAREFULLY if careful else _ENTER_ONE, records)
    else:
        same = bulk.alike(records, ("status",), ("answer_type",), order=_ENTERED)
        alike = ("consumer", "received_at", *same)
        entered = writes.insert(inbox, _ENTERED, records, ignore_conflicts=careful, alike=alike, counted=careful)

    def check() -> None:
        if entered.count != len(records):
            raise Conflict("another process has claimed a command of this batch")

    entered.guard = exactly(len(records)) if careful else None
    return check, entered


def settle(writes: Writes, consumer: str, outcomes: Mapping[UUID, Entry], now: datetime) -> None:
    """Have written what has become of ids that were claimed before; their age counts from now on."""
    records = [_record(identity, consumer, entry, now) for identity, entry in outcomes.items()]
    same = ("consumer", "received_at", *bulk.alike(records, ("status",), order=_ENTERED))
    writes.update(inbox, ("message_id", "consumer"), _SETTLED, records, alike=same)


def _record(identity: UUID, consumer: str, entry: Entry, now: datetime) -> tuple[Any, ...]:
    """In the order of _ENTERED."""
    answer = entry.answer
    if answer is None:
        return (identity, consumer, entry.status, now, None, None, None)
    return (identity, consumer, entry.status, now, answer.id, answer.type, answer.body)
