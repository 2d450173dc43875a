"""The demo: orders of every kind through the order service's HTTP API, watched until the last has ended."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

CURRENCY = "USD"
SAGAS = "deploy.hasty"
"""Where the demo's saga is, so that whoever looks further replays with the very same one."""
TIME_LIMIT = 30.0
"""Seconds that an answer may take, which comes from this machine: the environment's proxy would lead away from it."""
PATIENCE = 60.0
"""Seconds after which the demo stops waiting: far more than the slowest kind of order takes."""


@dataclass(frozen=True)
class Kind:
    """One kind of order: who places it, of what, and how it should end."""

    name: str
    customer: str
    share: int
    expected: str
    account: Mapping[str, Any] = field(default_factory=dict)
    sku: str = "CD"
    amounts: tuple[int, ...] = (2933, 1499, 999, 4250)


def kinds(now: datetime) -> tuple[Kind, ...]:
    """What a shop sees in a day. `share` is how many of forty orders are of this kind."""
    rich = {"credit_limit": 10_000_000}
    return (
        Kind("paid", "ada", 24, "completed", rich),
        Kind("a gift: nothing to pay", "grace", 1, "completed", rich, amounts=(0,)),
        Kind("card declined", "burt", 5, "card_declined", {"credit_limit": 100}),
        Kind(
            "declined at first, then paid",
            "cleo",
            4,
            "completed",
            rich | {"held_until": (now + timedelta(seconds=2)).isoformat()},
        ),
        Kind("out of stock", "dora", 4, "out_of_stock", rich, sku="rare-bootleg"),
        Kind(
            "payment service silent",
            "emil",
            2,
            "payment_timeout",
            rich | {"issuer_offline_until": (now + timedelta(hours=1)).isoformat()},
        ),
    )


@dataclass
class Watched:
    """An order the demo has placed, as last seen."""

    kind: Kind
    id: str
    amount: int
    status: str = "placed"
    reason: str | None = None
    captured: int | None = None

    @property
    def ended(self) -> bool:
        return self.status in {"completed", "canceled"}

    @property
    def outcome(self) -> str:
        return self.reason or self.status if self.status == "canceled" else self.status


async def show(urls: Mapping[str, str], count: int, data: Path) -> int:
    """Run the demo against running services; returns 0 if every order ended as it should and the money is right."""
    console = Console()
    began = time.monotonic()
    async with (
        httpx.AsyncClient(base_url=urls["order"], timeout=TIME_LIMIT, trust_env=False) as shop,
        httpx.AsyncClient(base_url=urls["payment"], timeout=TIME_LIMIT, trust_env=False) as bank,
    ):
        every_kind = kinds(datetime.now(UTC))
        await _prepare(shop, bank, every_kind)
        console.print(f"Placing {count} orders at {urls['order']}/orders", highlight=False)
        orders: dict[str, Watched] = {}
        live = Live(_board(orders, began), console=console, refresh_per_second=8) if console.is_terminal else None
        with live or nullcontext():
            placing = asyncio.create_task(_place(shop, every_kind, count, orders))
            try:
                while not placing.done() or not all(order.ended for order in orders.values()):
                    if placing.done():
                        placing.result()
                    if time.monotonic() - began > PATIENCE:
                        break
                    await _look(shop, orders, None if live else console)
                    if live:
                        live.update(_board(orders, began))
                    await asyncio.sleep(0.1)
                await placing
            finally:
                placing.cancel()
            if live:
                live.update(_board(orders, began))
        if not live:
            console.print(_board(orders, began))
        audit = (await bank.get("/audit")).raise_for_status().json()
    return _conclude(console, orders, audit, data)


async def _prepare(shop: httpx.AsyncClient, bank: httpx.AsyncClient, every_kind: tuple[Kind, ...]) -> None:
    (await shop.put("/stock/CD", json={"on_hand": 1_000_000})).raise_for_status()
    (await shop.put("/stock/rare-bootleg", json={"on_hand": 0})).raise_for_status()
    for kind in every_kind:
        terms = {"currency": CURRENCY, **kind.account}
        (await bank.put(f"/accounts/{kind.customer}", json=terms)).raise_for_status()


async def _place(shop: httpx.AsyncClient, every_kind: tuple[Kind, ...], count: int, orders: dict[str, Watched]) -> None:
    for number, kind in enumerate(_mixed(every_kind, count)):
        amount = kind.amounts[number % len(kind.amounts)]
        body = {
            "customer_id": kind.customer,
            "currency": CURRENCY,
            "lines": [{"sku": kind.sku, "quantity": 1, "amount": amount}],
        }
        response = await shop.post("/orders", json=body, headers={"Idempotency-Key": f"demo-{number}"})
        order = response.raise_for_status().json()
        orders[order["id"]] = Watched(kind, order["id"], amount)


