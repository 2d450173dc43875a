"""SQLite in the loop's own thread: the part of aiosqlite that SQLAlchemy's dialect uses, without a driver's thread.

With no thread there is nothing to wait for, and the order of events is the event loop's, the same in each run.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Self

Work = Callable[[Any, Sequence[Any]], list[Any]]
"""What is done with a connection and several statements; gives what each of them found."""


class Cursor:
    """A cursor whose methods are coroutines that never wait."""

    def __init__(self, raw: sqlite3.Cursor) -> None:
        self._raw = raw
        self.arraysize = 1

    async def __aenter__(self) -> Self:
        return self

    @property
    def description(self) -> Any:
        return self._raw.description

    @property
    def rowcount(self) -> int:
        return self._raw.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._raw.lastrowid

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Self:
        self._raw.execute(statement, parameters)
        return self

    async def executemany(self, statement: str, parameters: Sequence[Sequence[Any]]) -> Self:
        self._raw.executemany(statement, parameters)
        return self

    async def fetchone(self) -> Any:
        return self._raw.fetchone()

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        return self._raw.fetchmany(size or self.arraysize)

    async def fetchall(self) -> list[Any]:
        return self._raw.fetchall()

    async def close(self) -> None:
        self._raw.close()


class _AtOnce:
    """aiosqlite's queue of work for its thread, which SQLAlchemy uses to set the isolation level."""

    def put_nowait(self, work: tuple[asyncio.Future[Any], Callable[[], Any]]) -> None:
        """Do it now, in this thread."""
        future, act = work
        future.set_result(act())


class Connection:
    """What the dialect knows as aiosqlite's connection."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._conn = raw
        self._tx = _AtOnce()
        self._open = True

    @property
    def _connection(self) -> sqlite3.Connection | None:
        # SQLAlchemy looks here whether there is anything to commit or roll back.
        return self._conn if self._open else None

    @property
    def isolation_level(self) -> str | None:
        return self._conn.isolation_level

    def cursor(self) -> Cursor:
        """A new cursor."""
        return Cursor(self._conn.cursor())

    async def commit(self) -> None:
        self._conn.commit()

    async def rollback(self) -> None:
        self._conn.rollback()

    async def close(self) -> None:
        self.stop()

    async def _execute(self, work: Work, driver: Any, statements: Sequence[Any]) -> list[Any]:
        """Do what aiosqlite would do in its thread: `messaging.driver_sqlite` hands it several statements at once."""
        return work(driver, statements)

    async def create_function(self, *given: Any, deterministic: bool = False) -> None:
        self._conn.create_function(*given, deterministic=deterministic)

    def stop(self) -> None:
        """Close without waiting."""
        self._open = False
        self._conn.close()
