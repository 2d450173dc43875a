"""Statements spoken to SQLite's driver: in SQLAlchemy's transaction, with its errors, and as many at once as there are.

Each holds both for what is spoken to the driver and for what goes through SQLAlchemy because somebody listens.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import aiosqlite
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, Uuid, event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk
from messaging.bulk import Writes
from messaging.database import Database, in_words, is_transient
from messaging.schema import UTCDateTime

_metadata = MetaData()
shelf = Table("shelf", _metadata, Column("id", Integer, primary_key=True), Column("name", Text))
found_on = Table("found_on", _metadata, Column("id", Uuid, primary_key=True), Column("at", UTCDateTime))
ID = UUID("018e2f5e-0000-7000-8000-00000000000a")


@pytest.fixture(params=["direct", "overheard"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A SQLite file with two rows; overheard, every statement is told to somebody."""
    database = Database(f"sqlite:///{tmp_path}/shelf.db")
    async with database.transaction() as connection:
        await connection.run_sync(_metadata.create_all)
        await _insert(connection, 1, 2)
    if request.param == "overheard":
        event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *_: None)
    yield database
    await database.close()


async def _insert(connection: AsyncConnection, *ids: int) -> None:
    await bulk.insert(connection, shelf, ("id",), [{"id": each} for each in ids])


async def _ids(database: Database) -> list[int]:
    async with database.reading() as connection:
        return [row.id for row in await connection.execute(text("SELECT id FROM shelf ORDER BY id"))]


async def test_what_is_rolled_back_was_never_there(database: Database) -> None:
    """The first statement of a connection is in a transaction already."""
    async with database.engine.connect() as connection:
        await _insert(connection, 3)
        await connection.rollback()
    assert await _ids(database) == [1, 2]


async def test_parts_are_done_in_their_order(database: Database) -> None:
    """Each part sees what those before it have written; what looks first sees nothing of it."""
    writes = Writes()
    before = writes.select((shelf.c.id,), shelf.c.id, [1, 3])
    inserted = writes.insert(shelf, ("id",), [{"id": 2}, {"id": 3}], ignore_conflicts=True, returning="id")
    updated = writes.update(shelf, ("id",), ("name",), [{"id": 3, "name": "c"}, {"id": 4, "name": "d"}])
    deleted = writes.delete(shelf.c.id, [1, 9], returning=True)
    async with database.transaction() as connection:
        await writes.run(connection)
    assert (before.values, inserted.values, updated.count, deleted.values) == ([1], [3], 1, [1])
    assert await _ids(database) == [2, 3]


async def test_ids_and_moments_come_back_as_they_were_given(database: Database) -> None:
    """A moment in UTC whatever its zone; a naive one is refused."""
    noon = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)
    berlin = noon.astimezone(timezone(timedelta(hours=1)))
    other = UUID(int=ID.int + 1)
    records: list[dict[str, Any]] = [{"id": ID, "at": berlin}, {"id": other, "at": None}]
    async with database.transaction() as connection:
        await bulk.insert(connection, found_on, ("id", "at"), records)
        rows = await bulk.select(connection, tuple(found_on.c), found_on.c.id, [other, ID], "ORDER BY id")
        kept = (await connection.execute(text("SELECT id, at FROM found_on ORDER BY id"))).all()
        with pytest.raises(ValueError, match="has no time zone"):
            await bulk.insert(
                connection, found_on, ("id", "at"), [{"id": UUID(int=3), "at": noon.replace(tzinfo=None)}]
            )
    assert [(row.id, row.at) for row in rows] == [(ID, noon), (other, None)]
    assert rows[0].at.tzinfo is UTC
    assert [tuple(row) for row in kept] == [
        ("018e2f5e00007000800000000000000a", "2026-03-01 12:00:00.000005"),
        ("018e2f5e00007000800000000000000b", None),
    ]


async def test_a_key_that_is_taken_is_an_integrity_error(database: Database) -> None:
    """The transaction goes on, as it does on SQLite, and commits what else was written."""
    async with database.transaction() as connection:
        with pytest.raises(IntegrityError) as raised:
            await _insert(connection, 3, 1)
        await _insert(connection, 4)
    assert (in_words(raised.value), is_transient(raised.value)) == ("UNIQUE constraint failed: shelf.id", False)
    assert await _ids(database) == [1, 2, 4]


async def test_a_lock_that_another_process_holds_passes(database: Database, tmp_path: Path) -> None:
    """Waited for as long as SQLite was told to, and then it is an error that passes."""
    other = await aiosqlite.connect(f"{tmp_path}/shelf.db", isolation_level=None)
    await other.execute("BEGIN IMMEDIATE")
    async with database.reading() as connection:
        await connection.execute(text("PRAGMA busy_timeout=50"))
        with pytest.raises(OperationalError) as raised:
            await _insert(connection, 3)
    await other.rollback()
    await other.close()
    assert (in_words(raised.value), is_transient(raised.value)) == ("database is locked", True)


@pytest.mark.parametrize("database", ["direct"], indirect=True)
async def test_a_task_that_ends_in_a_statement_commits_nothing(database: Database) -> None:
    """Its connection goes with it, and with that its lock; the next one works."""
    loop, begun, over = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def wait() -> int:
        loop.call_soon_threadsafe(begun.set)
        assert over.wait(30)
        return 1

    async def write() -> None:
        async with database.transaction() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            await driver.create_function("wait", 0, wait)
            await _insert(connection, 3)
            await bulk.select(connection, (shelf.c.id,), shelf.c.id, [1], computed=(("slow", "wait()"),))

    task = asyncio.create_task(write())
    await begun.wait()
    task.cancel()
    over.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.transaction() as connection:
        await _insert(connection, 4)
    assert await _ids(database) == [1, 2, 4]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What SQLite's thread is asked to do from now on."""
    names: list[str] = []
    plain = aiosqlite.Connection._execute

    async def noting(self: aiosqlite.Connection, wanted: Any, *given: Any, **named: Any) -> Any:
        names.append(getattr(wanted, "__name__", repr(wanted)))
        return await plain(self, wanted, *given, **named)  # type: ignore[no-untyped-call]  # aiosqlite leaves it untyped

    monkeypatch.setattr(aiosqlite.Connection, "_execute", noting)
    return names


async def test_all_parts_take_one_way_to_the_driver_and_back(tmp_path: Path, asked: list[str]) -> None:
    """Whatever their number, SQLite's thread is asked once; besides to begin and to commit, and for nothing else."""
    database = Database(f"sqlite:///{tmp_path}/shelf.db")
    async with database.transaction() as connection:
        await connection.run_sync(_metadata.create_all)
    asked.clear()
    async with database.transaction() as connection:
        writes = Writes()
        writes.insert(shelf, ("id",), [{"id": each} for each in (1, 2, 3)])
        writes.update(shelf, ("id",), ("name",), [{"id": 2, "name": "b"}])
        writes.delete(shelf.c.id, [3])
        await writes.run(connection)
    assert asked == ["_run", "_run", "commit"]
    assert await _ids(database) == [1, 2]
    await database.close()


async def test_a_connection_goes_back_to_its_pool_without_a_transaction(database: Database) -> None:
    """Also without one that SQLAlchemy does not know of."""
    async with database.engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        await raw.execute("BEGIN IMMEDIATE")
        await raw.execute("INSERT INTO shelf (id) VALUES (3)")
    async with database.transaction() as connection:
        await _insert(connection, 4)
    assert await _ids(database) == [1, 2, 4]
