"""A write transaction on PostgreSQL, with as little round it as it takes.

SQLAlchemy gives each step of a transaction a greenlet of its own, and the last one a task, because each might have to
speak to the server. Only the first statement and the commit do, as long as all is well. Where it is not, everything is
SQLAlchemy's.

To get a connection from the pool and to give it back takes as long as to begin and to commit on it. So the last one
that has written leaves its own for the next one (`KeptConnection`), while they follow each other.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from sqlalchemy.engine import RootTransaction
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction

from messaging import driver

UNUSED = 1.0
"""Seconds, to twice as many, after which a connection goes back that nobody has written on."""


class KeptConnection:
    """At most one connection of a database's, at rest between two transactions.

    The next one is begun on it already, of which the server hears with its first statement: whoever takes it has a
    message in hand, and whoever has left it has not.
    """

    __slots__ = ("_begun", "_checked", "_closing", "_doubted", "_driver", "_resting", "_timer", "_used")

    def __init__(self) -> None:
        self._resting: AsyncConnection | None = None
        self._driver: Any = None
        """The driver's connection of the one that rests."""
        self._begun: RootTransaction | None = None
        """What is begun on it; None where that has to wait for whoever takes it."""
        self._checked: AsyncConnection | None = None
        """The one of which the pool had enough others when it was asked last."""
        self._doubted = False
        """Whether another one was lost while this one rested."""
        self._used = False
        """Whether somebody has written on it since the timer was set."""
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def resting(self) -> bool:
        """Whether there is one that nobody uses at the moment."""
        return self._resting is not None

    def take(self) -> tuple[AsyncConnection, RootTransaction] | None:
        """The connection and what is begun on it, if there is one and the server has not closed it meanwhile."""
        connection, self._resting = self._resting, None
        if connection is None:
            return None
        if not (self._doubted or self._driver.is_closed()):
            return connection, self._begun or driver.begin(connection)
        self._end()
        driver.discard(connection)
        return None

    def doubt(self) -> None:
        """Another connection to the server was lost: as the pool's, the one that rests is not used again.

        It may have been lost as well, and nobody has heard of it: whoever tries once more is to have a new one.
        """
        self._doubted = True

    def keep(self, connection: AsyncConnection) -> bool:
        """Keep this one, unless there is one, or it is in a transaction, or others need it; returns whether it is."""
        if self._resting is not None:
            return False
        self._driver = driver.at_rest(connection)
        if self._driver is None:
            return False
        if connection is not self._checked:
            if not driver.spare(connection):
                return False
            self._checked = connection
        self._begun = driver.begin_ahead(connection)
        self._resting, self._used, self._doubted = connection, True, False
        if self._timer is None:
            self._set()
        return True

    async def close(self) -> None:
        """Give back what is kept."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        connection, self._resting, self._checked = self._resting, None, None
        if connection is not None:
            self._end()
            await connection.close()
        if self._closing is not None:
            await self._closing

    def _set(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(UNUSED, self._look)

    def _look(self) -> None:
        self._timer = None
        used, self._used = self._used, False
        self._checked = None  # the pool may have fewer by now
        if used:
            self._set()
        elif self._resting is not None:
            connection, self._resting = self._resting, None
            self._end()
            self._give_back(connection)

    def _end(self) -> None:
        if self._begun is not None:
            driver.end(self._begun)

    def _give_back(self, connection: AsyncConnection) -> None:
        if not driver.give_back(connection):
            self._closing = asyncio.create_task(connection.close(), name="a connection that was kept is closed")


class Transaction:
    """A connection in a transaction that commits when the block ends well; used once."""

    __slots__ = ("_begun", "_connection", "_engine", "_kept")

    def __init__(self, engine: AsyncEngine, kept: KeptConnection) -> None:
        self._engine = engine
        self._kept = kept
        self._connection: AsyncConnection

    async def __aenter__(self) -> AsyncConnection:
        kept = self._kept.take()
        if kept is None:
            connection = self._connection = await self._engine.connect()
            self._begun = driver.begin(connection)
            return connection
        self._connection, self._begun = kept
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._connection
        transaction = connection.get_transaction()
        if error is None and transaction is None:
            driver.leave(self._begun)  # the last statement has committed it
            if self._kept.keep(connection) or driver.give_back(connection):
                return
        if error is not None or transaction is None or not transaction.is_active:
            await _undo(connection, transaction, error)
            return
        try:
            await driver.commit(connection)
        except BaseException as failure:
            await _undo(connection, transaction, failure)
            raise
        if not (self._kept.keep(connection) or driver.give_back(connection)):
            await connection.close()


async def _undo(connection: AsyncConnection, transaction: AsyncTransaction | None, error: BaseException | None) -> None:
    """As SQLAlchemy ends both."""
    told = (None, None, None) if error is None else (type(error), error, error.__traceback__)
    try:
        if transaction is not None:
            await transaction.__aexit__(*told)
    finally:
        await connection.__aexit__(*told)
