"""A bench on a database of the test's own, SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from messaging import schema
from messaging.database import Database
from tests import laying
from tests.contract.messaging import parcels
from tests.contract.messaging.bench import Bench


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The messaging tables and those of the parcels; tests/contract/messaging/test_migrations says they are the same
    as the migrations make."""
    database = await _tables(Database(database_url))
    yield database
    await database.close()


async def _tables(database: Database) -> Database:
    await laying.create(database, schema.metadata, parcels.metadata)
    return database


@pytest.fixture
async def sqlite_bench(sqlite_url: str) -> AsyncIterator[Bench]:
    """A bench on SQLite alone, for what does not depend on the database and takes long."""
    bench = Bench(await _tables(Database(sqlite_url)))
    yield bench
    await bench.close()


@pytest.fixture
async def bench(database: Database) -> AsyncIterator[Bench]:
    """A bench; closing it raises what its worker has died of."""
    bench = Bench(database)
    yield bench
    await bench.close()
