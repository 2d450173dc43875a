"""Tables for tests: made once as the code makes them, and after that by the same statements, all at once.

To make the tables of a service takes Python longer than the database; most tests on a database want some.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import Connection, MetaData, event, inspect

from messaging import migrate
from messaging.database import Database

_LOOKS = ("SELECT", "PRAGMA", "SET", "SHOW", "BEGIN")
_known: dict[tuple[object, ...], str] = {}
"""By what was made, and on which kind of database: the statements that made it."""


async def create(database: Database, *tables: MetaData) -> None:
    """These tables, in an empty database."""

    async def make() -> None:
        async with database.transaction() as connection:
            for each in tables:
                await connection.run_sync(each.create_all)

    await _lay(database, tables, make)


async def migrated(database: Database, locations: Sequence[str]) -> None:
    """What these histories lead to, in an empty database; tests/contract/messaging/test_migrations runs them."""
    await _lay(database, tuple(locations), lambda: migrate.upgrade(database, locations))


async def _lay(database: Database, what: tuple[object, ...], make: Callable[[], Awaitable[None]]) -> None:
    name = (database.dialect, *what)
    if name in _known:
        await _run(database, _known[name])
        return
    async with database.reading() as connection:
        there = await connection.run_sync(_tables)
    assert there == [], f"the database is not empty: {there}"
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        if not statement.lstrip().upper().startswith(_LOOKS):
            assert not parameters, f"a statement with parameters cannot be repeated: {statement}"
            said.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        await make()
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)
    _known[name] = ";\n".join(said)


async def _run(database: Database, statements: str) -> None:
    async with database.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        if database.dialect == "sqlite":
            await driver.executescript(f"BEGIN IMMEDIATE;\n{statements};\nCOMMIT")
        else:
            # Without parameters it is one message, and one transaction.
            await driver.execute(statements)


def _tables(connection: Connection) -> list[str]:
    return inspect(connection).get_table_names()
