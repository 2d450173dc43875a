"""SQLite without threads, as the testing kit has it, whose statements take a while and whose processes die.

The databases are real files in WAL mode, so that a reader sees only what is committed and a killed process leaves
nothing half done behind. Nothing is flushed to the disk: it is the process that dies here, never the machine.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, Protocol, Self

from messaging.database import Database
from orchestrator.testing.threadless import Connection, Cursor, Work
from tests.simulation.life import Killed, Life

LOCK_PATIENCE = 30.0
"""Seconds for which a writer waits for another process's lock, as `messaging.database` asks SQLite to."""

_INSTEAD = {"PRAGMA synchronous=FULL": "PRAGMA synchronous=OFF", "PRAGMA busy_timeout=30000": "PRAGMA busy_timeout=0"}


class Disk(Protocol):
    """The faults of one database, and who wants to know of its commits."""

    def failing(self) -> bool:
        """Whether a transaction cannot begin now."""

    def uncertain(self) -> bool:
        """Whether this commit, though it succeeds, is reported as failed."""

    def committed(self) -> None:
        """A transaction that may have written has just committed."""


class SimCursor(Cursor):
    """A cursor whose statements take a while."""

    def __init__(self, connection: SimConnection, raw: sqlite3.Cursor) -> None:
        super().__init__(raw)
        self._connection = connection

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Self:
        """Run one statement, perhaps after a while. Raises Killed, and what sqlite3 raises."""
        if statement.startswith("BEGIN"):
            await self._connection.begin(statement)
            return self
        await self._connection.ready()
        return await super().execute(_INSTEAD.get(statement, statement), parameters)

    async def executemany(self, statement: str, parameters: Sequence[Sequence[Any]]) -> Self:
        """Run one statement for each of `parameters`."""
        await self._connection.ready()
        return await super().executemany(statement, parameters)


class SimConnection(Connection):
    """A connection of one process to one database file."""

    def __init__(self, raw: sqlite3.Connection, life: Life, disk: Disk) -> None:
        super().__init__(raw)
        self._life = life
        self._disk = disk
        self._writing = False
        life.hold(self)

    def cursor(self) -> SimCursor:
        """A new cursor. Raises Killed."""
        if not self._open:
            raise Killed("this connection's process is dead")
        return SimCursor(self, self._conn.cursor())

    async def _execute(self, work: Work, driver: Any, statements: Sequence[Any]) -> list[Any]:
        """Several statements, handed over at once: each takes a while, and the process may die between two."""
        found: list[Any] = []
        for words, parameters in statements:
            if words.startswith("BEGIN"):
                await self.begin(words)
                found.append([])
            else:
                await self.ready()
                found += work(driver, ((words, parameters),))
        return found

    async def ready(self) -> None:
        """Let a statement's time pass."""
        self._life.reached("statement")
        await self._life.pause()

    async def begin(self, statement: str) -> None:
        """Begin, waiting for another process's lock as long as SQLite would."""
        await self.ready()
        if self._disk.failing():
            raise sqlite3.OperationalError("disk I/O error (the simulation has taken this database away)")
        waited = 0.0
        while True:
            try:
                self._conn.execute(statement)
                break
            except sqlite3.OperationalError:
                if waited >= LOCK_PATIENCE:
                    raise
            await asyncio.sleep(0.01)
            self._life.reached("lock")
            waited += 0.01
        self._writing = "IMMEDIATE" in statement

    async def commit(self) -> None:
        """Commit; a process may die just before or just after. Raises Killed, sqlite3.OperationalError."""
        if not self._writing:
            if self._open:
                await super().commit()
            return
        await self._life.pause()
        self._life.reached("before commit")
        self._conn.commit()
        self._writing = False
        self._disk.committed()
        self._life.reached("after commit")
        await self._life.pause()
        if self._disk.uncertain():
            raise sqlite3.OperationalError("disk I/O error (simulated: the answer to a commit was lost)")

    async def rollback(self) -> None:
        """Undo; a dead process's work is undone already."""
        if self._open:
            await super().rollback()
            self._writing = False

    def stop(self) -> None:
        """Close without waiting."""
        self._life.release(self)
        self.sever()

    def sever(self) -> None:
        """What the operating system does for a dead process: roll back and close."""
        if self._open:
            self._writing = False
            super().stop()


class SimDatabase(Database):
    """A database whose workers have their lanes, as on PostgreSQL.

    One transaction waits for the other, as on any SQLite; what a lane does before and after its own, it does while
    another has begun and not ended.
    """

    @property
    def one_writer(self) -> bool:
        return False

    def anew(self) -> SimDatabase:
        """The same for another life, with an empty pool: whatever an earlier one held or waited for is gone with it."""
        made = copy(self)
        made._writer = asyncio.Lock()
        self.engine.sync_engine.dispose(close=False)
        return made


class Engines:
    """One SQLAlchemy engine a service for all runs of this process, because each compiles its statements anew.

    An engine's connections belong to one life: `database` empties its pool and gives it the next.
    """

    def __init__(self) -> None:
        self._databases: dict[str, SimDatabase] = {}
        self._now: dict[str, tuple[Path, Life, Disk]] = {}

    def database(self, name: str, path: Path, life: Life, disk: Disk) -> Database:
        """The database of this life of a service."""
        self._now[name] = path, life, disk
        if name not in self._databases:
            self._databases[name] = self._made(name)
        return self._databases[name].anew()

    def _made(self, name: str) -> SimDatabase:
        async def connect(*_: Any, **__: Any) -> SimConnection:
            file, whose, faults = self._now[name]
            whose.reached("connect")
            return SimConnection(sqlite3.connect(file, isolation_level=None), whose, faults)

        return SimDatabase("sqlite:///simulated.db", async_creator=connect)
