"""A database that benchmarks fill up with copies of histories."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from benchmarks.filling import fill_up, there
from messaging.database import Database
from messaging.schema import inbox
from orchestrator.schema import saga, saga_attribute, saga_history


async def test_a_filled_database_has_what_a_worked_one_has(fresh_postgres: Callable[[], str]) -> None:
    """Each saga has its whole history, an inbox row a transition, its attribute; who waits has a deadline far away."""
    url, said = fresh_postgres(), list[str]()
    filled = await fill_up(url, 40, 7, said.append)
    # Of ten: six completed in 4 transitions, two declined in 3, one out of stock in 5, one timed out in 6.
    transitions = 4 * (6 * 4 + 2 * 3 + 5 + 6) + 7
    assert filled.rows == {"saga": 47, "saga_history": transitions, "saga_attribute": 47, "inbox": transitions}
    assert len(said) == 8
    database = Database(url, pool_size=1)
    try:
        async with database.reading() as connection:
            found = await connection.execute(select(saga.c.status, func.count()).group_by(saga.c.status))
            assert {row.status: row[1] for row in found} == {"completed": 24, "compensated": 16, "running": 7}
            assert there(40, 7) == {"completed": 24, "compensated": 16, "running": 7}
            rows = (await connection.execute(select(saga.c.id, saga.c.key, saga.c.revision, saga.c.deadline))).all()
            assert len({row.key for row in rows}) == 47
            tomorrow = datetime.now(UTC) + timedelta(hours=23)
            assert sum(row.deadline is not None and row.deadline > tomorrow for row in rows) == 7
            assert sum(row.deadline is not None for row in rows) == 7
            lines = select(saga_history.c.saga_id, func.count(), func.max(saga_history.c.seq))
            counted = (await connection.execute(lines.group_by(saga_history.c.saga_id))).all()
            assert {row[0]: (row[1], row[2]) for row in counted} == {
                row.id: (row.revision, row.revision) for row in rows
            }
            indexed = (await connection.execute(select(saga_attribute.c.saga_id))).scalars().all()
            assert set(indexed) == {row.id for row in rows}
            assert set((await connection.execute(select(inbox.c.status))).scalars()) == {"done"}
    finally:
        await database.close()
