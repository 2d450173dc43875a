"""Retry later, in the database: a message that cannot be handled now waits in a row with a due time.

Never requeued: a requeued message circles as fast as the broker can turn, loses its place, and shows nobody why.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk
from messaging.received import Received
from messaging.schema import deferred
from messaging.strict_json import storable

FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(minutes=5)
LONGEST_ERROR = 4_000
ATTEMPTS = 12
"""How often a message is tried that fails for what should pass: for some twenty minutes, at the pace of `backoff`."""


@dataclass(frozen=True, slots=True)
class DeferredRow:
    """A message that waits."""

    message_id: UUID
    queue: str
    type: str
    correlation_id: str | None
    body: str
    first_at: datetime
    due_at: datetime
    attempts: int
    last_error: str


@dataclass(frozen=True, slots=True)
class Due:
    """A row whose time has come."""

    message_id: UUID
    queue: str
    body: str
    first_at: datetime
    attempts: int


_COLUMNS = (
    "consumer",
    "message_id",
    "queue",
    "type",
    "correlation_id",
    "body",
    "first_at",
    "due_at",
    "attempts",
    "last_error",
)


def backoff(attempts: int, jitter: float) -> timedelta:
    """How long to wait after so many tries: doubling from a second to five minutes, spread by up to a fifth."""
    wait = min(FIRST_WAIT * float(2 ** min(max(attempts - 1, 0), 16)), LONGEST_WAIT)
    return wait * (1 + jitter / 5)


def row_of(received: Received, now: datetime, wait: timedelta, attempts: int, error: str) -> DeferredRow:
    """The row with which a message waits so long, after so many tries."""
    envelope = received.envelope
    return DeferredRow(
        message_id=envelope.id,
        queue=received.queue,
        type=envelope.type,
        correlation_id=envelope.correlation_id,
        body=received.body,
        first_at=received.first_at or now,
        due_at=now + wait,
        attempts=attempts,
        last_error=error,
    )


def exhausted(attempts: int, first_at: datetime, error: str) -> str:
    """What is told of a message that is not tried any more."""
    often = "once" if attempts == 1 else f"{attempts} times"
    return f"tried {often} since {first_at.isoformat()}; the last time: {error}"


async def put_off(connection: AsyncConnection, consumer: str, rows: Sequence[DeferredRow]) -> None:
    """Add rows; a message that waits already is moved to the new time."""
    if not rows:
        return
    ids = [row.message_id for row in rows]
    await take(connection, consumer, ids)
    records = [
        {"consumer": consumer}
        | {name: getattr(row, name) for name in _COLUMNS[1:]}
        | {"last_error": storable(row.last_error)[:LONGEST_ERROR]}
        for row in rows
    ]
    await bulk.insert(connection, deferred, _COLUMNS, records)


async def due(
    connection: AsyncConnection, consumer: str, now: datetime, limit: int
) -> tuple[list[Due], datetime | None]:
    """The rows that have come due, oldest first, and when the next one will."""
    rows = (await connection.execute(_DUE, {"of": consumer, "most": limit})).all()
    ready = [Due(row.message_id, row.queue, row.body, row.first_at, row.attempts) for row in rows if row.due_at <= now]
    return ready, next((row.due_at for row in rows if row.due_at > now), None)


async def postpone(connection: AsyncConnection, consumer: str, rows: Mapping[Due, str], due_at: datetime) -> None:
    """Look at these again then, for the reasons given."""
    records = [
        {
            "consumer": consumer,
            "message_id": row.message_id,
            "due_at": due_at,
            "last_error": storable(why)[:LONGEST_ERROR],
        }
        for row, why in rows.items()
    ]
    await bulk.update(connection, deferred, ("message_id", "consumer"), ("due_at", "last_error"), records)


async def hasten(connection: AsyncConnection, consumer: str, ids: Collection[UUID], now: datetime) -> None:
    """Let messages that wait, if they still do, come due now."""
    records = [{"consumer": consumer, "message_id": each, "due_at": now} for each in ids]
    await bulk.update(connection, deferred, ("message_id", "consumer"), ("due_at",), records)


async def take(connection: AsyncConnection, consumer: str, ids: Collection[UUID]) -> set[UUID]:
    """Claim messages that wait, by deleting them in the caller's transaction; returns those that still waited."""
    if len(ids) == 0:
        return set()
    rows = await connection.execute(
        _TAKE[connection.dialect.name],
        {
            "values": bulk.pack(connection.dialect, deferred.c.message_id, sorted(ids)),
            "consumer": consumer,
        },
    )
    return set(rows.scalars())


# Made once: every worker asks twice a second.
_DUE = (
    select(
        deferred.c.message_id,
        deferred.c.queue,
        deferred.c.body,
        deferred.c.first_at,
        deferred.c.attempts,
        deferred.c.due_at,
    )
    .where(deferred.c.consumer == bindparam("of"))
    .order_by(deferred.c.due_at, deferred.c.id)
    .limit(bindparam("most"))
)

_TAKE = {
    dialect: text(
        f"DELETE FROM deferred WHERE {bulk.among(dialect, deferred.c.message_id)} "  # noqa: S608 - no values in it
        "AND consumer = :consumer RETURNING message_id"
    ).columns(deferred.c.message_id)
    for dialect in ("postgresql", "sqlite")
}
