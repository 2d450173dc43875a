"""A service's database in memory: SQLite without a file and without a driver's thread, as fast as SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.database import Database
from orchestrator.testing.threadless import Connection


class MemoryDatabase(Database):
    """One SQLite database in memory behind one connection, used by one after another."""

    def __init__(self) -> None:
        async def connect(*_: object, **__: object) -> Connection:
            return Connection(sqlite3.connect(":memory:", isolation_level=None))

        super().__init__("sqlite://", async_creator=connect)

    @property
    def busy(self) -> bool:
        """Whether somebody is in a transaction, or looking."""
        return self._writer is not None and self._writer.locked()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        # A second connection would see another database, so even those who only look take turns.
        async with self._one_writer(), super().reading() as connection:
            yield connection
