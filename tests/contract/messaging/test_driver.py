"""Statements spoken to PostgreSQL's driver: in SQLAlchemy's transaction, and with SQLAlchemy's errors.

Each holds for what is spoken to the driver, also where that is prepared and begins the transaction in the same round
trip, and for what goes through SQLAlchemy because somebody listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from messaging import bulk
from messaging.database import Database, Unforeseen, in_words, is_transient, took_too_long
from messaging.driver import Ahead, begins_with_statements, fetch
from messaging.plans import array_text, exactly
from messaging.shapes import Update
from tests.contract.messaging.door import Door

_metadata = MetaData()
shelf = Table("shelf", _metadata, Column("id", Integer, primary_key=True), Column("name", Text))
PAUSE = (("pause", "pg_sleep(120)::text"),)


@pytest.fixture(params=["direct", "prepared", "overheard"])
async def database(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[Database]:
    """PostgreSQL with two rows; overheard, every statement is told to somebody."""
    database = Database(postgres_url, command_seconds=5)
    async with database.transaction() as connection:
        await connection.run_sync(_metadata.create_all)
        await _insert(connection, 1, 2)
    if request.param == "prepared":
        await _prepare(database)
    if request.param == "overheard":
        event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *_: None)
    yield database
    await database.close()


async def _prepare(database: Database) -> None:
    """Have the statements of the tests prepared; nothing is changed."""
    async with database.transaction() as connection:
        await _insert(connection, 9)
        await _name(connection, 9, "x")
        await _finish(connection, 9, "x")
        await bulk.delete(connection, shelf.c.id, [9])
        await bulk.select(connection, (shelf.c.id,), shelf.c.id, [9])
        await bulk.select(connection, (shelf.c.id,), shelf.c.id, [9], computed=PAUSE)


async def _insert(connection: AsyncConnection, *ids: int) -> None:
    await bulk.insert(connection, shelf, ("id",), [{"id": each} for each in ids])


async def _finish(connection: AsyncConnection, identity: int, name: str) -> None:
    """Name one as the last thing in a transaction; it has to be there, or nothing is kept."""
    writes = bulk.Writes()
    named = writes.update(shelf, ("id",), ("name",), [{"id": identity, "name": name}])
    named.guard = exactly(1)
    await writes.run_last(connection)


async def _names(database: Database) -> dict[int, str | None]:
    async with database.reading() as connection:
        return {row.id: row.name for row in await connection.execute(text("SELECT id, name FROM shelf"))}


async def _name(connection: AsyncConnection, identity: int, name: str) -> int:
    return await bulk.update(connection, shelf, ("id",), ("name",), [{"id": identity, "name": name}])


async def _ids(database: Database) -> list[int]:
    async with database.reading() as connection:
        return [row.id for row in await connection.execute(text("SELECT id FROM shelf ORDER BY id"))]


async def _backend(connection: AsyncConnection) -> int:
    return int((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def _kill(database: Database, backend: int) -> None:
    async with database.reading() as connection:
        await connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": backend})


async def test_the_first_statement_of_a_transaction_is_in_it(database: Database) -> None:
    """Rolled back it leaves nothing, and nobody sees it before the commit."""

    async def undone(connection: AsyncConnection) -> None:
        await _insert(connection, 3)
        raise LookupError

    assert type(await _failing(database, undone)) is LookupError
    assert await _ids(database) == [1, 2]
    async with database.transaction() as connection:
        await _insert(connection, 4)
        assert await _ids(database) == [1, 2]
    assert await _ids(database) == [1, 2, 4]


async def test_a_connection_that_nobody_has_begun_on_begins_by_itself(database: Database) -> None:
    """As with every statement of SQLAlchemy's: without a commit nothing stays."""
    async with database.engine.connect() as connection:
        await _insert(connection, 3)
        assert connection.in_transaction()
    async with database.engine.connect() as connection:
        await _insert(connection, 4)
        await connection.commit()
    assert await _ids(database) == [1, 2, 4]


async def test_a_transaction_that_nobody_would_commit_is_not_written_in(database: Database) -> None:
    """Where one is open that SQLAlchemy does not know of, writing fails and says so; it does not look committed."""

    async def write(connection: AsyncConnection) -> None:
        raw: Any = await connection.get_raw_connection()
        await raw.driver_connection.execute("BEGIN")
        await _insert(connection, 3)

    error = await _failing(database, write)
    assert isinstance(error, DBAPIError)
    assert is_transient(error)
    assert await _ids(database) == [1, 2]


