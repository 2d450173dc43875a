"""What a service still has to do, now or later: read from its own tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.inbox import Status
from messaging.schema import deferred, inbox, outbox
from messaging.service import Service
from orchestrator.schema import parked_event, saga


@dataclass(frozen=True, slots=True)
class Pending:
    """Something a service has to do: what, and when; `sweep` where only a sweep of the outbox will do it."""

    service: str
    what: str
    at: datetime
    sweep: bool = False


async def pending(service: Service, now: datetime, *, sagas: bool) -> list[Pending]:
    """Everything this service has to do, the first of each kind; `sagas` where it is the orchestrator."""
    unsent = select(outbox.c.type, outbox.c.available_at).where(outbox.c.id.not_in(service.relay.confirmed))
    # While it is called outside, its row in `deferred` only says when it is tried again if we die.
    outside = select(inbox.c.message_id).where(inbox.c.status == Status.STARTED)
    waiting = select(deferred.c.type, deferred.c.due_at).where(deferred.c.message_id.not_in(outside))
    kinds: list[tuple[str, Select[Any], bool]] = [
        ("an unsent message in the outbox: {}", unsent.order_by(outbox.c.available_at), True),
        ("a message put off: {}", waiting.order_by(deferred.c.due_at), False),
    ]
    if sagas:
        deadlines = select(saga.c.name, saga.c.deadline).where(saga.c.deadline.is_not(None))
        early = select(parked_event.c.type, parked_event.c.retry_at).order_by(parked_event.c.retry_at)
        kinds.append(("a deadline of {}", deadlines.order_by(saga.c.deadline), False))
        kinds.append(("a parked event to be looked at again: {}", early, False))
    async with service.database.reading() as connection:
        found = await _first_of_each(connection, service.name, kinds)
        calls = (await connection.execute(select(func.count()).select_from(outside.subquery()))).scalar_one()
    if calls:
        found.append(Pending(service.name, f"{calls} calls outside", now))
    return found


async def _first_of_each(
    connection: AsyncConnection, service: str, kinds: Sequence[tuple[str, Select[Any], bool]]
) -> list[Pending]:
    found = []
    for words, query, sweep in kinds:
        row = (await connection.execute(query.limit(1))).first()
        if row is not None:
            found.append(Pending(service, words.format(row[0]), row[1], sweep))
    return found
