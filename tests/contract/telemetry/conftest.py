"""Spans of a test's own, and an orchestrator's bench on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from messaging import schema
from messaging.database import Database
from tests import laying
from tests.contract.messaging import parcels
from tests.contract.messaging.bench import Bench
from tests.contract.orchestrator.conftest import make_tables
from tests.contract.orchestrator.office import Office
from tests.contract.telemetry.spans import Collected


@pytest.fixture
def spans() -> Collected:
    """Those that a test's services make."""
    return Collected()


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    """The tables of an orchestrator, and nothing running yet."""
    database = Database(database_url)
    await make_tables(database)
    office = Office(database)
    yield office
    await office.close()


@pytest.fixture
async def bench(sqlite_url: str) -> AsyncIterator[Bench]:
    """A bench on SQLite: what spans do does not depend on the database."""
    database = Database(sqlite_url)
    await laying.create(database, schema.metadata, parcels.metadata)
    bench = Bench(database)
    yield bench
    await bench.close()