async def test_a_connection_that_comes_back_in_a_transaction_is_thrown_away(database: Database) -> None:
    """Whoever gets the next one writes in a transaction of his own."""
    async with database.engine.connect() as connection:
        raw: Any = await connection.get_raw_connection()
        await raw.driver_connection.execute("BEGIN")
    async with database.transaction() as connection:
        await _insert(connection, 3)
    assert await _ids(database) == [1, 2, 3]


async def test_a_snapshot_is_one(database: Database) -> None:
    """The isolation that was asked for holds also where the first statement is ours."""
    columns, level = (shelf.c.id,), (("level", "current_setting('transaction_isolation')"),)
    async with database.snapshot() as connection:
        before = await bulk.select(connection, columns, shelf.c.id, [1, 3], computed=level)
        async with database.transaction() as other:
            await _insert(other, 3)
        after = await bulk.select(connection, columns, shelf.c.id, [1, 3], computed=level)
    assert [tuple(row) for row in before] == [tuple(row) for row in after] == [(1, "repeatable read")]


async def _failing(database: Database, act: Callable[[AsyncConnection], Awaitable[Any]]) -> BaseException:
    """What is raised out of a transaction; the database is as usable afterwards as before."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which it is, its tests say
        async with database.transaction() as connection:
            await act(connection)
    async with asyncio.timeout(30), database.transaction() as connection:
        assert await _name(connection, 1, "usable") == 1
    return raised.value


def _state(error: BaseException) -> str:
    assert isinstance(error, DBAPIError)
    return str(getattr(error.orig, "sqlstate", None))


async def test_a_key_that_is_taken_is_an_integrity_error(database: Database) -> None:
    """It names the constraint and quotes the statement; it does not pass by itself."""
    error = await _failing(database, lambda connection: _insert(connection, 2))
    assert isinstance(error, IntegrityError)
    assert (_state(error), is_transient(error), error.connection_invalidated) == ("23505", False, False)
    assert in_words(error).startswith('duplicate key value violates unique constraint "shelf_pkey"')
    assert "INSERT INTO shelf" in str(error)


async def test_what_cannot_be_sent_begins_nothing(database: Database) -> None:
    """Parameters that are none of the column's are an error of theirs, and no transaction stays open."""
    error = await _failing(database, lambda connection: bulk.delete(connection, shelf.c.id, ["no number"]))
    assert isinstance(error, DBAPIError)
    assert (is_transient(error), error.connection_invalidated) == (False, False)
    assert "no number" in in_words(error)
    assert await _ids(database) == [1, 2]


async def test_a_transaction_that_has_failed_takes_nothing_more(database: Database) -> None:
    """Whoever goes on after an error gets another; nothing of before or after is kept."""

    async def go_on(connection: AsyncConnection) -> None:
        await _insert(connection, 3)
        with pytest.raises(IntegrityError):
            await _insert(connection, 2)
        await _insert(connection, 4)

    error = await _failing(database, go_on)
    assert _state(error) == "25P02"
    assert await _ids(database) == [1, 2]


async def test_what_was_rolled_back_within_is_not_begun_again(database: Database) -> None:
    """A block whose transaction is over takes no further statement, that would be committed without those before it."""

    async def go_on(connection: AsyncConnection) -> None:
        await _insert(connection, 3)
        await connection.rollback()
        await _insert(connection, 4)

    error = await _failing(database, go_on)
    assert isinstance(error, InvalidRequestError)
    assert await _ids(database) == [1, 2]


async def test_a_commit_that_fails_says_so(database: Database) -> None:
    """What PostgreSQL checks at the end only is an error like that of a statement, and nothing is kept."""
    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE shelf ADD UNIQUE (name) DEFERRABLE INITIALLY DEFERRED"))
        await _name(connection, 1, "taken")

    async def take(connection: AsyncConnection) -> None:
        await _insert(connection, 3)
        await _name(connection, 2, "taken")

    error = await _failing(database, take)
    assert isinstance(error, IntegrityError)
    assert (_state(error), is_transient(error), error.connection_invalidated) == ("23505", False, False)
    assert await _ids(database) == [1, 2]


