"""What goes to PostgreSQL together is locked and written in the order in which it was added, however it is joined."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, text

from messaging import bulk
from messaging.bulk import Writes
from messaging.database import Database
from tests.contract.messaging.bench import PATIENCE

_metadata = MetaData()
first = Table("first", _metadata, Column("id", Integer, primary_key=True), Column("text", Text))
second = Table("second", _metadata, Column("id", Integer, primary_key=True), Column("text", Text))


def _lock(writes: Writes, table: Table, ids: Sequence[int]) -> None:
    writes.select((table.c.id, table.c.text), table.c.id, ids, "ORDER BY id FOR UPDATE")


def _change(writes: Writes, table: Table, ids: Sequence[int]) -> None:
    writes.update(table, ("id",), ("text",), [{"id": each, "text": "new"} for each in ids])


def _look(writes: Writes, table: Table, ids: Sequence[int]) -> None:
    writes.select((table.c.id,), table.c.id, ids)


Add = Callable[[Writes, Table, Sequence[int]], None]


@pytest.mark.parametrize("ids", [[1], [1, 2, 3]], ids=["one", "three"])
@pytest.mark.parametrize("add", [_lock, _change])
async def test_nothing_is_locked_before_what_was_added_before_it(
    postgres_url: str, add: Add, ids: Sequence[int]
) -> None:
    """Who waits for the first of two rows does not hold the second: two who want both never wait for each other."""
    database = Database(postgres_url, by_index=True)
    async with database.transaction() as connection:
        await connection.run_sync(_metadata.create_all)
        for table in (first, second):
            await bulk.insert(connection, table, ("id",), [{"id": each} for each in (1, 2, 3)])
    writes = Writes()
    # What only looks lies between them, and is done whenever it may.
    for part, table in ((add, first), (_look, first), (add, second)):
        part(writes, table, ids)

    async def wait() -> None:
        async with database.transaction() as connection:
            await writes.run(connection)

    async with database.transaction() as holder:
        await holder.execute(text("SELECT 1 FROM first WHERE id = 1 FOR UPDATE"))
        waiting = asyncio.create_task(wait())
        await _until_somebody_waits(database)
        taken = await holder.execute(text("SELECT id FROM second ORDER BY id FOR UPDATE NOWAIT"))
        assert [row.id for row in taken] == [1, 2, 3]
    async with asyncio.timeout(PATIENCE):
        await waiting
    await database.close()


async def _until_somebody_waits(database: Database) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(PATIENCE), database.reading() as looking:
        while not (await looking.execute(waiting)).scalar_one():
            await looking.rollback()
            await asyncio.sleep(0.01)
