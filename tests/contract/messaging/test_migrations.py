"""Migrations on both databases: up, down and up again, and what they make is what the code says."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, inspect, select, text

import messaging.subjects.schema
import orchestrator.schema
import services.order.store
import services.payment.schema
from messaging import migrate, schema
from messaging.database import Database

HISTORIES: dict[str, MetaData] = {
    "messaging:migrations": schema.metadata,
    "orchestrator:migrations": orchestrator.schema.metadata,
    "services.order:migrations": services.order.store.metadata,
    "services.payment:migrations": services.payment.schema.metadata,
    "messaging.subjects:migrations": messaging.subjects.schema.metadata,
}


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def _tables_of(database: Database) -> set[str]:
    async with database.reading() as connection:
        return await connection.run_sync(_tables)


@pytest.mark.parametrize("location", HISTORIES)
async def test_a_history_goes_up_down_and_up_again(database_url: str, location: str) -> None:
    """Down leaves nothing behind but the empty place-keeper, and up again ends where up ended."""
    database = Database(database_url)
    expected = {table.name for table in HISTORIES[location].sorted_tables} | {migrate.version_table(location)}
    try:
        assert await migrate.pending(database, [location]) == {location.partition(":")[0]: "none"}
        await migrate.upgrade(database, [location])
        first = await _tables_of(database)
        assert await migrate.pending(database, [location]) == {}
        await migrate.downgrade(database, [location])
        assert await _tables_of(database) <= {migrate.version_table(location)}
        await migrate.upgrade(database, [location])
        await migrate.upgrade(database, [location])

        assert first == expected
        assert await _tables_of(database) == expected
        assert await migrate.pending(database, [location]) == {}
    finally:
        await database.close()


# Alembic compares the words of an expression with what the database makes of them; a test below, like with like.
@pytest.mark.filterwarnings("ignore:Computed default on saga:UserWarning")
async def test_what_the_migrations_make_is_what_the_code_says(database_url: str) -> None:
    """Alembic finds nothing to add, drop or change in any of the histories, side by side in one database."""
    database = Database(database_url)
    try:
        await migrate.upgrade(database, list(HISTORIES))
        for location, metadata in HISTORIES.items():
            mine = {table.name for table in metadata.sorted_tables}

            def compare(connection: Connection, metadata: MetaData = metadata, mine: set[str] = mine) -> list[Any]:
                def belongs(name: str | None, kind: str, _parents: Any) -> bool:
                    return kind != "table" or name in mine

                options = {"compare_type": True, "compare_server_default": True, "include_name": belongs}
                context = MigrationContext.configure(connection, opts=options)
                return list(compare_metadata(context, metadata))

            async with database.reading() as connection:
                assert (location, await connection.run_sync(compare)) == (location, [])
    finally:
        await database.close()


async def test_checks_made_by_the_migrations_are_those_of_the_code(database_url: str) -> None:
    """Constraints, which alembic does not compare, bear the same names in both."""

    def names(connection: Connection) -> set[tuple[str, str | None]]:
        found = inspect(connection)
        return {
            (table, each["name"]) for table in found.get_table_names() for each in found.get_check_constraints(table)
        }

    database = Database(database_url)
    try:
        await migrate.upgrade(database, ["messaging:migrations"])
        async with database.reading() as connection:
            migrated = await connection.run_sync(names)
        await migrate.downgrade(database, ["messaging:migrations"])
        async with database.transaction() as connection:
            await connection.run_sync(schema.metadata.create_all)
        async with database.reading() as connection:
            assert migrated == await connection.run_sync(names)
        assert migrated == {
            ("outbox", "ck_outbox_attempts"),
            ("inbox", "ck_inbox_status"),
            ("dead_letter", "ck_dead_letter_state"),
        }
    finally:
        await database.close()


@pytest.mark.parametrize("made_by", ["migrations", "code"])
async def test_the_database_works_out_when_an_instance_is_due_and_since_when_it_rests(
    database_url: str, made_by: str
) -> None:
    """The ten seconds in which its deadline lies, counted from 1970; its last move, unless it moves by itself."""
    moment, due = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC), datetime(2026, 3, 1, 12, 0, 34, 999999, tzinfo=UTC)
    table = orchestrator.schema.saga
    expected = {
        "running": (177236643, None),
        "compensating": (177236643, None),
        "stuck": (None, moment),
        "completed": (None, moment),
        "compensated": (None, moment),
        "abandoned": (None, moment),
    }
    rows = [
        {
            **dict.fromkeys(("name", "key", "step", "reason", "data", "progress"), ""),
            "id": UUID(int=number),
            "version": 1,
            "revision": 1,
            "started_at": moment,
            "updated_at": moment,
            "status": status,
            "deadline": due if span else None,
        }
        for number, (status, (span, _)) in enumerate(expected.items())
    ]
    database = Database(database_url)
    try:
        if made_by == "migrations":
            await migrate.upgrade(database, ["orchestrator:migrations"])
        async with database.transaction() as connection:
            if made_by == "code":
                await connection.run_sync(orchestrator.schema.metadata.create_all)
            await connection.execute(table.insert(), rows)
        async with database.reading() as connection:
            found = await connection.execute(select(table.c.status, table.c.due_span, table.c.rested_at))
            assert {status: (span, rested) for status, span, rested in found} == expected
    finally:
        await database.close()


async def test_two_processes_that_migrate_at_once_do_it_once(postgres_url: str) -> None:
    """The second waits for the first and finds nothing left to do."""
    databases = [Database(postgres_url) for _ in range(3)]
    try:
        await asyncio.gather(*(migrate.upgrade(each, list(HISTORIES)) for each in databases))
        assert await migrate.pending(databases[0], list(HISTORIES)) == {}
    finally:
        for each in databases:
            await each.close()


async def test_the_version_before_goes_on_with_tables_of_the_next(database_url: str) -> None:
    """It does not wait for a revision that it does not know, and its own `migrate` leaves the tables as they are."""
    database = Database(database_url)
    try:
        await migrate.upgrade(database, list(HISTORIES))
        async with database.transaction() as connection:
            await connection.execute(text("UPDATE alembic_version_messaging SET version_num = 'of_the_next_version'"))
        assert await migrate.pending(database, list(HISTORIES)) == {}
        await migrate.upgrade(database, list(HISTORIES))
        async with database.reading() as connection:
            found = await connection.execute(text("SELECT version_num FROM alembic_version_messaging"))
            assert found.scalar_one() == "of_the_next_version"
    finally:
        await database.close()