async def test_what_goes_ahead_is_done_before_what_it_goes_ahead_of_begins(database: Database) -> None:
    """A lock that is waited for: what is read behind it is what whoever had it has left."""

    async def read_behind() -> list[Any]:
        async with database.transaction() as connection:
            await _insert(connection, 3)
            reads = bulk.Writes()
            found = reads.select((shelf.c.name,), shelf.c.id, [1])
            plain = "SELECT 1 WHERE pg_advisory_xact_lock($1::bigint) IS NULL", "7"
            await reads.run(connection, ahead=Ahead("SELECT pg_advisory_xact_lock($1)", (7,), plain))
            return found.values

    async with database.transaction() as connection:  # its statement is prepared on the connection that is kept
        await bulk.select(connection, (shelf.c.name,), shelf.c.id, [1])
    async with database.engine.connect() as holder:
        await holder.execute(text("SELECT pg_advisory_xact_lock(7)"))
        await holder.execute(text("UPDATE shelf SET name = 'left' WHERE id = 1"))
        reading = asyncio.create_task(read_behind())
        async with asyncio.timeout(30):
            while not await _waits_for(database, "advisory"):  # noqa: ASYNC110 - the server announces nothing
                await asyncio.sleep(0.01)
        await holder.commit()
    assert await reading == ["left"]


async def test_what_fails_ahead_is_the_statements_error(database: Database) -> None:
    """Nothing of the transaction is kept."""

    async def act(connection: AsyncConnection) -> None:
        await _insert(connection, 3)
        reads = bulk.Writes()
        reads.select((shelf.c.id,), shelf.c.id, [9])
        await reads.run(connection, ahead=Ahead("SELECT 1 / $1::int", (0,), ("SELECT 1 WHERE 1 / $1::int = 9", "0")))

    error = await _failing(database, act)
    assert (_state(error), is_transient(error)) == ("22012", False)
    assert await _ids(database) == [1, 2]


async def test_an_array_is_read_as_it_was_written(database: Database) -> None:
    """Also one of texts that anybody may have sent: quotes, braces, what looks like no value, and none at all."""
    hostile = ["", "NULL", "null", '"', "\\", '\\"', '","', "{a,b}", "}", "a b", " ", "\n\t", "'; --", "ä𝄞", "$1"]
    assert array_text([]) == "{}"
    assert array_text([7, -8]) == '{"7","-8"}'
    assert array_text(['a"b', "c\\"]) == '{"a\\"b","c\\\\"}'
    async with database.reading() as connection:
        words = "SELECT $1::text::text[], $2::text::bigint[], $3::text::text[]"
        (row,) = await fetch(connection, words, [array_text(hostile), array_text([7, -8, 2**63 - 1]), array_text([])])
    assert [*row] == [hostile, [7, -8, 9223372036854775807], []]


async def test_what_is_written_last_is_committed(database: Database) -> None:
    """With all that was written before it, and others see it at once where COMMIT has gone along."""
    async with database.transaction() as connection:
        await _insert(connection, 3)
        await _finish(connection, 3, "kept")
        assert (3 in await _ids(database)) is not connection.in_transaction()
    assert await _names(database) == {1: None, 2: None, 3: "kept"}


async def test_what_was_not_foreseen_undoes_all(database: Database) -> None:
    """What is written last finds another number of rows than it has to: nothing is kept, and the same may be tried."""

    async def act(connection: AsyncConnection) -> None:
        await _insert(connection, 3)
        await _finish(connection, 4, "nobody")

    error = await _failing(database, act)
    assert (type(error), is_transient(error)) == (Unforeseen, True)
    assert await _ids(database) == [1, 2]
    # What stands in the server's log, where an operator finds it.
    assert "amends: no fault, undone to be done again" in in_words(error.__cause__ or error)


