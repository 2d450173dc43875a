"""Statements spoken to the database's driver, inside SQLAlchemy's connection and transaction.

SQLAlchemy keeps the pool, the transaction, what an error means and what becomes of a connection that is lost; only what
it does round each statement, which costs twice what the driver does, is left out. While somebody listens to statements
(telemetry, a count), they go through SQLAlchemy.

Names that are not promised are used: of SQLAlchemy the adapter's `_transaction`, `_start_transaction` and
`_handle_exception`, the connection's `_handle_dbapi_exception`, `_transaction` and `_echo`, its `_has_events` and its
engine's; of asyncpg a connection's `_transport`, and what `messaging.line` says. SQLite's part is
`messaging.driver_sqlite`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy.engine import Connection, RootTransaction
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import QueuePool

if TYPE_CHECKING:
    from messaging.line import Line

Statement = tuple[str, Sequence[Any]]
"""Its text and its parameters."""


def dialect(connection: AsyncConnection) -> str:
    """The name of the database's kind."""
    within = connection.sync_connection
    return str((connection if within is None else within).dialect.name)


@dataclass(frozen=True, slots=True)
class Ahead:
    """A statement on PostgreSQL that is done for its effect before another one, in one write with it where that can be.

    `plain` is the same with its parameters as text, and has no rows; None: there is none.
    """

    words: str
    parameters: Sequence[Any]
    plain: tuple[str, str] | None


async def fetch(
    connection: AsyncConnection, words: str, parameters: Sequence[Any], *, last: bool = False
) -> Sequence[Sequence[Any]]:
    """The rows of one statement on PostgreSQL, its parameters written $1, $2; raises what SQLAlchemy raises.

    After the `last` one the transaction is committed, where COMMIT can go along with it; `in_transaction` says so.
    """
    within = connection.sync_connection
    if within is None or within.invalidated:
        return await _through_sqlalchemy(connection, words, parameters)
    adapter: Any = within.connection.dbapi_connection
    ours = adapter._transaction  # noqa: SLF001
    begun = type(ours) is _Transaction
    # Who listens is asked once a transaction: it takes as long as to hand a statement over.
    if not begun:
        if overheard(within):
            return await _through_sqlalchemy(connection, words, parameters)
        if not within.in_transaction():
            _ = await connection.begin()
    try:
        if not begun:
            return await _fetch_first(within, adapter, words, parameters)
        line: Line = ours.line
        prepared = line.prepared(words)
        if prepared is None:
            rows: Sequence[Sequence[Any]] = await line.driver.fetch(words, *parameters)
            return rows
        # COMMIT may go along with a statement where BEGIN has, and nothing else.
        if last and not within.in_nested_transaction():
            return await _commit_with(within, adapter, line, prepared, parameters)
        return await line.fetch(prepared, parameters)
    except BaseException as error:
        await connection.run_sync(raise_translated, adapter, words, error)
        raise


async def fetch_behind(
    connection: AsyncConnection, ahead: Ahead, words: str, parameters: Sequence[Any]
) -> Sequence[Sequence[Any]]:
    """The same behind a statement that is done before this one begins."""
    within = connection.sync_connection
    adapter: Any = None if within is None or within.invalidated else within.connection.dbapi_connection
    ours = None if adapter is None else adapter._transaction  # noqa: SLF001
    # Where BEGIN has gone along, the transport can be written to, and nobody listens.
    if type(ours) is _Transaction and ahead.plain is not None:
        line = ours.line
        prepared = line.prepared(words)
        if prepared is not None:
            first, done = line.beside(*ahead.plain)
            try:
                rows = await _written(line, prepared, parameters, first.__add__)
            except BaseException as error:
                await connection.run_sync(raise_translated, adapter, words, error)
                raise
            done()
            return rows
    await fetch(connection, ahead.words, ahead.parameters)
    return await fetch(connection, words, parameters)


async def _fetch_first(
    within: Connection, adapter: Any, words: str, parameters: Sequence[Any]
) -> Sequence[Sequence[Any]]:
    """The rows of a statement where BEGIN has gone along with none."""
    driver = adapter.driver_connection
    line = _line_of(within, driver)
    # What is not prepared yet goes to the server in two exchanges, and only the second one understands what BEGIN
    # answers.
    prepared = None if line is None else line.prepared(words)
    # The adapter begins a transaction with its first statement, which may be this one. One that it does not know of it
    # would not commit either: there it refuses to begin.
    if adapter._transaction is None:  # noqa: SLF001
        if line is not None and prepared is not None and _may_begin_with(adapter, driver):
            return await _begin_with(adapter, line, prepared, parameters)
        await adapter._start_transaction()  # noqa: SLF001
    if line is not None and prepared is not None:
        return await line.fetch(prepared, parameters)
    rows: Sequence[Sequence[Any]] = await driver.fetch(words, *parameters)
    return rows


