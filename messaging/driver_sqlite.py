"""Statements spoken to SQLite's driver, as `messaging.driver` speaks to PostgreSQL's.

SQLite works in a thread of its own, and going there and back takes as long as a small statement.

Names that are not promised are used, all here: of aiosqlite a connection's `_execute`, which calls a function in its
thread, and `_conn`, the `sqlite3.Connection` that lives there (`_connection`: None once it is closed).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.util.concurrency import await_only

from messaging.driver import Statement, overheard, raise_translated


async def fetch_each(connection: AsyncConnection, statements: Sequence[Statement]) -> list[Sequence[Sequence[Any]]]:
    """The rows of each statement, one after another, their parameters written ?; raises what SQLAlchemy raises.

    The thread is asked once for all of them.
    """
    within = connection.sync_connection
    if within is None or within.invalidated or overheard(within):
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
        await connection.run_sync(raise_translated, adapter, "; ".join(words for words, _ in statements), error)
        raise
    return found


def execute_now(within: Connection, words: str) -> None:
    """Execute one statement inside SQLAlchemy; raises what SQLAlchemy raises.

    Its cursor would go to the thread three times: to be made, to execute, to be closed.
    """
    adapter: Any = within.connection.dbapi_connection
    driver = adapter.driver_connection
    in_its_thread = getattr(driver, "_execute", None)
    if in_its_thread is None or overheard(within):
        within.exec_driver_sql(words)
        return
    try:
        await_only(in_its_thread(_run, driver, ((words, ()),)))
    except BaseException as error:  # noqa: BLE001 - SQLAlchemy raises it, or what it makes of it
        raise_translated(within, adapter, words, error)


def in_transaction(adapter: Any) -> bool:
    """Whether there is something to commit or to roll back on a connection of SQLAlchemy's pool, open or closed."""
    lite = adapter.driver_connection._connection  # noqa: SLF001
    return lite is not None and bool(lite.in_transaction)


async def _one_by_one(connection: AsyncConnection, statements: Sequence[Statement]) -> list[Sequence[Sequence[Any]]]:
    results: list[Sequence[Sequence[Any]]] = []
    for words, parameters in statements:
        result = await connection.exec_driver_sql(words, tuple(parameters))
        results.append(result.all() if result.returns_rows else ())
    return results


def _run(driver: Any, statements: Sequence[Statement]) -> list[list[tuple[Any, ...]]]:
    lite = driver._conn  # noqa: SLF001
    return [lite.execute(words, parameters).fetchall() for words, parameters in statements]
