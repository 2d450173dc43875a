"""An order service on a database of the test's own, SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from messaging.bulk import Writes
from messaging.database import Database
from services.order import store
from services.order.api import create_app
from services.order.domain import Line, Order
from tests import laying

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LOCATIONS = ("messaging:migrations", "services.order:migrations")

Shop = Callable[..., Awaitable[list[UUID]]]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The tables of the order service, made by its migrations."""
    database = Database(database_url, pool_size=10)
    await laying.migrated(database, LOCATIONS)
    yield database
    await database.close()


@pytest.fixture
def app(database: Database) -> FastAPI:
    """The web application, in which every sku has 100 pieces until somebody counts."""
    return create_app(database, now=lambda: NOON, default_stock=100)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client that sees what a real one would: also the answer to an unexpected error."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://order") as client:
        yield client


@pytest.fixture
def shop(database: Database) -> Shop:
    """Write orders straight into the database: each a list of lines; returns their ids."""

    async def write(*orders: Iterable[Line], first: int = 1) -> list[UUID]:
        ids = [UUID(int=first + number) for number in range(len(orders))]
        async with database.transaction() as connection:
            for order_id, lines in zip(ids, orders, strict=True):
                writes = Writes()
                store.insert_order(writes, Order.place(order_id, "00004", "USD", lines), NOON)
                await writes.run(connection)
        return ids

    return write
