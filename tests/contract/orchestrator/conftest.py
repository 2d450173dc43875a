"""A bench for the engine on a database of the test's own, SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from messaging import migrate, schema
from messaging.clock import SystemClock
from messaging.database import Database
from orchestrator.assembly import MIGRATIONS
from orchestrator.schema import metadata, saga
from tests import laying
from tests.contract.orchestrator.letters import collected
from tests.contract.orchestrator.office import Office
from tests.contract.orchestrator.post import SAGA, Post, five_letters


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    """The tables of an orchestrator, and nothing running yet."""
    database = Database(database_url)
    await make_tables(database)
    office = Office(database)
    yield office
    await office.close()


@pytest.fixture
async def post(database_url: str) -> AsyncIterator[Post]:
    """The orchestrator's database with five collected letters and the saga of one of them."""
    database = Database(database_url)
    await laying.migrated(database, [migrate.MESSAGING, MIGRATIONS])
    await collected(Office(database), *five_letters())
    async with database.transaction() as connection:
        row = {
            "id": SAGA,
            "name": "fulfill_order",
            "version": 1,
            "key": "A-1",
            "status": "running",
            "step": "authorize_payment",
            "reason": "",
            "data": "{}",
            "progress": '{"steps":{}}',
            "revision": 1,
            "started_at": SystemClock().now(),
            "updated_at": SystemClock().now(),
        }
        await connection.execute(saga.insert(), row)
    yield Post(database_url, database)
    await database.close()


async def make_tables(database: Database) -> None:
    """Those of messaging and of the orchestrator."""
    await laying.create(database, schema.metadata, metadata)
