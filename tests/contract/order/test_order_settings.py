"""What the order service's environment changes, seen through its HTTP interface."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from messaging.database import Database
from messaging.memory import MemoryBus
from messaging.memory_broker import MemoryBroker
from services.order.assembly import order_service
from services.order.settings import OrderSettings

WISH = {"customer_id": "00004", "currency": "USD", "lines": [{"sku": "CD", "quantity": 1, "amount": 100}]}


async def answer_to_an_unknown_sku(database: Database) -> httpx.Response:
    """What the service, put together from its environment, says to an order of something nobody counted."""
    service = order_service(OrderSettings(), MemoryBus(MemoryBroker(), service="order"), database=database)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service.http), base_url="http://order") as client:
        return await client.post("/orders", json=WISH)


@pytest.mark.parametrize("nothing", ["", " "])
async def test_no_default_stock_refuses_unknown_skus(
    monkeypatch: pytest.MonkeyPatch, database: Database, nothing: str
) -> None:
    """An empty ORDER_DEFAULT_STOCK is no default, as its description says."""
    monkeypatch.setenv("ORDER_DEFAULT_STOCK", nothing)
    answer = await answer_to_an_unknown_sku(database)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:amends:problem:unknown-sku")


async def test_an_empty_file_is_no_default_stock_either(
    monkeypatch: pytest.MonkeyPatch, database: Database, tmp_path: Path
) -> None:
    """ORDER_DEFAULT_STOCK_FILE means what the variable itself would."""
    (tmp_path / "stock").write_text("\n")
    monkeypatch.setenv("ORDER_DEFAULT_STOCK_FILE", str(tmp_path / "stock"))
    assert (await answer_to_an_unknown_sku(database)).status_code == 422


async def test_a_default_stock_accepts_unknown_skus(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    """Zero is a number: the order is taken, and it will be out of stock."""
    monkeypatch.setenv("ORDER_DEFAULT_STOCK", "0")
    assert (await answer_to_an_unknown_sku(database)).status_code == 201


@pytest.mark.parametrize("value", ["many", "-1", "1.5"])
def test_what_is_no_stock_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Only nothing at all means no default."""
    monkeypatch.setenv("ORDER_DEFAULT_STOCK", value)
    with pytest.raises(ValidationError, match="ORDER_DEFAULT_STOCK"):
        OrderSettings()
