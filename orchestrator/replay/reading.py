"""Recorded instances out of the orchestrator's database: one, or all of them in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import fields
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import NullType

from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.schema import saga, saga_history

PAGE = 200
"""Instances read at once: some thousand transitions, a few megabytes."""

_SAGA = tuple(saga.c[field.name] for field in fields(Recorded) if field.name != "transitions")
_TRANSITION = tuple(saga_history.c[field.name] for field in fields(RecordedTransition))
# An instance's id as the driver gives it: a history's rows are only compared with it, and a UUID a row is dear.
_RAW_ID, _RAW_SAGA_ID = (
    type_coerce(column, NullType()).label("raw_id") for column in (saga.c.id, saga_history.c.saga_id)
)


async def recorded(connection: AsyncConnection, row: Row[Any]) -> Recorded:
    """The whole history of the instance with this row of `saga`."""
    query = select(*_TRANSITION).where(saga_history.c.saga_id == row.id).order_by(saga_history.c.seq)
    lines = (await connection.execute(query)).all()
    return _recorded([getattr(row, column.name) for column in _SAGA], lines)


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
        query = select(_RAW_ID, *_SAGA).where(*conditions).order_by(saga.c.id).limit(page)
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
    query = select(_RAW_SAGA_ID, *_TRANSITION).where(history.saga_id.in_([row.id for row in rows]))
    lines = (await connection.execute(query.order_by(history.saga_id, history.seq))).all()
    by_saga = {identity: [line[1:] for line in each] for identity, each in groupby(lines, itemgetter(0))}
    return (_recorded(row[1:], by_saga.get(row[0], ())) for row in rows)


def _recorded(row: Sequence[Any], lines: Sequence[Sequence[Any]]) -> Recorded:
    return Recorded(*(*row, tuple([RecordedTransition(*each) for each in lines])))
