"""A batch claims its messages and reads its instances in one statement, which sees the tables as they were when it
began: what another process commits while that waits, on PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from messaging import claiming
from messaging.bus import Delivery
from messaging.consumer import Batch
from messaging.database import Database
from messaging.received import Received
from messaging.work import Work
from orchestrator import hours
from orchestrator.engine import Engine
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.conftest import make_tables
from tests.contract.orchestrator.office import Office
from tests.unit.work import Done, pivot, step, work_saga

PATIENCE = 30.0


@pytest.fixture
async def office(postgres_url: str) -> AsyncIterator[Office]:
    """An orchestrator of sagas with two steps."""
    office = Office(Database(postgres_url))
    await make_tables(office.database)
    await office.employ(
        work_saga(step("dig", timeout=hours(1)), step("fill", timeout=hours(1)), pivot("sign", timeout=hours(1)))
    )
    yield office
    await office.close()


class Elsewhere:
    """Another process of the same orchestrator, a transaction at a time."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._database = Database(office.database.url)
        self._engine = Engine(office.catalog)

    @asynccontextmanager
    async def handling(self, *deliveries: Delivery) -> AsyncIterator[None]:
        """It has handled these, and commits at the end, when the office waits for it."""
        async with self._database.transaction() as connection:
            work = Work(connection, NOON, "depot", self._office.consumer.name)
            claim = await claiming.claim(work, [self._read(each) for each in deliveries])
            act = self._engine.begin(work, claim.messages, [])
            fresh, repeated = await claim.made()
            await act(work, Batch(fresh, repeated, []))
            await work.write(None, timedelta(hours=1))
            yield
            await self._waited_for()

    async def close(self) -> None:
        await self._database.close()

    def _read(self, delivery: Delivery) -> Received:
        read = self._engine.read(delivery)
        assert isinstance(read, Received)
        return read

    async def _waited_for(self) -> None:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(PATIENCE), self._database.reading() as looking:
            while not (await looking.execute(waiting)).scalar_one():
                await looking.rollback()
                await asyncio.sleep(0.01)


@pytest.fixture
async def elsewhere(office: Office) -> AsyncIterator[Elsewhere]:
    """Another process on the office's database."""
    elsewhere = Elsewhere(office)
    yield elsewhere
    await elsewhere.close()


async def _told(office: Office) -> Sequence[tuple[str, str, int]]:
    """Each instance: its key, what it waits for, how many transitions it has had."""
    assert await office.audit() == len(await office.sagas())
    return [(key, row.step, row.revision) for key, row in (await office.sagas()).items()]


async def test_a_row_that_was_moved_meanwhile_is_read_as_it_is_then(office: Office, elsewhere: Elsewhere) -> None:
    """Nothing is done twice for that: the answer to the second step finds the first one done."""
    await office.handle(office.begun(1))
    async with elsewhere.handling(office.answer(1, "dig", Done())):
        answer = office.answer(1, "fill", Done())
        office.bus.hand_over([answer])
    await office.settled([answer])

    assert await _told(office) == [("1", "sign", 3)]
    assert (await office.parked(), office.worker.conflicts) == ([], 0)


async def test_an_instance_that_was_started_meanwhile_is_not_started_again(
    office: Office, elsewhere: Elsewhere
) -> None:
    """The same event is known, another one with its key finds out when it writes: the batch is done once more."""
    began = office.begun(1)
    async with elsewhere.handling(began):
        again = office.begun(1)
        office.bus.hand_over([began, again])
    await office.settled([began, again])

    assert await _told(office) == [("1", "dig", 1)]
    assert office.worker.conflicts == 1
    # The one that the other process has claimed, and ours.
    assert list((await office.statuses()).values()) == ["done", "done"]


async def test_what_comes_for_an_instance_that_was_started_meanwhile_is_not_lost(
    office: Office, elsewhere: Elsewhere
) -> None:
    """It is parked, as whatever comes before its instance can be seen, and taken up when it is looked at again."""
    # What comes again is claimed carefully, and so the batch is not undone for it.
    began, answer = replace(office.begun(1), redelivered=True), office.answer(1, "dig", Done())
    async with elsewhere.handling(began):
        office.bus.hand_over([began, answer])
    await office.settled([began, answer])
    assert await _told(office) == [("1", "dig", 1)]
    assert [row.type for row in await office.parked()] == [Done.wire_type]

    async with asyncio.timeout(PATIENCE):
        while await office.parked():
            office.clock.advance(1)
            await asyncio.sleep(0.01)
    assert await _told(office) == [("1", "fill", 2)]


async def test_a_batch_with_what_was_handled_meanwhile_is_done_once_more(office: Office, elsewhere: Elsewhere) -> None:
    """Nobody had said that the event comes again: it is in the way, and the batch is undone and sees its instance."""
    began, answer = office.begun(1), office.answer(1, "dig", Done())
    async with elsewhere.handling(began):
        office.bus.hand_over([began, answer])
    await office.settled([began, answer])

    assert await _told(office) == [("1", "fill", 2)]
    assert (await office.parked(), office.worker.conflicts) == ([], 1)
