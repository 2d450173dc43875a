"""A service's own database: one engine, short write transactions, and which errors pass by themselves.

PostgreSQL (asyncpg) in production; SQLite (aiosqlite, WAL, synchronous=FULL, BEGIN IMMEDIATE) embedded, with one
writer at a time: the writers of this process queue here, in order, instead of polling SQLite's lock.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import PoolResetState

from messaging import database_tls, driver_sqlite
from messaging.transaction import KeptConnection, Transaction

SQLITE_BUSY_SECONDS = 30
"""How long another *process* may hold SQLite's write lock before we give up and try again."""
CONNECT_SECONDS = 10.0
COMMAND_SECONDS = 60.0
"""How long one statement may take: far longer than any of ours, far shorter than for ever."""

_FORMS = "postgresql://user:password@host:5432/name or sqlite:///file.db"

# SQLSTATE classes and codes that say "try the same thing again": connection, serialization and deadlock, lock not
# available, resources, operator intervention, idle session, read-only transaction (PostgreSQL, appendix A).
_READ_ONLY = "25006"
_PASSING_STATES = ("08", "40", "53", "57", "55P03", "25P03", _READ_ONLY)
_SLOW_STATES = ("57014", "55P03")
_UNIQUE = "23505"
_HELD_STATES = ("55P03", "40P01")
# A migration has changed the result of a statement that was prepared before it; it is prepared anew.
_STALE = "InvalidCachedStatementError"
_UNUSABLE = "InternalClientError"
# The operating system's refusals: the same again is refused again, until a person has done something about it.
_LASTING = (PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError, ssl.SSLCertVerificationError)

_UNKNOWN_USER = ("28000", "28P01")
_NO_DATABASE = "3D000"
_MAY_NOT = "42501"
"""SQLSTATE: invalid authorization or password, invalid catalog, insufficient privilege (PostgreSQL, appendix A)."""

DATABASE_ERRORS = (DBAPIError, OSError, PoolTimeout)
"""What a database that is away may raise; `is_transient` then tells whether it is that, or a mistake."""


class Conflict(Exception):
    """Another process has moved a row between our reading and our writing it; the same work, done again, will do."""


class Unforeseen(Conflict):
    """What was written with the commit has met rows that have to be looked at before one; nothing is committed."""