def _mixed(every_kind: tuple[Kind, ...], count: int) -> Iterator[Kind]:
    """The kinds spread evenly, each as often as its share, the slow ones early."""
    total = sum(kind.share for kind in every_kind)
    owed = dict.fromkeys(range(len(every_kind)), 0.0)
    for _ in range(count):
        for place, kind in enumerate(every_kind):
            owed[place] += kind.share / total
        chosen = max(owed, key=lambda place: (owed[place] / every_kind[place].share, place))
        owed[chosen] -= 1
        yield every_kind[chosen]


async def _look(shop: httpx.AsyncClient, orders: dict[str, Watched], told: Console | None) -> None:
    after: str | None = None
    while True:
        query = {"limit": "500"} | ({"after": after} if after else {})
        page = (await shop.get("/orders", params=query)).raise_for_status().json()
        for seen in page["orders"]:
            order = orders.get(seen["id"])
            if order is None or order.status == seen["status"]:
                continue
            order.status, order.reason, order.captured = seen["status"], seen["reason"], seen["captured"]
            if told is not None and order.ended:
                told.print(f"{order.id}  {order.kind.name:<30} {order.outcome}", highlight=False, soft_wrap=True)
        after = page.get("next")
        if not after:
            return


def _board(orders: Mapping[str, Watched], began: float) -> Group:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("kind of order", "placed", "under way", "ended", "how"):
        table.add_column(column, justify="left" if column in ("kind of order", "how") else "right")
    by_kind: dict[str, list[Watched]] = {}
    for order in orders.values():
        by_kind.setdefault(order.kind.name, []).append(order)
    for name, some in by_kind.items():
        ended = Counter(order.outcome for order in some if order.ended)
        how = Text(", ".join(f"{number} {outcome}" for outcome, number in ended.items()))
        how.stylize("green" if set(ended) <= {"completed"} else "magenta")
        table.add_row(name, str(len(some)), str(sum(not order.ended for order in some)), str(ended.total()), how)
    done = sum(order.ended for order in orders.values())
    return Group(table, Text(f"{done} of {len(orders)} ended, {time.monotonic() - began:.1f} s", style="dim"))


def _conclude(console: Console, orders: Mapping[str, Watched], audit: Mapping[str, Any], data: Path) -> int:
    unexpected = [order for order in orders.values() if not order.ended or order.outcome != order.kind.expected]
    completed = sum(order.amount for order in orders.values() if order.status == "completed")
    captured = audit["captured"].get(CURRENCY, 0)
    held = audit["held"].get(CURRENCY, 0)
    sound = captured == completed and held == 0 and not audit["findings"]
    console.print()
    console.print("[bold]Audit of the money[/]")
    console.print(f"  completed orders     {_money(completed)}", highlight=False)
    console.print(f"  captured by payment  {_money(captured)}", highlight=False)
    console.print(f"  still held           {_money(held)}", highlight=False)
    console.print(f"  sum of all postings  {_money(audit['postings_total'].get(CURRENCY, 0))}", highlight=False)
    for finding in audit["findings"]:
        console.print(f"  [red]{finding}[/]")
    console.print(f"  [green]{'every cent is accounted for'}[/]" if sound else "  [bold red]the money is NOT right[/]")
    for order in unexpected:
        console.print(f"[red]{order.id}: {order.kind.name}: expected {order.kind.expected}, is {order.outcome}[/]")
    console.print()
    console.print("[bold]Look further[/] (everything is kept until the next demo)")
    database = f"sqlite:///{data / 'orchestrator.db'}"
    example = next((order.id for order in orders.values() if order.kind.expected == "payment_timeout"), "ID")
    console.print(f"  export DATABASE_URL={database}", highlight=False, soft_wrap=True)
    console.print(f"  export AMENDS_SAGAS={SAGAS}", highlight=False, soft_wrap=True)
    console.print("  .venv/bin/amends list", highlight=False)
    console.print(f"  .venv/bin/amends show {example}", highlight=False, soft_wrap=True)
    console.print("  .venv/bin/amends replay --all", highlight=False)
    console.print(f"  less {data / 'services.log'}", highlight=False, soft_wrap=True)
    console.print("  make run                # the same system, left running", highlight=False)
    return 0 if sound and not unexpected else 1


def addresses(urls: Mapping[str, str], data: Path) -> str:
    """Where everything is, and a line to try, for a system that is left running."""
    order = urls["order"]
    return f"""
The three services are up; Ctrl-C stops them.
  orchestrator  {urls["orchestrator"]}/readyz
  order         {order}/docs
  payment       {urls["payment"]}/audit
Place an order:
  curl -i {order}/orders -H 'Content-Type: application/json' -d \\
    '{{"customer_id": "ada", "currency": "USD", "lines": [{{"sku": "CD", "quantity": 2, "amount": 2933}}]}}'
See what becomes of it:
  curl {order}/orders
  DATABASE_URL=sqlite:///{data / "orchestrator.db"} .venv/bin/amends list
"""


def _money(minor: int) -> str:
    return f"{minor // 100:>8}.{minor % 100:02d} {CURRENCY}"
