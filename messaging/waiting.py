"""What waits in a service's database, for people: outbox rows that have not left, messages that were put off.

Every service has both tables, so both can be asked of any service's database. Reads only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import Column, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.schema import deferred, inbox, outbox

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OutboxDepth:
    """How much is waiting, for metrics and readiness: rows, and the age of the oldest in seconds."""

    rows: int
    oldest: float


@dataclass(frozen=True, slots=True)
class Ahead:
    """The oldest row of the same key that is still pending: nothing of that key leaves before it."""

    id: int
    type: str
    attempts: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class OutboxWaiting:
    """A message that has to leave. `age` in seconds; `stands_behind` is what it waits for in its own outbox."""

    id: int
    type: str
    key: str | None
    message_id: UUID
    correlation_id: str | None
    exchange: str
    created_at: datetime
    age: float
    attempts: int
    available_at: datetime
    last_error: str | None
    stands_behind: Ahead | None


@dataclass(frozen=True, slots=True)
class DeferredWaiting:
    """A message that is tried again later. `age` in seconds; `started` says that its call outside is under way."""

    id: int
    type: str
    consumer: str
    message_id: UUID
    correlation_id: str | None
    queue: str
    first_at: datetime
    age: float
    attempts: int
    due_at: datetime
    last_error: str
    started: bool


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows are wanted: of this type, older than that, at most so many. The oldest come first."""

    type: str | None = None
    older_than: timedelta | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Waiting(Generic[T]):
    """The rows asked for, and how many there are that fit."""

    rows: tuple[T, ...]
    total: int


async def rows_waiting(
    connection: AsyncConnection,
    query: Select[Any],
    told: Callable[[Any, datetime], T],
    now: datetime,
    wanted: Filter,
    *,
    type_of: Column[Any],
    since: Column[Any],
) -> Waiting[T]:
    """The rows of a query, in its order, that are wanted, each as `told` tells it at this moment.

    These columns say of which type a row is and since when it waits; both are its table's, which is counted.
    """
    conditions = []
    if wanted.type is not None:
        conditions.append(type_of == wanted.type)
    if wanted.older_than is not None:
        conditions.append(since <= now - wanted.older_than)
    rows = (await connection.execute(query.where(*conditions).limit(wanted.limit))).all()
    counting = select(func.count()).select_from(type_of.table).where(*conditions)
    return Waiting(tuple(told(row, now) for row in rows), int((await connection.execute(counting)).scalar_one()))


async def outbox_waiting(connection: AsyncConnection, now: datetime, wanted: Filter) -> Waiting[OutboxWaiting]:
    """Messages that have not left, oldest first."""
    ahead, first = outbox.alias(), outbox.alias()
    oldest = select(func.min(ahead.c.id)).where(ahead.c.key == outbox.c.key, ahead.c.id < outbox.c.id).scalar_subquery()
    query = (
        select(
            *outbox.c,
            first.c.id.label("first_id"),
            first.c.type.label("first_type"),
            first.c.attempts.label("first_attempts"),
            first.c.last_error.label("first_error"),
        )
        .select_from(outbox.outerjoin(first, first.c.id == oldest))
        .order_by(outbox.c.id)
    )
    columns = outbox.c
    return await rows_waiting(connection, query, _outbox, now, wanted, type_of=columns.type, since=columns.created_at)


async def deferred_waiting(connection: AsyncConnection, now: datetime, wanted: Filter) -> Waiting[DeferredWaiting]:
    """Messages that were put off, oldest first."""
    known = (inbox.c.message_id == deferred.c.message_id) & (inbox.c.consumer == deferred.c.consumer)
    query = (
        select(*deferred.c, inbox.c.status)
        .select_from(deferred.outerjoin(inbox, known))
        .order_by(deferred.c.first_at, deferred.c.id)
    )
    columns = deferred.c
    return await rows_waiting(connection, query, _deferred, now, wanted, type_of=columns.type, since=columns.first_at)


def _outbox(row: Any, now: datetime) -> OutboxWaiting:
    ahead = None
    if row.first_id is not None:
        ahead = Ahead(row.first_id, row.first_type, row.first_attempts, row.first_error)
    return OutboxWaiting(
        id=row.id,
        type=row.type,
        key=row.key,
        message_id=row.message_id,
        correlation_id=row.correlation_id,
        exchange=row.exchange,
        created_at=row.created_at,
        age=(now - row.created_at).total_seconds(),
        attempts=row.attempts,
        available_at=row.available_at,
        last_error=row.last_error,
        stands_behind=ahead,
    )


def _deferred(row: Any, now: datetime) -> DeferredWaiting:
    return DeferredWaiting(
        id=row.id,
        type=row.type,
        consumer=row.consumer,
        message_id=row.message_id,
        correlation_id=row.correlation_id,
        queue=row.queue,
        first_at=row.first_at,
        age=(now - row.first_at).total_seconds(),
        attempts=row.attempts,
        due_at=row.due_at,
        last_error=row.last_error,
        started=row.status == "started",
    )


async def outbox_depth(connection: AsyncConnection, now: datetime) -> OutboxDepth:
    """How many rows wait and how old the oldest is."""
    query = select(func.count().label("rows"), func.min(outbox.c.created_at).label("oldest")).select_from(outbox)
    row = (await connection.execute(query)).one()
    oldest = (now - row.oldest).total_seconds() if row.oldest else 0.0
    return OutboxDepth(int(row.rows), max(oldest, 0.0))