async def _through_sqlalchemy(
    connection: AsyncConnection, words: str, parameters: Sequence[Any]
) -> Sequence[Sequence[Any]]:
    result = await connection.exec_driver_sql(words, tuple(parameters))
    return result.all() if result.returns_rows else ()


async def commit(connection: AsyncConnection) -> None:
    """Commit on PostgreSQL; raises what SQLAlchemy raises."""
    within = _started(connection)
    adapter: Any = within.connection.dbapi_connection
    transaction = adapter._transaction  # noqa: SLF001
    if transaction is not None:
        try:
            await transaction.commit()
        except BaseException as error:
            adapter._transaction = None  # noqa: SLF001
            await connection.run_sync(raise_translated, adapter, None, error)
            raise
        adapter._transaction = None  # noqa: SLF001
    ended = within.get_transaction()
    if ended is not None:
        # The adapter has nothing to say to the server any more, so this needs no greenlet that could wait.
        ended.__exit__(None, None, None)


def begin(connection: AsyncConnection) -> RootTransaction:
    """Begin a transaction on PostgreSQL, of which the server is told with the first statement.

    As in a `with` block: where it has ended before `commit`, nothing begins another, until the block is left (`leave`).
    """
    begun = _started(connection).begin()
    begun.__enter__()
    return begun


def leave(begun: RootTransaction) -> None:
    """Leave the block of a transaction that has ended, so that its connection may begin another."""
    begun.__exit__(None, None, None)


def begin_ahead(connection: AsyncConnection) -> RootTransaction | None:
    """The same for whoever comes; None where somebody is told of transactions, who would hear of one of nobody's."""
    return None if _told(_started(connection)) else begin(connection)


def end(begun: RootTransaction) -> None:
    """End a transaction in which nothing was said: the server has not heard of it."""
    begun.rollback()
    begun.__exit__(None, None, None)


def give_back(connection: AsyncConnection) -> bool:
    """Put a connection without a transaction back into its pool; returns whether that could be done at once.

    It cannot where the connection is to be closed, which takes a conversation with the server.
    """
    within = connection.sync_connection
    if within is None or within.in_transaction() or within.invalidated:
        return False
    pool = within.engine.pool
    if not isinstance(pool, QueuePool) or pool.checkedin() >= pool.size():
        return False
    within.close()
    return True


def at_rest(connection: AsyncConnection) -> Any | None:
    """The driver's connection, where another transaction may begin on it as if it had just come from the pool."""
    within = connection.sync_connection
    if within is None or within.invalidated or within.in_transaction() or within.get_execution_options():
        return None
    driver: Any = within.connection.driver_connection
    return None if driver.is_in_transaction() else driver


def discard(connection: AsyncConnection) -> None:
    """Let go of a connection that the server has closed; its place in the pool is free."""
    within = _started(connection)
    within.invalidate()
    within.close()


def spare(connection: AsyncConnection) -> bool:
    """Whether its pool has as many connections left as are in use, so that nobody has to wait for this one."""
    within = connection.sync_connection
    pool = None if within is None else within.engine.pool
    return isinstance(pool, QueuePool) and pool.checkedout() * 2 <= pool.size()


def _started(connection: AsyncConnection) -> Connection:
    within = connection.sync_connection
    if within is None:
        raise InvalidRequestError("the connection has not been started, or is closed")
    return within


_SYNC = b"S\0\0\0\4"


BEGINS_WITH = ("0.32.0",)
"""The releases of asyncpg that take what BEGIN answers for more of a statement's, and of which `messaging.line` knows
the inside; with any other BEGIN goes alone, and all statements through asyncpg's connection."""


@lru_cache(maxsize=1)
def begins_with_statements() -> bool:
    """Whether the installed asyncpg is one that BEGIN and a statement have been sent together with."""
    return metadata.version("asyncpg") in BEGINS_WITH


_LINE = "amends.line"
"""Where a connection's `info` holds its `Line`."""


