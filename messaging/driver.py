"""Statements spoken to the database's driver, inside SQLAlchemy's connection and transaction.

SQLAlchemy keeps the pool, the transaction, what an error means and what becomes of a connection that is lost; only what
it does round each statement, which costs twice what the driver does, is left out. While somebody listens to statements
(telemetry, a count), they go through SQLAlchemy.

Names that are not promised are used, all here: of SQLAlchemy the adapter's `_transaction`, `_start_transaction` and
`_handle_exception`, and the connection's `_handle_dbapi_exception`; of aiosqlite a connection's `_execute`, which calls
a function in its thread, and `_conn`, the `sqlite3.Connection` that lives there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

Statement = tuple[str, Sequence[Any]]
"""Its text and its parameters."""


async def fetch(connection: AsyncConnection, words: str, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
    """The rows of one statement on PostgreSQL, its parameters written $1, $2; raises what SQLAlchemy raises."""
    within = connection.sync_connection
    if within is None or within.invalidated or _overheard(within):
        result = await connection.exec_driver_sql(words, tuple(parameters))
        return result.all() if result.returns_rows else ()
    if not within.in_transaction():
        _ = await connection.begin()
    adapter: Any = within.connection.dbapi_connection
    driver = adapter.driver_connection
    try:
        if adapter._transaction is None:  # noqa: SLF001
            # The adapter begins a transaction with its first statement, which may be this one. One that it does not
            # know of it would not commit either: there it refuses to begin.
            await adapter._start_transaction()  # noqa: SLF001
        rows: Sequence[Sequence[Any]] = await driver.fetch(words, *parameters)
    except BaseException as error:
        await connection.run_sync(_raise, adapter, words, error)
        raise
    return rows


async def fetch_each(connection: AsyncConnection, statements: Sequence[Statement]) -> list[Sequence[Sequence[Any]]]:
    """The rows of each statement on SQLite, one after another, their parameters written ?; raises what SQLAlchemy does.

    SQLite works in a thread of its own, and going there and back takes as long as a small statement: here once for all.
    """
    within = connection.sync_connection
    if within is None or within.invalidated or _overheard(within):
        return await _one_by_one(connection, statements)
    if not within.in_transaction():
        _ = await connection.begin()
    adapter: Any = within.connection.dbapi_connection
    driver = adapter.driver_connection
    in_its_thread = getattr(driver, "_execute", None)
    if in_its_thread is None:  # a stand-in for aiosqlite that has no thread, and nothing to save
        return await _one_by_one(connection, statements)
    try:
        found: list[Sequence[Sequence[Any]]] = await in_its_thread(_run, driver, statements)
    except BaseException as error:
        await connection.run_sync(_raise, adapter, "; ".join(words for words, _ in statements), error)
        raise
    return found


async def _one_by_one(connection: AsyncConnection, statements: Sequence[Statement]) -> list[Sequence[Sequence[Any]]]:
    results: list[Sequence[Sequence[Any]]] = []
    for words, parameters in statements:
        result = await connection.exec_driver_sql(words, tuple(parameters))
        results.append(result.all() if result.returns_rows else ())
    return results


def _run(driver: Any, statements: Sequence[Statement]) -> list[list[tuple[Any, ...]]]:
    lite = driver._conn  # noqa: SLF001
    return [lite.execute(words, parameters).fetchall() for words, parameters in statements]


def _overheard(within: Connection) -> bool:
    """Whether somebody wants to be told of every statement."""
    heard = within.dispatch
    return bool(heard.before_cursor_execute or heard.after_cursor_execute or within.engine.echo)


def _raise(within: Connection, adapter: Any, words: str, error: BaseException) -> NoReturn:
    """Raise what SQLAlchemy would have raised, and do with the connection what it would have done."""
    try:
        try:
            raise error
        except Exception as plain:
            adapter._handle_exception(plain)  # noqa: SLF001
            raise
    except BaseException as translated:  # noqa: BLE001 - SQLAlchemy raises it, or what it makes of it
        # What is no error of the driver's (a timeout, the end of the task) is raised as it is: without a statement.
        told = words if isinstance(translated, within.dialect.loaded_dbapi.Error) else None
        within._handle_dbapi_exception(translated, told, None, None, None)  # noqa: SLF001
