"""Recorded instances out of the orchestrator's database: one, or all of them in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.schema import saga, saga_history

PAGE = 200
"""Instances read at once: some thousand transitions, a few megabytes."""


async def recorded(connection: AsyncConnection, row: Row[Any]) -> Recorded:
    """The whole history of the instance with this row of `saga`."""
    query = select(saga_history).where(saga_history.c.saga_id == row.id).order_by(saga_history.c.seq)
    return _recorded(row, (await connection.execute(query)).all())


async def stream(
    connection: AsyncConnection,
    *conditions: ColumnElement[bool],
    first: UUID | None = None,
    last: UUID | None = None,
    page: int = PAGE,
) -> AsyncIterator[Recorded]:
    """Every instance that fulfills the conditions (on columns of `saga`), by id, from `first` to `last`.

    A page at a time by key, never a cursor held open: memory does not grow with the table, and no transaction of the
    sagas that run meanwhile waits for it.
    """
    after: UUID | None = None
    while True:
        query = select(saga).where(*conditions).order_by(saga.c.id).limit(page)
        if after is not None:
            query = query.where(saga.c.id > after)
        elif first is not None:
            query = query.where(saga.c.id >= first)
        if last is not None:
            query = query.where(saga.c.id <= last)
        rows = (await connection.execute(query)).all()
        for each in await _histories(connection, rows):
            yield each
        if len(rows) < page:
            return
        after = rows[-1].id


async def _histories(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> Iterator[Recorded]:
    history = saga_history.c
    query = select(saga_history).where(history.saga_id.in_([row.id for row in rows]))
    lines = (await connection.execute(query.order_by(history.saga_id, history.seq))).all()
    by_saga = {identity: tuple(each) for identity, each in groupby(lines, lambda line: line.saga_id)}
    return (_recorded(row, by_saga.get(row.id, ())) for row in rows)


def _recorded(row: Row[Any], lines: Sequence[Row[Any]]) -> Recorded:
    return Recorded(
        id=row.id,
        name=row.name,
        version=row.version,
        key=row.key,
        status=row.status,
        step=row.step,
        reason=row.reason,
        data=row.data,
        progress=row.progress,
        started_at=row.started_at,
        updated_at=row.updated_at,
        deadline=row.deadline,
        transitions=tuple(
            RecordedTransition(each.seq, each.at, each.input, each.facts, each.commands) for each in lines
        ),
    )