def _line_of(within: Connection, driver: Any) -> Line | None:
    """On what prepared statements are spoken; None with a driver that has not been tried."""
    info = within.info
    found: Line | None = info.get(_LINE)
    if found is not None and found.driver is driver:
        return found
    if not begins_with_statements() or getattr(driver, "_protocol", None) is None:  # or a stand-in for asyncpg
        return None
    # It loads asyncpg, which a process on SQLite has no use for.
    from messaging.line import Line

    found = info[_LINE] = Line(driver)
    return found


def _may_begin_with(adapter: Any, driver: Any) -> bool:
    """Whether BEGIN may go to the server in one write with a prepared statement."""
    if adapter.isolation_level is not None or adapter.readonly or adapter.deferrable:
        return False
    # Another loop's transport cannot be written to in our stead.
    return hasattr(driver._transport, "__dict__") and not driver.is_in_transaction()  # noqa: SLF001


async def _begin_with(adapter: Any, line: Line, statement: Any, parameters: Sequence[Any]) -> Sequence[Sequence[Any]]:
    """Send BEGIN and a prepared statement together.

    asyncpg takes what BEGIN answers for more of what the statement does, and an error of either for the statement's.
    It is the write that begins: parameters that cannot be sent leave no transaction behind.
    """
    begin, done = line.beside("BEGIN")

    def begin_and(said: bytes) -> bytes:
        adapter._transaction = _Transaction(line)  # noqa: SLF001
        return begin + said

    rows = await _written(line, statement, parameters, begin_and)
    done()
    return rows


async def _written(
    line: Line, statement: Any, parameters: Sequence[Any], make: Callable[[bytes], bytes]
) -> Sequence[Sequence[Any]]:
    """Send a prepared statement as what `make` makes of its bytes."""
    transport = line.driver._transport  # noqa: SLF001

    def write(said: bytes) -> None:
        del transport.write
        transport.write(make(bytes(said)))

    transport.write = write
    try:
        return await line.fetch(statement, parameters)
    finally:
        vars(transport).pop("write", None)


async def _commit_with(
    within: Connection, adapter: Any, line: Line, statement: Any, parameters: Sequence[Any]
) -> Sequence[Sequence[Any]]:
    """Send a prepared statement and COMMIT together: what fails in the statement has the server leave out the rest.

    asyncpg takes what COMMIT answers for more of what the statement does, and an error of either for the statement's.
    """
    commit, done = line.beside("COMMIT")

    def and_commit(said: bytes) -> bytes:
        # Without the Sync that it ends with there is nothing to put anything before: COMMIT then goes alone.
        return said[: -len(_SYNC)] + commit + _SYNC if said.endswith(_SYNC) else said

    try:
        rows = await _written(line, statement, parameters, and_commit)
    finally:
        if not line.driver.is_in_transaction():
            # Committed, or undone by a COMMIT that has failed: in neither case is there anything left to end.
            adapter._transaction = None  # noqa: SLF001
    if adapter._transaction is None:  # noqa: SLF001
        done()
        ended = within.get_transaction()
        if ended is not None:
            # Its block goes on, and takes no further statement; see `commit`.
            _committed(within, ended)
    return rows


def _committed(within: Connection, ended: RootTransaction) -> None:
    """Have SQLAlchemy know that its transaction is committed: as it does it itself, where nobody is to be told.

    By way of the adapter, which has nothing to say any more, that takes 14 us more where the caches are cold, and what
    the transaction has written waits for it.
    """
    if _told(within) or within.get_nested_transaction() is not None:
        ended.commit()
        return
    ended.is_active = False
    within._transaction = None  # noqa: SLF001


def _told(within: Connection) -> bool:
    """Whether somebody wants to be told of what becomes of a transaction."""
    return bool(within._has_events or within.engine._has_events or within._echo)  # noqa: SLF001


class _Transaction:
    """By which the adapter ends what it has not begun itself."""

    __slots__ = ("line",)

    def __init__(self, line: Line) -> None:
        self.line = line

    async def commit(self) -> None:
        await self.line.driver.execute("COMMIT")

    async def rollback(self) -> None:
        # Also where nobody heard whether it has begun: PostgreSQL then warns that there is none.
        await self.line.driver.execute("ROLLBACK")


def overheard(within: Connection) -> bool:
    """Whether somebody wants to be told of every statement."""
    engine = within.engine
    if not (within._has_events or engine._has_events):  # noqa: SLF001 - to ask for each event takes a dozen calls
        return bool(engine.echo)
    heard = within.dispatch
    return bool(heard.before_cursor_execute or heard.after_cursor_execute or engine.echo)


def raise_translated(within: Connection, adapter: Any, words: str | None, error: BaseException) -> NoReturn:
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