async def test_an_error_in_what_is_written_last_is_its_own(database: Database) -> None:
    """COMMIT is left out; a cast of the statement's own that fails is not taken for its guard's."""
    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE shelf ADD CHECK (name <> 'refused')"))
        await connection.execute(text("ALTER TABLE shelf ADD CHECK (name <> '1 / 0' OR 1 / (length(name) - 5) = 1)"))
        await connection.execute(text("ALTER TABLE shelf ADD CHECK (name <> 'one' OR name::int = 1)"))

    async def fail(name: str) -> DBAPIError:
        async def act(connection: AsyncConnection) -> None:
            await _insert(connection, 3)
            await _finish(connection, 1, name)

        error = await _failing(database, act)
        assert isinstance(error, DBAPIError), error
        return error

    errors = [await fail(name) for name in ("refused", "1 / 0", "one")]
    assert [_state(error) for error in errors] == ["23514", "22012", "22P02"]
    assert not any(is_transient(error) or error.connection_invalidated for error in errors)
    assert await _ids(database) == [1, 2]


async def test_a_commit_that_goes_along_and_fails_says_so(database: Database) -> None:
    """As where it goes alone."""
    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE shelf ADD UNIQUE (name) DEFERRABLE INITIALLY DEFERRED"))
        await _name(connection, 1, "taken")

    async def take(connection: AsyncConnection) -> None:
        await _insert(connection, 3)
        await _finish(connection, 2, "taken")

    error = await _failing(database, take)
    assert isinstance(error, IntegrityError)
    assert (_state(error), is_transient(error), error.connection_invalidated) == ("23505", False, False)
    assert await _ids(database) == [1, 2]


async def test_what_failed_beside_a_statement_goes_beside_the_next(database: Database) -> None:
    """BEGIN, COMMIT and what goes ahead are known to the server or not, whatever failed in their first write."""
    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE shelf ADD UNIQUE (name) DEFERRABLE INITIALLY DEFERRED"))
        await connection.execute(text("ALTER TABLE shelf ADD CHECK (name <> 'refused')"))
        await bulk.select(connection, (shelf.c.id,), shelf.c.id, [9])

    async def act(connection: AsyncConnection, divisor: int, name: str, wanted: object = 9) -> None:
        await _insert(connection, 3)
        reads = bulk.Writes()
        reads.select((shelf.c.id,), shelf.c.id, [wanted])
        plain = "SELECT 1 WHERE 1 / $1::int = 9", str(divisor)
        await reads.run(connection, ahead=Ahead("SELECT 1 / $1::int", (divisor,), plain))
        await _finish(connection, 3, name)

    async def state(divisor: int, name: str, wanted: object = 9) -> str:
        return _state(await _failing(database, lambda connection: act(connection, divisor, name, wanted)))

    assert await state(1, "free", "no number") == "22000"  # never sent, nor what goes ahead of it
    assert await state(0, "free") == "22012"  # parsed, and then it fails itself
    assert await state(1, "refused") == "23514"  # the server leaves out what comes behind: COMMIT is not parsed
    assert [await state(1, "usable") for _ in range(2)] == ["23505", "23505"]  # COMMIT is parsed, and fails itself
    for name in ("free", "as free"):
        async with database.transaction() as connection:
            await act(connection, 1, name)
        assert await _names(database) == {1: "usable", 2: None, 3: name}
        async with database.transaction() as connection:
            await bulk.delete(connection, shelf.c.id, [3])


async def test_what_is_written_last_within_a_savepoint_is_committed_with_the_rest(database: Database) -> None:
    """It is the savepoint's, and that may be undone."""
    async with database.transaction() as connection:
        await _insert(connection, 3)
        async with connection.begin_nested() as savepoint:
            await _finish(connection, 3, "undone")
            await savepoint.rollback()
        assert connection.in_transaction()
        await _insert(connection, 4)
    assert await _names(database) == {1: None, 2: None, 3: None, 4: None}


async def test_a_serialization_failure_of_what_is_written_last_passes(database: Database) -> None:
    """Each of two has read what the other then changes; the second one to commit is told, wherever PostgreSQL does."""
    async with database.transaction() as connection:  # and so on the one that is kept for the next
        await connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"))

    async def read(connection: AsyncConnection) -> None:
        await bulk.select(connection, (shelf.c.id,), shelf.c.id, [1, 2])

    async def late(connection: AsyncConnection) -> None:
        await _insert(connection, 3)
        await read(connection)
        async with database.transaction() as other:
            await other.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
            await read(other)
            await _name(other, 1, "first")
        await _finish(connection, 2, "late")

    error = await _failing(database, late)
    assert (_state(error), is_transient(error)) == ("40001", True)
    assert await _names(database) == {1: "usable", 2: None}


