"""What is parked, for people: each event with the instance it waits for. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.waiting import Filter, Waiting, rows_waiting
from orchestrator.schema import parked_event, saga


@dataclass(frozen=True, slots=True)
class ParkedWaiting:
    """An event that nobody awaits yet. `age` in seconds; key, status and step are its instance's, if there is one.

    It is looked at again after each transition of the instance, and at `retry_at` for its own sake.
    """

    id: int
    type: str
    message_id: UUID
    saga: str
    saga_id: UUID
    key: str | None
    status: str | None
    step: str | None
    parked_at: datetime
    age: float
    retry_at: datetime
    reason: str


async def parked_waiting(connection: AsyncConnection, now: datetime, wanted: Filter) -> Waiting[ParkedWaiting]:
    """Parked events, oldest first."""
    query = (
        select(*parked_event.c, saga.c.key, saga.c.status, saga.c.step)
        .select_from(parked_event.outerjoin(saga, saga.c.id == parked_event.c.saga_id))
        .order_by(parked_event.c.parked_at, parked_event.c.id)
    )
    columns = parked_event.c
    return await rows_waiting(connection, query, _parked, now, wanted, type_of=columns.type, since=columns.parked_at)


def _parked(row: Any, now: datetime) -> ParkedWaiting:
    return ParkedWaiting(
        id=row.id,
        type=row.type,
        message_id=row.message_id,
        saga=row.name,
        saga_id=row.saga_id,
        key=row.key,
        status=row.status,
        step=row.step,
        parked_at=row.parked_at,
        age=(now - row.parked_at).total_seconds(),
        retry_at=row.retry_at,
        reason=row.reason,
    )
