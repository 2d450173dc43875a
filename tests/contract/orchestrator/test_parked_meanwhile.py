"""What another process parks or takes up of an instance while this one waits for the instance's row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.database import Database
from orchestrator import hours
from orchestrator.schema import parked_event
from orchestrator.schema import saga as saga_table
from tests.contract.messaging.bench import PATIENCE
from tests.contract.orchestrator.office import Office
from tests.unit.work import Done, pivot, step, work_saga


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[Database]:
    """The database as another process opens it."""
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def early(office: Office) -> Office:
    """An instance that waits for the answer to its first step; that to its second is parked."""
    await office.employ(
        work_saga(step("dig", timeout=hours(1)), step("fill", timeout=hours(1)), pivot("sign", timeout=hours(1)))
    )
    await office.handle(office.begun(1))
    await office.handle(office.answer(1, "fill", Done()))
    assert len(await office.parked()) == 1
    return office


async def _waited_for(elsewhere: Database) -> None:
    """Until somebody waits for a lock that another holds; SQLite does not say so."""
    if elsewhere.dialect == "sqlite":
        return
    async with asyncio.timeout(PATIENCE), elsewhere.reading() as looking:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while not (await looking.execute(waiting)).scalar_one():
            await looking.rollback()
            await asyncio.sleep(0.01)


async def _done_again(office: Office, handled: asyncio.Task[None]) -> None:
    """Until the batch is done, which waits a moment by the office's clock once it has found what happened."""
    async with asyncio.timeout(PATIENCE):
        while not handled.done():
            office.clock.advance(0.1)
            await asyncio.sleep(0.01)
    await handled


async def _hold(connection: AsyncConnection) -> None:
    await connection.execute(select(saga_table.c.id).with_for_update())


async def test_what_was_parked_meanwhile_is_taken_up(early: Office, elsewhere: Database) -> None:
    """Its process had the row until it was parked: whoever comes next finds it."""
    (row,) = await early.parked()
    async with early.database.transaction() as connection:
        await connection.execute(delete(parked_event))
    async with elsewhere.transaction() as other:
        await _hold(other)
        handled = asyncio.create_task(early.handle(early.answer(1, "dig", Done())))
        await _waited_for(elsewhere)
        await other.execute(parked_event.insert(), row._asdict())
    await _done_again(early, handled)
    assert ((await early.sagas())["1"].step, await early.parked()) == ("sign", [])
    assert await early.audit() == 1


async def test_what_was_taken_up_meanwhile_is_not_taken_up_again(early: Office, elsewhere: Database) -> None:
    """It is not there any more, whatever was seen before the wait."""
    async with elsewhere.transaction() as other:
        await _hold(other)
        handled = asyncio.create_task(early.handle(early.answer(1, "dig", Done())))
        await _waited_for(elsewhere)
        await other.execute(delete(parked_event))
    await _done_again(early, handled)
    assert (await early.sagas())["1"].step == "fill"
    assert await early.audit() == 1