async def test_sqlalchemy_tells_of_a_commit_that_went_along(database: Database) -> None:
    """Once, as of each other; and a session on the connection has nothing left to do."""
    committed: list[str] = []
    event.listen(database.engine.sync_engine, "commit", lambda _connection: committed.append("committed"))
    async with database.transaction() as connection:
        session = AsyncSession(connection, join_transaction_mode="rollback_only")
        assert await session.scalar(text("SELECT count(*) FROM shelf")) == 2
        await _finish(connection, 1, "kept")
        session.sync_session.close()
    assert committed == ["committed"]
    assert await _names(database) == {1: "kept", 2: None}


@pytest.mark.parametrize("told", [False, True], ids=["nobody is told", "somebody is told"])
async def test_sqlalchemy_knows_of_a_commit_that_went_along(
    request: pytest.FixtureRequest, database: Database, told: bool
) -> None:
    """Whether it has gone through it or not: the transaction is over, its block is not, and another may follow it."""
    if told:
        event.listen(database.engine.sync_engine, "commit", lambda _connection: None)
    along = 0
    for name in ("one", "other"):
        async with database.transaction() as connection:
            begun = connection.get_transaction()
            assert begun is not None
            assert begun.is_active
            await _name(connection, 2, name)
            await _finish(connection, 1, name)
            if not connection.in_transaction():
                along += 1
                assert (begun.is_active, begun.is_valid) == (False, False)
                assert connection.get_transaction() is None
                assert connection.get_nested_transaction() is None
                with pytest.raises(InvalidRequestError, match="inside"):
                    await connection.execute(text("SELECT 1"))
                with pytest.raises(InvalidRequestError, match="inactive"):
                    await begun.commit()
    assert database.kept.resting
    assert await _names(database) == {1: "other", 2: "other"}
    assert along == 2 if request.node.callspec.params["database"] == "prepared" else along <= 1


async def test_nothing_is_written_behind_a_commit_that_went_along(postgres_url: str) -> None:
    """It would be in no transaction of the block's."""
    database = Database(postgres_url)
    async with database.transaction() as connection:
        await connection.run_sync(_metadata.create_all)
        await _insert(connection, 1)
    await _prepare(database)

    async def go_on(connection: AsyncConnection) -> None:
        await _insert(connection, 2)
        await _finish(connection, 2, "kept")
        assert not connection.in_transaction()
        await _insert(connection, 3)

    assert isinstance(await _failing(database, go_on), InvalidRequestError)
    assert await _names(database) == {1: "usable", 2: "kept"}
    await database.close()


@pytest.mark.parametrize("along", [True, False], ids=["along", "alone"])
async def test_whether_a_commit_has_happened_of_which_nobody_hears_is_unknown(postgres_url: str, along: bool) -> None:
    """The connection is lost before the answer: an error that passes by itself, of a lost connection; here it has."""
    async with Door(postgres_url) as door:
        database = Database(door.url)
        async with database.transaction() as connection:
            await connection.run_sync(_metadata.create_all)
            await _insert(connection, 1)
        await _prepare(database)

        async def act(connection: AsyncConnection) -> None:
            await _insert(connection, 2)
            await (_finish if along else _name)(connection, 2, "kept")

        door.cutting = True
        error = await _failing(database, act)
        assert isinstance(error, DBAPIError)
        assert (error.connection_invalidated, is_transient(error)) == (True, True)
        assert await _names(database) == {1: "usable", 2: "kept"}
        await database.close()


async def test_a_deadlock_passes(database: Database) -> None:
    """One of the two is told, the other goes on."""
    both = asyncio.Barrier(2)

    async def go(first: int, second: int) -> None:
        async with database.transaction() as connection:
            await _name(connection, first, "x")
            await both.wait()
            await _name(connection, second, "x")

    ended = await asyncio.gather(go(1, 2), go(2, 1), return_exceptions=True)
    (error,) = [each for each in ended if each is not None]
    assert (_state(error), is_transient(error)) == ("40P01", True)