class Database:
    """Where a service keeps its rows.

    `url` is a SQLAlchemy URL; `postgresql://` and `sqlite://` without a driver get the asynchronous one.
    `command_seconds` bounds one statement on PostgreSQL (None: not at all, for migrations).
    `by_index` says that all its statements find their rows by an index, as a service's do: PostgreSQL then scans no
    table that has one for them, and plans each statement once. Otherwise a statement planned while its table was small
    would scan it, grown, until the next ANALYZE; and an outbox is small again and again.
    `async_creator` hands in driver connections (a simulation's); everyone else leaves it out.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        pool_size: int = 5,
        command_seconds: float | None = COMMAND_SECONDS,
        by_index: bool = False,
        async_creator: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        self.url = with_async_driver(url)
        self.dialect = self.url.get_backend_name()
        # Values of statements are customers' data; an error that quotes them ends in logs.
        options: dict[str, Any] = {"pool_pre_ping": False, "pool_recycle": -1, "hide_parameters": True}
        if async_creator is not None:
            options["async_creator"] = async_creator
        if self.dialect == "sqlite":
            options["connect_args"] = {"timeout": SQLITE_BUSY_SECONDS}
            options["pool_reset_on_return"] = None  # that is done below
        else:
            options |= {"pool_size": pool_size, "max_overflow": pool_size, "pool_timeout": 10}
            # Who has a connection alone finds the server's process as the last one left it, its plans and its caches.
            options["pool_use_lifo"] = True
            # A server that falls silent on an open connection would otherwise be waited for for ever.
            options["connect_args"] = {"timeout": CONNECT_SECONDS, "command_timeout": command_seconds}
        plain, certificates = database_tls.apart(self.url)
        if certificates:
            options["connect_args"]["dsn"] = certificates
        self.engine: AsyncEngine = create_async_engine(plain, **options)
        self.kept = KeptConnection()
        """What writes on PostgreSQL leaves for what writes next."""
        self._writer = asyncio.Lock() if self.dialect == "sqlite" else None
        if self.dialect == "sqlite":
            _prepare_sqlite(self.engine)
        else:
            _keep_no_transaction(self.engine)
            _leave_standbys(self.engine)
            _doubt_with_the_pool(self.engine, self.kept)
            if by_index:
                _prefer_indexes(self.engine)

    def __repr__(self) -> str:
        return f"Database({shown(self.url)!r})"

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection in a write transaction that commits when the block ends well."""
        return self._writing() if self.dialect == "sqlite" else Transaction(self.engine, self.kept)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        async with self._one_writer(), self.engine.connect() as connection:
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def session(self, **info: Any) -> AsyncIterator[AsyncSession]:
        """An ORM session in a write transaction that commits when the block ends well.

        `info` lies in `session.info`; `emit` looks there for its relay, clock and ids.
        """
        async with self._one_writer(), AsyncSession(self.engine, info=info) as session:
            async with session.begin():
                yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for looking only: waits for no writer and holds none up."""
        async with self.engine.connect() as connection:
            yield await connection.execution_options(amends_read_only=True)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """The same, and all its queries see one and the same moment, whatever is committed meanwhile."""
        async with self.reading() as connection:
            if self.dialect == "postgresql":  # SQLite's readers see nothing else
                yield await connection.execution_options(isolation_level="REPEATABLE READ")
            else:
                yield connection

    async def ping(self) -> None:
        """Raise what a query raises when the database is away."""
        async with self.reading() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.kept.close()
        await self.engine.dispose()

    @property
    def one_writer(self) -> bool:
        """Whether there is one write transaction at a time, whoever wants more."""
        return self._writer is not None

    def _one_writer(self) -> AbstractAsyncContextManager[Any]:
        return self._writer if self._writer is not None else nullcontext()


def with_async_driver(url: str | URL) -> URL:
    """The URL with asyncpg or aiosqlite as its driver.

    Raises ValueError for what is no URL and for any other database, showing the two forms and never the URL itself,
    and for certificates that cannot be used.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Without the original: its text could show the password.
        raise ValueError(f"this is no database URL; write {_FORMS}") from None
    if "@" in (parsed.host or ""):
        # Part of a password, most likely, and the host is shown in logs.
        raise ValueError("there is an @ too many; in a user or password write it as %40, a slash as %2F")
    match parsed.get_backend_name():
        case "postgresql" | "postgres":
            known = parsed.set(drivername="postgresql+asyncpg")
            database_tls.check(known)
            return known
        case "sqlite":
            return parsed.set(drivername="sqlite+aiosqlite")
        case other:
            raise ValueError(f"{other!r} is no database that Amends runs on; write {_FORMS}")


def missing_directory(url: URL) -> str | None:
    """The directory that SQLite would need for this file and that is not there."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith((":", "file:")):
        return None
    directory = Path(url.database).parent
    return None if directory.is_dir() else str(directory)


def shown(url: str | URL) -> str:
    """The URL as people write it, without the driver and its parameters, and never with a password."""
    parsed = make_url(url)
    return parsed.set(drivername=parsed.get_backend_name(), query={}).render_as_string(hide_password=True)


def no_database(url: str | URL, error: BaseException, variable: str = "DATABASE_URL") -> str | None:
    """One line for people where `variable` names a file that is no database, or none any more; else None."""
    said = in_words(error)
    if said == "file is not a database":
        return f"{shown(url)} is no SQLite database; set {variable} to one"
    return f"{shown(url)} is damaged ({said}); restore it from a backup" if "malformed" in said else None


def turns_away(error: BaseException) -> bool:
    """Whether a server answers and does not let us in: a user, a password or a database that it does not know."""
    return _state(error) in (*_UNKNOWN_USER, _NO_DATABASE)


def may_not(error: BaseException) -> bool:
    """Whether the server refuses it to this user, and not to others."""
    return _state(error) == _MAY_NOT


_IN_THE_WAY = {
    "locked": f"another process has held it for {SQLITE_BUSY_SECONDS} s: let that end, or end it",
    "full": "make room on its disk",
}


def does_not_answer(url: str | URL, error: BaseException, variable: str = "DATABASE_URL") -> str:
    """One line for people: which database is not to be had, what it said, what to do. Never a password."""
    plain = shown(url)
    if plain.startswith("sqlite"):
        said = in_words(error)
        way = next((words for sign, words in _IN_THE_WAY.items() if sign in said), "let us read and write there")
        return f"{plain} cannot be used: {said}; {way}, or set {variable}"
    mend = database_tls.hint(make_url(url), in_words(error))
    if _state(error) in _UNKNOWN_USER:
        mend = mend or "check the user and password"
        return f"{plain} refuses user {make_url(url).username!r}: {in_words(error)}; {mend}"
    if _state(error) == _NO_DATABASE:
        return f"{plain} is not there: {in_words(error)}; make it, or set {variable} to one that is"
    return f"{plain} does not answer: {in_words(error)}; {mend or f'start it, or set {variable}'}"


def _state(error: BaseException) -> str | None:
    state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return None if state is None else str(state)


def in_words(error: BaseException) -> str:
    """What the database said, without the statement and its values: for logs and for people."""
    said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    # SQLAlchemy's own adapters put the driver's class in front.
    return re.sub(r"^<class '[^']*'>: ", "", str(said)) or type(said).__name__


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may succeed if it is simply run again."""
    if isinstance(error, (OSError, PoolTimeout, Conflict)):
        return not isinstance(error, _LASTING)
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated or type(error.orig).__name__ == _STALE:
        return True
    state = _state(error)
    if state is not None:
        return state.startswith(_PASSING_STATES)
    if isinstance(error, OperationalError):
        # SQLite has no SQLSTATE; its operational errors are also typing mistakes.
        words = str(error.orig).lower()
        return any(sign in words for sign in ("locked", "busy", "disk i/o", "unable to open", "full"))
    return isinstance(error, InterfaceError)


