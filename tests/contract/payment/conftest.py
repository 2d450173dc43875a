"""A migrated database, the service on it, a client of its API, and a gateway with somebody who calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from messaging.database import Database
from services.payment.api import create_app
from services.payment.http_gateway import HttpGateway
from tests import laying
from tests.contract.payment.service import HISTORY, PATIENT, Clock, Service
from tests.gateway_server import GatewayServer


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated database."""
    database = Database(database_url)
    await laying.migrated(database, [HISTORY])
    yield database
    await database.close()


@pytest.fixture
def clock() -> Clock:
    """The service's clock."""
    return Clock()


@pytest.fixture
def service(database: Database, clock: Clock) -> Service:
    """The service on its own ledger."""
    return Service(database, clock)


@pytest.fixture
async def api(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service's HTTP API."""
    app = create_app(service.database, now=service.clock.now)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://payment") as client:
        yield client


@pytest.fixture
async def server() -> AsyncIterator[GatewayServer]:
    """A gateway that does what is right until it is told otherwise."""
    async with GatewayServer().serving() as server:
        yield server


@pytest.fixture
async def gateway(server: GatewayServer) -> AsyncIterator[HttpGateway]:
    """A caller with time for repetitions."""
    async with HttpGateway(server.url, time_limit=PATIENT) as gateway:
        yield gateway