async def test_a_serialization_failure_passes(database: Database) -> None:
    """A row has been changed since the transaction's moment."""

    async def late(connection: AsyncConnection) -> None:
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        await bulk.select(connection, (shelf.c.id,), shelf.c.id, [1])
        async with database.transaction() as other:
            await _name(other, 1, "first")
        await _name(connection, 1, "late")

    error = await _failing(database, late)
    assert (_state(error), is_transient(error)) == ("40001", True)


async def test_the_servers_bounds_are_told_from_other_errors(database: Database) -> None:
    """A statement that is cut short, and one that waits too long for a lock, took too long."""

    async def slow(connection: AsyncConnection) -> None:
        await connection.execute(text("SET LOCAL statement_timeout = '50ms'"))
        await bulk.select(connection, (shelf.c.id,), shelf.c.id, [1], computed=PAUSE)

    async def locked(connection: AsyncConnection) -> None:
        await connection.execute(text("SET LOCAL lock_timeout = '50ms'"))
        async with database.transaction() as holder:
            await _name(holder, 1, "held")
            await _name(connection, 1, "late")

    for act, state in ((slow, "57014"), (locked, "55P03")):
        error = await _failing(database, act)
        assert (_state(error), is_transient(error), took_too_long(error)) == (state, True, True)


async def test_our_own_bound_is_a_timeout(postgres_url: str, database: Database) -> None:
    """A server that does not answer in time raises the same TimeoutError."""
    # Long enough for whatever does not wait.
    impatient = Database(postgres_url, command_seconds=2)
    await _prepare(impatient)

    async def slow(connection: AsyncConnection) -> None:
        await bulk.select(connection, (shelf.c.id,), shelf.c.id, [1], computed=PAUSE)

    error = await _failing(impatient, slow)
    assert type(error) is TimeoutError
    assert (is_transient(error), took_too_long(error)) == (True, True)
    await impatient.close()


@pytest.mark.parametrize("begun", [True, False], ids=["in a transaction", "before it"])
async def test_a_lost_connection_is_thrown_away_with_all_that_were_opened_before(
    database: Database, begun: bool
) -> None:
    """It is said to be invalid; nobody gets it again, nor another of the pool's; the transaction is over."""
    killer = Database(database.url)
    async with database.transaction() as kept, database.reading() as one, database.reading() as other:
        old = {await _backend(kept), await _backend(one), await _backend(other)}

    async def lose(connection: AsyncConnection) -> None:
        for each in [await _backend(connection)] if begun else old:
            await _kill(killer, each)
        try:
            await _insert(connection, 3)
        finally:
            with pytest.raises(PendingRollbackError):
                await _insert(connection, 4)

    error = await _failing(database, lose)
    assert isinstance(error, DBAPIError)
    assert error.connection_invalidated
    assert is_transient(error)
    async with database.reading() as one, database.reading() as other:
        assert not {await _backend(one), await _backend(other)} & old
    assert await _ids(database) == [1, 2]
    await killer.close()


async def test_a_connection_that_is_ended_while_it_is_being_opened_is_a_lost_one(postgres_url: str) -> None:
    """The server's last words have come, and the end of the connection has not: another try may succeed."""
    said = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
    ended: list[bool] = []

    def end(connection: Any, _record: Any) -> None:
        if not ended:
            ended.append(True)
            connection.driver_connection._protocol.data_received(b"E" + (len(said) + 4).to_bytes(4, "big") + said)

    database = Database(postgres_url, by_index=True)
    async with database.reading():
        event.listen(database.engine.sync_engine, "connect", end, insert=True)
        with pytest.raises(DBAPIError) as raised:
            await database.ping()
        assert (type(raised.value.orig).__name__, is_transient(raised.value)) == ("InternalClientError", True)
        await database.ping()
    assert ended
    await database.close()


async def test_a_task_that_ends_in_a_statement_takes_the_connection_along(database: Database) -> None:
    """What the server still does there is nobody's; the next transaction has another connection."""
    backends: list[int] = []

    async def wait() -> None:
        async with database.transaction() as connection:
            backends.append(await _backend(connection))
            await _insert(connection, 3)
            await bulk.select(connection, (shelf.c.id,), shelf.c.id, [1], computed=PAUSE)

    task = asyncio.create_task(wait())
    async with asyncio.timeout(30):
        while not await _asleep(database):  # noqa: ASYNC110 - the server announces nothing
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.transaction() as connection:
        assert await _backend(connection) not in backends
    assert await _ids(database) == [1, 2]


