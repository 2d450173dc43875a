"""Many rows in one statement, many tables in one round trip: the same on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, Uuid, event, select

from messaging import bulk
from messaging.bulk import Writes
from messaging.database import Database
from messaging.schema import UTCDateTime
from tests.contract.messaging.bench import statements

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_metadata = MetaData()
shelf = Table(
    "shelf",
    _metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text),
    Column("weight", Integer),
    Column("at", UTCDateTime()),
)
note = Table("note", _metadata, Column("id", Integer, primary_key=True), Column("text", Text))


@pytest.fixture(params=["alone", "overheard"])
async def shelves(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Database]:
    """A database with two tables; overheard, every statement is told to somebody."""
    async with database.transaction() as connection:
        await connection.run_sync(_metadata.create_all)
        await bulk.insert(connection, shelf, ("id", "name", "weight", "at"), [_shelf(1, "low"), _shelf(2, None)])
    if request.param == "overheard":
        event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *_: None)
    yield database
    await database.close()


def _shelf(number: int, name: str | None, weight: int = 0) -> dict[str, object]:
    return {"id": UUID(int=number), "name": name, "weight": weight, "at": NOON}


async def _all(database: Database) -> list[tuple[int, str | None, int]]:
    async with database.reading() as connection:
        rows = (await connection.execute(select(shelf).order_by(shelf.c.id))).all()
    return [(row.id.int, row.name, row.weight) for row in rows]


async def test_rows_come_back_as_named_tuples(shelves: Database) -> None:
    """With the types of their columns, computed ones among them."""
    async with shelves.reading() as connection:
        rows = await bulk.select(
            connection,
            tuple(shelf.c),
            shelf.c.id,
            [UUID(int=2), UUID(int=1)],
            "ORDER BY id",
            computed=(("two", "1 + 1"),),
        )
    assert [tuple(row) for row in rows] == [(UUID(int=1), "low", 0, NOON, 2), (UUID(int=2), None, 0, NOON, 2)]
    assert (rows[0].id, rows[0].at.tzinfo, rows[1].name, rows[1].two) == (UUID(int=1), UTC, None, 2)


async def test_parts_go_together(shelves: Database) -> None:
    """One statement on PostgreSQL, one each on SQLite; every part says what has come of it."""
    writes = Writes()
    looked = writes.select(
        (shelf.c.name, shelf.c.id), shelf.c.id, [UUID(int=1), UUID(int=2), UUID(int=3)], "ORDER BY id"
    )
    deleted = writes.delete(shelf.c.id, [UUID(int=2), UUID(int=9)], returning=True)
    updated = writes.update(shelf, ("id",), ("name", "weight"), [_shelf(1, "high", 7), _shelf(8, "none")])
    inserted = writes.insert(
        shelf,
        ("id", "name", "weight", "at"),
        [_shelf(3, "new"), _shelf(1, "known"), _shelf(4, None)],
        ignore_conflicts=True,
        returning="id",
    )
    noted = writes.insert(note, ("id", "text"), [{"id": 1, "text": "x"}])
    with statements(shelves) as sent:
        async with shelves.transaction() as connection:
            await writes.run(connection)

    assert len(sent) == (1 if shelves.dialect == "postgresql" else 5)
    assert [tuple(row) for row in looked.rows] == [("low", UUID(int=1)), (None, UUID(int=2))]
    assert (deleted.values, deleted.count) == ([UUID(int=2)], 1)
    assert updated.count == 1
    assert sorted(inserted.values) == [UUID(int=3), UUID(int=4)]
    assert (noted.values, noted.count) == ([], 0)
    assert await _all(shelves) == [(1, "high", 7), (3, "new", 0), (4, None, 0)]


async def test_what_changes_nothing_says_so(shelves: Database) -> None:
    """Counts of nought and no rows, from a part alone and from parts together."""
    for others in ([], [{"id": 5, "text": "y"}]):
        writes = Writes()
        writes.insert(note, ("id", "text"), others)
        updated = writes.update(shelf, ("id",), ("name",), [_shelf(8, "none")])
        async with shelves.transaction() as connection:
            await writes.run(connection)
        assert (updated.count, updated.rows) == (0, [])
        deleted = writes.delete(shelf.c.id, [UUID(int=8)], returning=True)
        looked = writes.select((shelf.c.id,), shelf.c.id, [UUID(int=8)])
        async with shelves.transaction() as connection:
            await writes.run(connection)
        assert (deleted.count, deleted.values, looked.count, looked.rows) == (0, [], 0, [])


@pytest.mark.parametrize("others", [1, 2, 3])
async def test_one_row_beside_several(shelves: Database, others: int) -> None:
    """What is for one row may be another statement than what is for many: it says and does the same."""
    new = [_shelf(number, "new") for number in range(3, 3 + others)]
    writes = Writes()
    looked = writes.select((shelf.c.name,), shelf.c.id, [UUID(int=2)])
    inserted = writes.insert(shelf, ("id", "name", "weight", "at"), new, ignore_conflicts=True, returning="id")
    updated = writes.update(shelf, ("id",), ("name",), [_shelf(1, "high")])
    deleted = writes.delete(note.c.id, [1], returning=True)
    async with shelves.transaction() as connection:
        await bulk.insert(connection, note, ("id", "text"), [{"id": 1, "text": "x"}, {"id": 2, "text": "y"}])
        await writes.run(connection)
        left = await bulk.select(connection, (note.c.id,), note.c.id, [1, 2])
    assert [tuple(row) for row in looked.rows] == [(None,)]
    assert sorted(each.int for each in inserted.values) == list(range(3, 3 + others))
    assert (updated.count, deleted.values, [row.id for row in left]) == (1, [1], [2])
    assert await _all(shelves) == [(1, "high", 0), (2, None, 0), *((each, "new", 0) for each in range(3, 3 + others))]


@pytest.mark.parametrize("number", [1, 3])
async def test_rows_may_be_tuples_in_the_order_of_their_names(shelves: Database, number: int) -> None:
    """Columns for an insert; keys, columns and renamed ones for an update; with what is alike, and one row alone."""
    new = [(UUID(int=3 + each), "new", each, NOON) for each in range(number)]
    moved = [(UUID(int=1), "low", "high"), (UUID(int=2), "low", "none")][:number]
    writes = Writes()
    inserted = writes.insert(shelf, ("id", "name", "weight", "at"), new, returning="id", alike=("name", "at"))
    updated = writes.update(shelf, ("id", "name"), (), moved, renamed=(("name", "next"),))
    async with shelves.transaction() as connection:
        await writes.run(connection)
    assert sorted(each.int for each in inserted.values) == list(range(3, 3 + number))
    assert updated.count == 1
    assert await _all(shelves) == [(1, "high", 0), (2, None, 0), *((3 + each, "new", each) for each in range(number))]
    assert bulk.alike(new, ("name", "at"), ("weight",), order=("id", "name", "weight", "at"))[:2] == ("name", "at")


async def test_no_rows_are_no_statement(shelves: Database) -> None:
    """Parts for nothing are left out; what was run is not run again."""
    writes = Writes()
    nothing = writes.insert(note, ("id", "text"), [], returning="id")
    writes.delete(shelf.c.id, [])
    writes.update(note, ("id",), ("text",), [{"id": 1, "text": "z"}])
    async with shelves.transaction() as connection:
        await writes.run(connection)
        with statements(shelves) as sent:
            await writes.run(connection)
    assert (sent, nothing.values) == ([], [])


async def test_a_moment_without_a_zone_is_refused(shelves: Database) -> None:
    """Its zone would be a guess."""
    naive = _shelf(5, "naive") | {"at": datetime(2026, 3, 1)}  # noqa: DTZ001 - that is what it is about
    with pytest.raises(ValueError, match="has no time zone"):
        async with shelves.transaction() as connection:
            await bulk.insert(connection, shelf, ("id", "at"), [naive])


async def test_what_is_alike_is_written_as_anything_else(shelves: Database) -> None:
    """As a column that is inserted, set or matched; alone and among others."""
    writes = Writes()
    writes.insert(
        shelf, ("id", "name", "weight", "at"), [_shelf(3, "new", 5), _shelf(4, "new", 6)], alike=("name", "at")
    )
    updated = writes.update(
        shelf, ("id", "name"), ("weight", "at"), [_shelf(1, "low", 9), _shelf(2, "low", 9)], alike=("name", "weight")
    )
    async with shelves.transaction() as connection:
        await writes.run(connection)
    assert updated.count == 1
    assert await _all(shelves) == [(1, "low", 9), (2, None, 0), (3, "new", 5), (4, "new", 6)]


def test_columns_are_alike_by_groups() -> None:
    """A group counts where each of its columns has one value in all records; of no records nothing is alike."""
    records = [_shelf(3, "new", 5), _shelf(4, "new", 6)]
    assert bulk.alike(records, ("name", "at"), ("weight",)) == ("name", "at")
    assert bulk.alike(records, ("name", "weight"), ("at",)) == ("at",)
    assert bulk.alike(records[:1], ("name", "weight")) == ("name", "weight")
    assert bulk.alike([], ("name",)) == ()
