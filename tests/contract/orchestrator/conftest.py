"""A bench for the engine on a database of the test's own, SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from messaging import schema
from messaging.database import Database
from orchestrator.schema import metadata
from tests.contract.orchestrator.office import Office


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    """The tables of an orchestrator, and nothing running yet."""
    database = Database(database_url)
    await make_tables(database)
    office = Office(database)
    yield office
    await office.close()


async def make_tables(database: Database) -> None:
    """Those of messaging and of the orchestrator."""
    async with database.transaction() as connection:
        await connection.run_sync(schema.metadata.create_all)
        await connection.run_sync(metadata.create_all)