async def _asleep(database: Database) -> bool:
    return await _waits_for(database, "PgSleep")


async def _waits_for(database: Database, what: str) -> bool:
    """Whether somebody waits for this in the server."""
    async with database.reading() as connection:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = :what")
        return bool((await connection.execute(query, {"what": what})).scalar_one())


async def test_a_migration_beside_a_running_process_costs_it_one_try(database: Database) -> None:
    """A statement prepared before it, whose result has another type since, fails once, and that passes."""

    async def look(connection: AsyncConnection) -> list[Any]:
        return await bulk.select(connection, tuple(shelf.c), shelf.c.id, [1])

    async with database.transaction() as connection:
        await look(connection)
    migrating = Database(database.url)
    async with migrating.transaction() as connection:
        await connection.execute(text("ALTER TABLE shelf ALTER COLUMN name TYPE varchar(80)"))
    await migrating.close()
    error = await _failing(database, look)
    assert is_transient(error), repr(error)
    async with database.transaction() as connection:
        assert await look(connection) == [(1, "usable")]


@pytest.mark.parametrize(("release", "trips"), [("0.32.0", [2, 2]), ("0.32.1", [3, 4])])
async def test_begin_and_commit_go_along_with_a_driver_they_have_been_tried_with_and_alone_with_any_other(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, release: str, trips: list[int]
) -> None:
    """BEGIN is in one round trip with the first statement, COMMIT in one with what is written last."""
    monkeypatch.setattr("messaging.driver.metadata.version", lambda _name: release)
    begins_with_statements.cache_clear()
    try:
        async with Door(postgres_url) as door:
            database = Database(door.url)
            async with database.transaction() as connection:
                await connection.run_sync(_metadata.create_all)
            for number in (1, 2, 3):
                async with database.transaction() as connection:
                    await _insert(connection, number)
                alone = door.trips[-1]
                async with database.transaction() as connection:
                    await _name(connection, number, "x")
                    await _finish(connection, number, "y")
            await database.close()
    finally:
        begins_with_statements.cache_clear()
    assert [alone, door.trips[-1]] == trips


async def test_a_service_finds_rows_by_index_however_few_they_are(postgres_url: str) -> None:
    """Two rows are read faster without, but the plan is kept; what has no index is scanned, and nothing compiled."""
    service = Database(postgres_url, by_index=True)
    async with service.transaction() as connection:
        await connection.run_sync(_metadata.create_all)
        await _insert(connection, 1, 2)
        by_id, by_name = [
            "\n".join((await connection.execute(text(f"EXPLAIN SELECT * FROM shelf WHERE {condition}"))).scalars())
            for condition in ("id = ANY('{1,2}')", "name = 'x'")
        ]
    assert "shelf_pkey" in by_id, by_id
    assert "Seq Scan" in by_name, by_name
    assert "JIT" not in by_name, by_name
    await service.close()


async def test_a_service_plans_each_statement_once(postgres_url: str) -> None:
    """However few the rows that one execution is for: the plan is kept from the first on."""
    service = Database(postgres_url, by_index=True)
    async with service.transaction() as connection:
        await connection.run_sync(_metadata.create_all)
        for number in range(7):
            await _insert(connection, number)
        query = text("SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE 'INSERT %'")
        assert (await connection.execute(query)).one() == (7, 0)
    await service.close()


async def test_an_update_begins_with_an_index_however_it_is_planned(postgres_url: str) -> None:
    """Planned for any number of records while there are twenty rows, it walks through none but its own."""
    service = Database(postgres_url, by_index=True)
    async with service.transaction() as connection:
        await connection.run_sync(_metadata.create_all)
        await _insert(connection, *range(20))
        await connection.execute(text("ANALYZE shelf"))
        await connection.execute(text("SET LOCAL plan_cache_mode = force_generic_plan"))
        update = Update(shelf, ("id",), ("name",)).words("postgresql", 1)
        await connection.exec_driver_sql(f"PREPARE changing AS {update}")
        plan = "\n".join((await connection.exec_driver_sql("EXPLAIN EXECUTE changing(NULL, NULL)")).scalars())
    assert "Index Cond: (id =" in plan, plan
    await service.close()
