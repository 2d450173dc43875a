"""What indexes of instances cost and give: to move one touches none, and a look at the timers reads by one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from messaging import bulk, migrate
from messaging.bulk import Writes
from messaging.database import Database
from orchestrator import timers
from orchestrator.assembly import MIGRATIONS
from orchestrator.instance import COLUMNS
from orchestrator.schema import saga
from tests.contract.messaging.bench import NOON

CHANGED = {"step", "reason", "data", "progress", "revision", "deadline", "updated_at"}
"""What changes when an instance goes from one step to the next."""
_COUNTED = text(
    "SELECT pg_stat_get_xact_tuples_updated('saga'::regclass), pg_stat_get_xact_tuples_hot_updated('saga'::regclass)"
)


def _row(number: int, revision: int) -> dict[str, Any]:
    moment = NOON + timedelta(milliseconds=revision)
    return {
        "id": UUID(int=number << 64),
        "name": "work",
        "version": 1,
        "key": str(number),
        "status": "running",
        "step": f"step_{revision}",
        "reason": "",
        "data": f'{{"revision":{revision},"more":"{number * "#":.100}"}}',
        "progress": f'{{"steps":{{"step_{revision}":["running",0,1]}}}}',
        "revision": revision,
        "deadline": moment + timedelta(seconds=30),
        "started_at": NOON,
        "updated_at": moment,
        "traceparent": None,
    }


def test_no_index_has_what_every_transition_changes() -> None:
    """Nor does the condition of a partial one name it."""
    for index in saga.indexes:
        assert not CHANGED & {column.name for column in index.columns}, index.name
        condition = index.dialect_options["postgresql"]["where"]
        assert condition is None or not CHANGED & set(str(condition).split()), index.name


async def test_a_batch_of_instances_moves_without_touching_an_index(postgres_url: str) -> None:
    """The new versions of all hundred rows of a batch find room beside the old ones."""
    database = Database(postgres_url, by_index=True)
    try:
        await migrate.upgrade(database, [migrate.MESSAGING, MIGRATIONS])
        async with database.transaction() as connection:
            await bulk.insert(connection, saga, COLUMNS, [_row(number, 1) for number in range(100)])
        rows = [_row(number, 2) | {"revision": 1, "next": 2} for number in range(100)]
        async with database.transaction() as connection:
            writes = Writes()
            outcome = timers.update_instances(writes, rows)
            await writes.run(connection)
            counted = (await connection.execute(_COUNTED)).one()
        assert (outcome.count, *counted) == (100, 100, 100)
    finally:
        await database.close()


def _deadline(number: int) -> Any:
    """One of twelve thousand within half a minute."""
    return NOON + timedelta(microseconds=2_500 * (number * 7_919 % 12_000))


_FETCHED = text("SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'saga'")


async def test_a_look_at_the_timers_reads_the_first_span_and_no_other(postgres_url: str) -> None:
    """Of instances that wait for a while each, however many they are, those whose deadline comes first."""
    database = Database(postgres_url, by_index=True)
    try:
        await migrate.upgrade(database, [migrate.MESSAGING, MIGRATIONS])
        async with database.transaction() as connection:
            # Four thousand due in each of three spans, in no order, among others that have ended.
            rows = [
                _row(number, 1)
                | ({"status": "completed", "deadline": None} if number % 6 else {"deadline": _deadline(number // 6)})
                for number in range(72_000)
            ]
            await bulk.insert(connection, saga, COLUMNS, rows)
        async with database.transaction() as connection:
            await connection.execute(text("ANALYZE saga"))
        async with database.reading() as connection:
            found, upcoming = await timers.due(connection, NOON, 100, [("work", 1)])
            fetched = (await connection.execute(_FETCHED)).scalar_one()
    finally:
        await database.close()
    assert (len(found), upcoming) == (1, NOON + timedelta(microseconds=2_500))
    assert fetched <= 4_100


async def test_a_look_at_the_timers_reads_nothing_that_is_due_long_after_the_next_look(postgres_url: str) -> None:
    """Of instances that are answered in time nobody reads the deadlines again and again."""
    database = Database(postgres_url, by_index=True)
    try:
        await migrate.upgrade(database, [migrate.MESSAGING, MIGRATIONS])
        async with database.transaction() as connection:
            rows = [_row(number, 1) | {"deadline": NOON + timedelta(seconds=number)} for number in range(3_000)]
            await bulk.insert(connection, saga, COLUMNS, rows)
        async with database.transaction() as connection:
            await connection.execute(text("ANALYZE saga"))
        async with database.reading() as connection:
            found, upcoming = await timers.due(connection, NOON + timedelta(seconds=2), 100, [("work", 1)])
            fetched = (await connection.execute(_FETCHED)).scalar_one()
    finally:
        await database.close()
    assert (len(found), upcoming) == (3, NOON + timedelta(seconds=3))
    assert fetched <= 10


async def test_where_nothing_is_due_soon_a_look_says_when_to_look_again(database_url: str) -> None:
    """At the beginning of the ten seconds in which the next deadline lies, and never where there is none."""
    database = Database(database_url)
    try:
        await migrate.upgrade(database, [migrate.MESSAGING, MIGRATIONS])
        async with database.reading() as connection:
            assert await timers.due(connection, NOON, 100, [("work", 1)]) == ([], None)
        async with database.transaction() as connection:
            rows = [_row(number, 1) | {"deadline": NOON + timedelta(seconds=34 + number)} for number in range(2)]
            await bulk.insert(connection, saga, COLUMNS, rows)
        async with database.reading() as connection:
            found, upcoming = await timers.due(connection, NOON, 100, [("work", 1)])
            assert (found, upcoming) == ([], NOON + timedelta(seconds=30))
            found, upcoming = await timers.due(connection, NOON + timedelta(seconds=30), 100, [("work", 1)])
            assert (found, upcoming) == ([], NOON + timedelta(seconds=34))
    finally:
        await database.close()
