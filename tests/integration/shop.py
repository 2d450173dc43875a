"""The three services in one test process, and the `amends` command beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from pydantic import SecretStr
from sqlalchemy import Table, func, select
from typer.testing import CliRunner, Result

from messaging.bus import Bus
from messaging.service import Service
from orchestrator.assembly import orchestrator
from orchestrator.catalog import Catalog
from orchestrator.cli.app import app
from orchestrator.saga.steps import Retry, seconds
from orchestrator.sagas.fulfill_order import fulfill_order
from orchestrator.settings import OrchestratorSettings
from services.order.assembly import order_service
from services.order.settings import OrderSettings
from services.payment.assembly import payment_service
from services.payment.settings import PaymentSettings
from tests.chaos.waiting import eventually

NAMES = ("orchestrator", "order", "payment")
PATIENT = fulfill_order(timeout=seconds(600), retry=Retry(attempts=2, backoff=seconds(1)))
"""A saga that sends no command again by itself before the test is over."""
ORDER = {"customer_id": "ada", "currency": "USD", "lines": [{"sku": "CD", "quantity": 1, "amount": 1499}]}


class Shop:
    """The three services in this process, and the command beside them. `given` are settings for all three."""

    def __init__(self, bus: Callable[[str], Bus], databases: dict[str, str], **given: Any) -> None:
        self.bus = bus
        self._given = given
        self._databases = databases
        self.services: dict[str, Service] = {}

    def build(self, name: str) -> Service:
        """A service that is not started yet."""
        given: dict[str, Any] = {
            "database_url": SecretStr(self._databases[name]),
            "migrate_on_start": True,
            "outbox_grace": timedelta(seconds=1),
        } | self._given
        if name == "orchestrator":
            built = orchestrator(OrchestratorSettings(**given), Catalog([PATIENT]), self.bus(name))
        elif name == "order":
            built = order_service(OrderSettings(**given), self.bus(name))
        else:
            built = payment_service(PaymentSettings(**given), self.bus(name))
        self.services[name] = built
        return built

    async def place(self, number: int) -> UUID:
        """Place an order through the API; returns its id."""
        transport = httpx.ASGITransport(app=self.services["order"].http)
        async with httpx.AsyncClient(transport=transport, base_url="http://order") as http:
            answer = await http.post("/orders", json=ORDER, headers={"Idempotency-Key": f"order-{number}"})
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["id"])

    async def count(self, name: str, table: Table, **equal: object) -> int:
        """How many rows of a service's table are like that."""
        async with self.services[name].database.reading() as connection:
            query = select(func.count()).select_from(table)
            for column, value in equal.items():
                query = query.where(table.c[column] == value)
            return int((await connection.execute(query)).scalar_one())

    async def come(self, number: int, name: str, table: Table, **equal: object) -> None:
        """Wait until there are so many rows like that."""

        async def there() -> bool:
            return await self.count(name, table, **equal) == number

        assert await eventually(there), (await self.count(name, table, **equal), table.name, equal)

    async def amends(self, *words: str, at: str = "orchestrator") -> Result:
        """`amends dead-letters …`, as another process beside the running ones."""
        environment = {"DATABASE_URL": self._databases[at], "AMENDS_SAGAS": __name__}
        return await asyncio.to_thread(CliRunner().invoke, app, ["dead-letters", *words], env=environment)
