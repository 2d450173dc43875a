"""A day in a shop: orders of every kind, who may pay for them, and how each must end whatever is killed meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx

from contracts.money import Money
from deploy.inspection import Inspection, inspect, work_left
from messaging.database import Database
from services.order.order_file import FileOrder
from services.order.placing import OrderClient, Placed, place_all
from tests.chaos.waiting import eventually

DEFAULT_STOCK = 1_000
RARE_STOCK = 8
STOCKED = {"RARE": RARE_STOCK}
PATIENCE = 90.0
"""Seconds a request is repeated: a service that was killed needs some to come back on a crowded machine."""


@dataclass(frozen=True, slots=True)
class Kind:
    """So many orders of one customer, for one sku, each with this amount in minor units."""

    customer: str
    count: int
    sku: str = "CD"
    amount: int = 2933


KINDS = (
    Kind("ada", 90),
    Kind("burt", 20),
    Kind("dora", 20, sku="RARE"),
    Kind("cleo", 10),
    Kind("hank", 5, amount=1499),
    Kind("emil", 5, amount=999),
)

ENDS = {"account_on_hold": 5, "card_declined": 20, "completed": 113, "out_of_stock": 12}
"""How a day's orders end: ada's 90, cleo's 10 and emil's 5 paid, and the 8 of dora's that there were."""

CAPTURED = {"USD": 321_759}
"""90 + 10 + 8 times 29.33, and 5 times 9.99, in cents."""


def orders(day: str = "day") -> list[FileOrder]:
    """A day's 150 orders, their kinds mixed."""
    waiting = {kind: kind.count for kind in KINDS}
    mixed: list[FileOrder] = []
    while waiting:
        # The kind of which the largest share still waits.
        kind = max(waiting, key=lambda each: waiting[each] / each.count)
        waiting[kind] -= 1
        if not waiting[kind]:
            del waiting[kind]
        number = len(mixed) + 1
        amount = Money(amount=kind.amount, currency="USD")
        mixed.append(FileOrder(number, f"{day}-{number}", kind.customer, kind.sku, 1, amount))
    return mixed


async def open_accounts(urls: dict[str, str]) -> None:
    """Say how many rare ones there are, and on what terms each customer buys."""
    now = datetime.now(UTC)
    rich = {"currency": "USD", "credit_limit": 10_000_000}
    terms = {
        "ada": rich,
        "burt": {"currency": "USD", "credit_limit": 100},
        "dora": rich,
        # Under review for a moment: declined softly, put off, and paid in the end.
        "cleo": rich | {"held_until": (now + timedelta(seconds=4)).isoformat()},
        "hank": rich | {"held_until": (now + timedelta(hours=1)).isoformat()},
        "emil": rich | {"issuer_offline_until": (now + timedelta(seconds=8)).isoformat()},
    }
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        (await http.put(f"{urls['order']}/stock/RARE", json={"on_hand": RARE_STOCK})).raise_for_status()
        for customer, each in terms.items():
            (await http.put(f"{urls['payment']}/accounts/{customer}", json=each)).raise_for_status()


async def place(url: str, wanted: list[FileOrder]) -> dict[UUID, Placed]:
    """Place them through HTTP, each as often as it takes to get an answer; fails where one is refused."""
    http = httpx.AsyncClient(base_url=url, timeout=30, trust_env=False)
    async with http:
        client = OrderClient(http, patience=PATIENCE)
        results = await place_all(
            client, wanted, total=len(wanted), concurrency=4, progress=lambda _doing, _done, _total: None
        )
    placed = {each.order_id: each for each in results if isinstance(each, Placed)}
    assert len(placed) == len(wanted), results
    return placed


async def at_the_end(databases: dict[str, Database]) -> Inspection:
    """What the databases hold once nothing is left to do."""

    async def done() -> bool:
        return not await work_left(databases)

    assert await eventually(done), await work_left(databases)
    return await inspect(databases, default_stock=DEFAULT_STOCK, stocked=STOCKED)
