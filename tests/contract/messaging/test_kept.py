"""The connection that one transaction on PostgreSQL leaves for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import QueuePool

from messaging.database import Database
from tests.contract.messaging.bench import until


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """PostgreSQL; when it is closed, no connection is left."""
    database = Database(postgres_url)
    yield database
    await database.close()
    assert (_in_use(database), database.kept.resting) == (0, False)


def _in_use(database: Database) -> int:
    pool = database.engine.sync_engine.pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout()


async def _backend(connection: AsyncConnection) -> int:
    return int((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def _write(database: Database) -> int:
    """One transaction; returns which process of the server's it had."""
    async with database.transaction() as connection:
        return await _backend(connection)


async def test_the_next_one_has_the_same_connection(database: Database) -> None:
    """And the pool another one, for whoever reads meanwhile."""
    first = await _write(database)
    async with database.reading() as connection:
        assert await _backend(connection) != first
    assert (database.kept.resting, await _write(database)) == (True, first)


async def test_the_server_has_not_heard_of_what_is_begun_on_it(database: Database) -> None:
    """The next transaction is begun for whoever comes; to the server the connection is idle, and holds nothing up."""
    backend = await _write(database)
    state = text("SELECT state, xact_start FROM pg_stat_activity WHERE pid = :pid")
    async with database.reading() as connection:
        assert (await connection.execute(state, {"pid": backend})).one() == ("idle", None)


async def test_who_hears_of_transactions_hears_of_those_that_are_used(database: Database) -> None:
    """When they begin; and of none that was begun for nobody, which would end with a rollback."""
    told: list[str] = []
    for name in ("begin", "commit", "rollback"):
        event.listen(database.engine.sync_engine, name, lambda _connection, name=name: told.append(name))
    await _write(database)
    assert database.kept.resting
    assert told == ["begin", "commit"]
    await _write(database)
    await database.kept.close()
    assert told == ["begin", "commit"] * 2


async def test_one_is_kept_of_two_that_were_used_at_a_time(database: Database) -> None:
    """The other goes back to the pool."""
    async with database.transaction() as one, database.transaction() as other:
        backends = {await _backend(one), await _backend(other)}
    assert len(backends) == 2
    assert (database.kept.resting, _in_use(database)) == (True, 1)


async def test_what_has_failed_is_not_kept(database: Database) -> None:
    """SQLAlchemy decides what becomes of its connection."""

    async def fail() -> None:
        async with database.transaction() as connection:
            await _backend(connection)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert (database.kept.resting, _in_use(database)) == (False, 0)


async def test_what_was_made_unlike_others_is_not_kept(database: Database) -> None:
    """Its options are gone when it has been in the pool."""
    async with database.transaction() as connection:
        _ = await connection.execution_options(amends_read_only=True)
        await _backend(connection)
    assert (database.kept.resting, _in_use(database)) == (False, 0)


async def test_none_is_kept_from_a_pool_that_has_no_others(postgres_url: str) -> None:
    """Somebody may be waiting for it."""
    database = Database(postgres_url, pool_size=1)
    await _write(database)
    assert (database.kept.resting, _in_use(database)) == (False, 0)
    await database.close()


async def test_one_that_the_server_has_closed_is_left_alone(
    database: Database, fresh_postgres: Callable[[], str]
) -> None:
    """The next transaction has a new one, and nobody an error."""
    first = await _write(database)
    async with database.reading() as connection:
        await connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": first})
    await until(database.kept._driver.is_closed, "the server has closed it")
    assert await _write(database) != first


async def test_it_is_not_trusted_any_more_when_another_was_lost(database: Database) -> None:
    """As the pool does with those it has: whoever was told once that the server is gone is not told again."""
    first = await _write(database)

    async def lose() -> None:
        async with database.reading() as connection:
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(DBAPIError) as lost:
        await lose()
    assert (lost.value.connection_invalidated, database.kept.resting) == (True, True)
    assert await _write(database) != first


@pytest.mark.parametrize("spare", [True, False], ids=["to the pool", "closed"])
async def test_one_that_nobody_writes_on_goes_back(
    database: Database, monkeypatch: pytest.MonkeyPatch, spare: bool
) -> None:
    """After a while: to the pool, or where that is full it is closed."""
    monkeypatch.setattr("messaging.transaction.UNUSED", 0.01)
    monkeypatch.setattr("messaging.driver.spare", lambda _connection: True)
    if not spare:
        async with asyncio.TaskGroup() as group:
            held = asyncio.Barrier(6)
            for _ in range(6):
                group.create_task(_hold(database, held))
    await _write(database)
    await until(lambda: (database.kept.resting, _in_use(database)) == (False, 0), "it has gone back")


async def _hold(database: Database, held: asyncio.Barrier) -> None:
    async with database.reading() as connection:
        await _backend(connection)
        await held.wait()
