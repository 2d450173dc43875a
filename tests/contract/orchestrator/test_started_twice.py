"""Two processes that start the same instances, by other events with the same keys."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import text

from messaging.database import Database
from orchestrator.saga.state import saga_id
from orchestrator.schema import saga
from tests.contract.messaging.bench import NOON, PATIENCE
from tests.contract.orchestrator.conftest import make_tables
from tests.contract.orchestrator.office import Office
from tests.unit.work import pivot, step, work_saga


def _row(number: int) -> dict[str, Any]:
    """An instance as another process writes it."""
    return {
        "id": saga_id("work", number),
        "name": "work",
        "version": 1,
        "key": str(number),
        "status": "running",
        "step": "dig",
        "reason": "",
        "data": "{}",
        "progress": "{}",
        "revision": 1,
        "started_at": NOON,
        "updated_at": NOON,
    }


async def _waited_for(elsewhere: Database) -> None:
    """Until somebody waits for a row that another has written."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(PATIENCE), elsewhere.reading() as looking:
        while not (await looking.execute(waiting)).scalar_one():
            await looking.rollback()
            await asyncio.sleep(0.01)


async def test_whoever_starts_the_same_instances_does_so_in_one_order(postgres_url: str) -> None:
    """However their events lie in a batch: one waits for the other, and neither is in the other's way."""
    office, elsewhere = Office(Database(postgres_url)), Database(postgres_url)
    await make_tables(office.database)
    await office.employ(work_saga(step("dig"), pivot("sign")))
    first, last = sorted((1, 2), key=lambda number: saga_id("work", number))
    try:
        async with elsewhere.engine.connect() as other:
            await other.execute(saga.insert(), _row(first))
            office.bus.hand_over([office.begun(last), office.begun(first)])
            await _waited_for(elsewhere)
            await other.execute(saga.insert(), _row(last))
            await other.rollback()
        await office.until(lambda: office.worker.batches + office.worker.conflicts > 0, "both are started, or not")
        assert (office.worker.batches, office.worker.conflicts) == (1, 0)
    finally:
        await elsewhere.close()
        await office.close()
