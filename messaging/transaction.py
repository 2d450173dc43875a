"""A write transaction on PostgreSQL, with as little round it as it takes.

SQLAlchemy gives each step of a transaction a greenlet of its own, and the last one a task, because each might have to
speak to the server. Only the first statement and the commit do, as long as all is well. Where it is not, everything is
SQLAlchemy's.
"""

from __future__ import annotations

from types import TracebackType

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction

from messaging import driver


class Transaction:
    """A connection in a transaction that commits when the block ends well; used once."""

    __slots__ = ("_connection",)

    def __init__(self, engine: AsyncEngine) -> None:
        self._connection = engine.connect()

    async def __aenter__(self) -> AsyncConnection:
        connection = await self._connection
        driver.begin(connection)
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._connection
        transaction = connection.get_transaction()
        if error is None and transaction is None and driver.give_back(connection):
            return  # the last statement has committed it
        if error is not None or transaction is None or not transaction.is_active:
            await _undo(connection, transaction, error)
            return
        try:
            await driver.commit(connection)
        except BaseException as failure:
            await _undo(connection, transaction, failure)
            raise
        if not driver.give_back(connection):
            await connection.close()


async def _undo(connection: AsyncConnection, transaction: AsyncTransaction | None, error: BaseException | None) -> None:
    """As SQLAlchemy ends both."""
    told = (None, None, None) if error is None else (type(error), error, error.__traceback__)
    try:
        if transaction is not None:
            await transaction.__aexit__(*told)
    finally:
        await connection.__aexit__(*told)
