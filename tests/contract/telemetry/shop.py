"""The three services in one process, on a broker and databases as a test has them, asked over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from opentelemetry.trace import TracerProvider
from pydantic import SecretStr

from messaging.bus import Bus
from messaging.service import Service
from orchestrator import catalog as catalogs
from orchestrator.assembly import orchestrator
from orchestrator.settings import OrchestratorSettings
from services.order.assembly import order_service
from services.order.settings import OrderSettings
from services.payment.assembly import payment_service
from services.payment.settings import PaymentSettings

ORDER = {"customer_id": "ada", "currency": "USD", "lines": [{"sku": "CD", "quantity": 1, "amount": 1499}]}
PATIENCE = 60.0


class Shop:
    """What a customer and an operator see of it."""

    def __init__(self, services: dict[str, Service]) -> None:
        self.services = services

    def http(self, service: str) -> httpx.AsyncClient:
        """A client of a service's HTTP interface."""
        face = httpx.ASGITransport(app=self.services[service].http)
        return httpx.AsyncClient(transport=face, base_url=f"http://{service}")

    async def place(self, **headers: str) -> dict[str, Any]:
        """Place an order, and return it once its saga has ended."""
        async with self.http("order") as http:
            placed = await http.post("/orders", json=ORDER, headers=headers)
            assert placed.status_code == 201, placed.text
            order: dict[str, Any] = placed.json()
            async with asyncio.timeout(PATIENCE):
                while order["status"] not in ("completed", "canceled"):
                    await asyncio.sleep(0.02)
                    order = (await http.get(f"/orders/{order['id']}")).json()
        return order

    async def figures(self, service: str, accept: str = "") -> str:
        """A service's page of figures."""
        async with self.http(service) as http:
            answer = await http.get("/metrics", headers={"accept": accept})
            assert answer.status_code == 200
            return answer.text


@asynccontextmanager
async def shop(
    bus: Callable[[str], Bus],
    database: Callable[[str], str],
    *,
    provider: TracerProvider | None = None,
    **options: Any,
) -> AsyncIterator[Shop]:
    """Runs while the block does, and has drained when it ends; `options` are settings of the order service."""

    def common(name: str) -> dict[str, Any]:
        return {"database_url": SecretStr(database(name)), "migrate_on_start": True, "port": 0}

    catalog = catalogs.load(["orchestrator.sagas.fulfill_order"])
    services = {
        "orchestrator": orchestrator(
            OrchestratorSettings(**common("orchestrator")), catalog, bus("orchestrator"), tracer_provider=provider
        ),
        "payment": payment_service(PaymentSettings(**common("payment")), bus("payment"), tracer_provider=provider),
        "order": order_service(OrderSettings(**common("order"), **options), bus("order"), tracer_provider=provider),
    }
    try:
        for service in services.values():
            await service.start()
        yield Shop(services)
        for service in services.values():
            await service.quiesce()
    finally:
        for service in services.values():
            await service.close()
