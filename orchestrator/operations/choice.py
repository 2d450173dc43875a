"""Which instances a person means: all that are stuck, all that wait at a step, all of a version."""

from __future__ import annotations

from dataclasses import dataclass
from sys import intern
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.saga.state import Status
from orchestrator.schema import saga


# All are chosen at once and named by id from then on, which is little: who is asked about so many acts on these many,
# and one that gets stuck again while they are retried is not retried for ever.
@dataclass(frozen=True, slots=True)
class Chosen:
    """An instance that is meant, and the definition it had when it was chosen."""

    id: UUID
    name: str
    version: int


_UNDER_WAY = (Status.RUNNING, Status.COMPENSATING)
_ENDED = tuple(status for status in Status if status.terminal)


async def stuck(connection: AsyncConnection, *, name: str | None = None, step: str | None = None) -> list[Chosen]:
    """The stuck ones, of one saga or all, at one step or any; the one that is stuck for longest first."""
    return await _chosen(connection, name, step, saga.c.status == Status.STUCK.value)


async def waiting(connection: AsyncConnection, *, step: str, name: str | None = None) -> list[Chosen]:
    """Those that wait at this step and are not stuck."""
    return await _chosen(connection, name, step, saga.c.status.in_([each.value for each in _UNDER_WAY]))


async def in_flight(connection: AsyncConnection, name: str, version: int) -> list[Chosen]:
    """Those of this version that have not ended."""
    ended = saga.c.status.in_([each.value for each in _ENDED])
    return await _chosen(connection, name, None, saga.c.version == version, ~ended)


async def _chosen(
    connection: AsyncConnection, name: str | None, step: str | None, *conditions: ColumnElement[bool]
) -> list[Chosen]:
    query = (
        select(saga.c.id, saga.c.name, saga.c.version, saga.c.step)
        .where(*conditions)
        .order_by(saga.c.updated_at, saga.c.id)
    )
    if name is not None:
        query = query.where(saga.c.name == name)
    # There may be a hundred thousand, of a few names: their rows are not kept beside what is chosen.
    rows = await connection.stream(query)
    return [
        Chosen(row.id, intern(row.name), row.version)
        async for row in rows
        if step is None or step in row.step.split(", ")
    ]
