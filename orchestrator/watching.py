"""What an operator watches, at one moment: sagas by status, who waits longest, who is stuck, what piles up.

Reads only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, ColumnElement, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.schema import deferred, outbox
from orchestrator import queries, rest
from orchestrator.letters import State
from orchestrator.queries import Listed
from orchestrator.saga.state import Status
from orchestrator.schema import collected_letter, parked_event, saga

SHOWN = 5
"""Instances shown of those that wait and of those that are stuck."""


@dataclass(frozen=True, slots=True)
class Pile:
    """How many rows lie in a table, and the age of the oldest in seconds."""

    rows: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is at one moment. `sagas` are numbers by saga and status; `overdue` counts deadlines that have passed
    and were not attended to yet; `waiting` are the instances under way that moved longest ago, `stuck` the latest;
    `dead_letters` are those of every service that are open.
    """

    at: datetime
    sagas: Mapping[str, Mapping[str, int]]
    overdue: int
    waiting: tuple[Listed, ...]
    stuck: tuple[Listed, ...]
    outbox: Pile
    deferred: Pile
    parked: Pile
    dead_letters: Pile

    def number(self, *statuses: str) -> int:
        """How many instances of all sagas have one of these statuses; all of them without one."""
        counted = ((status, number) for each in self.sagas.values() for status, number in each.items())
        return sum(number for status, number in counted if not statuses or status in statuses)

    @property
    def under_way(self) -> int:
        """How many instances move by themselves."""
        return self.number(*rest.UNDER_WAY)


@dataclass(frozen=True, slots=True)
class Rates:
    """What has happened between two snapshots, per second."""

    started: float
    ended: float


def rates(before: Snapshot, after: Snapshot) -> Rates | None:
    """How fast sagas start and end; None of two snapshots of one moment. What was pruned meanwhile is not counted."""
    seconds = (after.at - before.at).total_seconds()
    if seconds <= 0:
        return None
    ended = [status.value for status in Status if status.terminal]
    started = max(after.number() - before.number(), 0)
    return Rates(started / seconds, max(after.number(*ended) - before.number(*ended), 0) / seconds)


async def snapshot(connection: AsyncConnection, now: datetime) -> Snapshot:
    """Look once."""
    sagas: dict[str, dict[str, int]] = {}
    for (name, status), number in sorted((await queries.counts(connection)).items()):
        sagas.setdefault(name, {})[status] = number
    letters = collected_letter.c
    overdue = select(func.count()).select_from(saga).where(rest.overdue(now))
    return Snapshot(
        at=now,
        sagas=sagas,
        overdue=int((await connection.execute(overdue)).scalar_one()),
        waiting=tuple(await queries.waiting_longest(connection, rest.UNDER_WAY, SHOWN)),
        stuck=tuple(await queries.listing(connection, status=Status.STUCK.value, limit=SHOWN)),
        outbox=await _pile(connection, outbox, outbox.c.created_at, now),
        deferred=await _pile(connection, deferred, deferred.c.first_at, now),
        parked=await _pile(connection, parked_event, parked_event.c.parked_at, now),
        dead_letters=await _pile(connection, collected_letter, letters.at, now, letters.state == State.OPEN),
    )


async def _pile(
    connection: AsyncConnection, table: Table, since: Column[datetime], now: datetime, *only: ColumnElement[bool]
) -> Pile:
    query = select(func.count(), func.min(since)).select_from(table).where(*only)
    row = (await connection.execute(query)).one()
    oldest: datetime | None = row[1]
    return Pile(row[0], None if oldest is None else (now - oldest).total_seconds())
