"""Recorded instances out of the orchestrator's database: one, or all of them in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import fields
from datetime import datetime
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
# As the driver gives them: a history's rows are only compared with the id, and SQLAlchemy's way to a UUID and to a
# moment takes longer than reading the row.
_RAW_ID, _RAW_SAGA_ID, _RAW_AT = (
    type_coerce(column, NullType()).label(f"raw_{column.name}")
    for column in (saga.c.id, saga_history.c.saga_id, saga_history.c.at)
)
_HISTORY = saga_history.c
_TRANSITION = (_HISTORY.seq, _RAW_AT, _HISTORY.input, _HISTORY.facts, _HISTORY.commands)


async def recorded(connection: AsyncConnection, row: Row[Any]) -> Recorded:
    """The whole history of the instance with this row of `saga`."""
    query = select(*_TRANSITION).where(saga_history.c.saga_id == row.id).order_by(saga_history.c.seq)
    lines = (await connection.execute(query)).all()
    return _recorded([getattr(row, column.name) for column in _SAGA], [_transition(*line) for line in lines])


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
        for each in await _histories(connection, rows, whole=not conditions):
            yield each
        if len(rows) < page:
            return
        after = rows[-1].id


async def _histories(connection: AsyncConnection, rows: Sequence[Row[Any]], *, whole: bool) -> Iterator[Recorded]:
    """The instances with these rows; `whole` where there are no others between the first and the last of them."""
    if not rows:
        return iter(())
    # Between two ids takes two values instead of one for each instance: a twelfth of the time that reading takes.
    mine = (
        _HISTORY.saga_id.between(rows[0].id, rows[-1].id) if whole else _HISTORY.saga_id.in_([row.id for row in rows])
    )
    query = select(_RAW_SAGA_ID, *_TRANSITION).where(mine).order_by(_HISTORY.saga_id, _HISTORY.seq)
    by_saga: dict[Any, list[RecordedTransition]] = {}
    for line in (await connection.execute(query)).all():
        by_saga.setdefault(line[0], []).append(_transition(*line[1:]))
    return (_recorded(row[1:], by_saga.get(row[0], ())) for row in rows)


def _transition(seq: int, at: datetime | str, *texts: str) -> RecordedTransition:
    # SQLite keeps a moment as text, always in UTC (`UTCDateTime`); from PostgreSQL it comes as one, in UTC too.
    moment = datetime.fromisoformat(f"{at}+00:00") if isinstance(at, str) else at
    return RecordedTransition(seq, moment, *texts)


def _recorded(row: Sequence[Any], transitions: Sequence[RecordedTransition]) -> Recorded:
    return Recorded(*(*row, tuple(transitions)))