def took_too_long(error: BaseException) -> bool:
    """Whether a statement was cut short for its time: by the server's bound, by ours, or by whoever holds its rows.

    Said of what a transaction has raised; of an attempt to connect, the same error says that the database is away.
    """
    if isinstance(error, TimeoutError):
        return True
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _SLOW_STATES


def held_up(error: BaseException) -> bool:
    """Whether another transaction holds what this one wanted to lock: for too long, or each waited for the other."""
    return _state(error) in _HELD_STATES


def collided(error: BaseException) -> bool:
    """Whether another transaction was in the way of this one: its revision, its lock, a deadlock, its snapshot."""
    return isinstance(error, Conflict) or (_state(error) or "").startswith("40")


def there_already(error: BaseException) -> bool:
    """Whether PostgreSQL has found a row that was to be inserted."""
    return _state(error) == _UNIQUE


def rolled_back(error: BaseException) -> bool:
    """Whether nothing of the transaction was committed for sure, and the same again may succeed."""
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return is_transient(error) and not lost


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        # The driver must not open transactions of its own: BEGIN is ours, below.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={SQLITE_BUSY_SECONDS * 1000}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        read_only = connection.get_execution_options().get("amends_read_only", False)
        driver_sqlite.execute_now(connection, "BEGIN" if read_only else "BEGIN IMMEDIATE")

    @event.listens_for(engine.sync_engine, "reset")
    def reset(connection: Any, _record: Any, state: PoolResetState) -> None:
        # Behind a commit there is nothing to roll back, and SQLAlchemy would send the thread to see.
        if state.asyncio_safe and not state.transaction_was_reset and driver_sqlite.in_transaction(connection):
            connection.rollback()


def _keep_no_transaction(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "checkin")
    def let_go(connection: Any, record: Any) -> None:
        # A BEGIN that we did not wait for to the end may have begun all the same: nobody would ever commit it.
        if connection is not None and connection.driver_connection.is_in_transaction():
            record.invalidate()


def _leave_standbys(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "handle_error")
    def told(context: ExceptionContext) -> None:
        # A server that was demoted while we were connected to it: where the address leads to by now, it may be another.
        if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
            context.is_disconnect = True
        # It was ended while it was being opened: asyncpg has read the server's last words, and its end not yet. Once it
        # is open, SQLAlchemy asks it whether it is closed.
        if context.connection is None and type(context.original_exception).__name__ == _UNUSABLE:
            context.is_disconnect = True


def _doubt_with_the_pool(engine: AsyncEngine, kept: KeptConnection) -> None:
    @event.listens_for(engine.sync_engine, "invalidate")
    def lost(_connection: Any, _record: Any, error: BaseException | None) -> None:
        if error is not None:
            kept.doubt()


def _prefer_indexes(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SET enable_seqscan = off")
        # The price of the scans that are left looks as if compiling a statement paid.
        cursor.execute("SET jit = off")
        # A plan for just these values looks cheaper where they are few, and is made anew each time: for a lone message
        # that takes longer than to execute it.
        cursor.execute("SET plan_cache_mode = force_generic_plan")
        cursor.close()
        connection.commit()
