"""The three services between real databases and scripted brokers, a batch at a time, and what each batch takes."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import httpx
import structlog
from sqlalchemy import MetaData, event

from messaging import schema
from messaging.bus import Delivery, Outgoing
from messaging.outbox import INFO, Emitting
from messaging.topology import COMMANDS
from orchestrator import stamping
from orchestrator.catalog import Catalog
from orchestrator.engine import Engine
from orchestrator.sagas.fulfill_order import FULFILL_ORDER
from orchestrator.schema import metadata as orchestrator_tables
from orchestrator.schema import saga
from orchestrator.sharding import ALONE
from services.order.api import create_app
from services.order.handlers import participant as order_participant
from services.order.store import metadata as order_tables
from services.order.store import orders
from services.payment.handlers import participant as payment_participant
from services.payment.schema import metadata as payment_tables
from tests import laying
from tests.contract.messaging.bench import PATIENCE, Bench

PLENTY = 10**9
_AS_AN_ORDER = {"completed": "completed", "compensated": "canceled"}
TABLES: dict[str, MetaData] = {"orchestrator": orchestrator_tables, "order": order_tables, "payment": payment_tables}


@dataclass(slots=True)
class Cost:
    """What a service did from the delivery of a batch until its last message was published."""

    statements: list[str] = field(default_factory=list)
    """Transaction control left out, and the poller's looks, which come by the clock."""
    commits: int = 0
    publishes: list[int] = field(default_factory=list)
    """How many messages each publish took along."""
    bytes: int = 0
    """Of the bodies of all of them."""
    logged: list[str] = field(default_factory=list)
    """What was logged from `info` on, as in production."""
    calls: int = 0
    """Functions called, Python's and C's, where `deep`."""
    peak: int = 0
    """Bytes at most beyond those at the beginning, where `deep`."""
    kept: int = 0
    """Blocks of memory that are still there when nobody works any more, where `deep`."""
    garbage: Counter[str] = field(default_factory=Counter)
    """Objects of ours that only a search for garbage lets go of, by class, where `deep`."""

    @property
    def round_trips(self) -> int:
        """Of one transaction: its statements, its BEGIN and its COMMIT are each sent and waited for."""
        return len(self.statements) + 2 * self.commits


OURS = {"contracts", "messaging", "orchestrator", "services"}


class Trade:
    """Orders, payments and sagas; every message waits until the batch of its receiver is asked for."""

    def __init__(self, benches: dict[str, Bench]) -> None:
        self.benches = benches
        self._taken = dict.fromkeys(benches, 0)
        self._waiting: dict[str, list[Outgoing]] = {name: [] for name in benches}
        self._client: httpx.AsyncClient | None = None

    @property
    def dialect(self) -> str:
        """Of their databases."""
        return self.benches["order"].database.dialect

    async def start(self, *, on_hand: int = PLENTY) -> None:
        """Start the three workers and the order service's API; there is so much of everything."""
        for name, bench in self.benches.items():
            await laying.create(bench.database, schema.metadata, TABLES[name])
        # As each process does before it takes anything in: its database says whose it is.
        await stamping.check(self.benches["orchestrator"].database, ALONE)
        await self.benches["orchestrator"].serve(Engine(Catalog([FULFILL_ORDER])))
        await self.benches["order"].serve(order_participant(default_stock=on_hand))
        now = self.benches["payment"].clock.now
        await self.benches["payment"].serve(payment_participant(default_credit_limit=PLENTY, now=now))
        order = self.benches["order"]
        emitting = Emitting(order.clock, order.entropy, "order", order.relay)
        app = create_app(
            order.database,
            info={INFO: emitting},
            now=order.clock.now,
            new_id=lambda: order.entropy.message_id(order.clock.now()),
            default_stock=on_hand,
        )
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://order")

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
        for bench in self.benches.values():
            await bench.close()

    async def place(self, number: int) -> Cost:
        """POST one order, and let its event out."""
        wish = {"customer_id": f"c{number}", "currency": "USD", "lines": [{"sku": "CD", "quantity": 1, "amount": 1499}]}
        assert self._client is not None, "start it first"
        with self._counting("order") as cost:
            response = await self._client.post("/orders", json=wish)
            assert response.status_code == 201, response.text
            await self.benches["order"].relay._publish_offered()
        self._collect("order")
        return cost

    async def batch(self, name: str, *, deep: bool = False, overhear: bool = True) -> tuple[list[str], Cost]:
        """Hand over everything that waits for this service as one batch; returns the types of the messages, too.

        Its statements are counted only where somebody may overhear them: it is SQLAlchemy that speaks them then.
        """
        bench, waiting = self.benches[name], self._waiting[name]
        self._waiting[name] = []
        deliveries = [_delivery(bench, each) for each in waiting]
        with self._counting(name, overhear=overhear) as cost, _deep(cost, wanted=deep):
            # Looking again and again, as `handle` does, would count as calls: more of them on a slow machine.
            bench.bus.acknowledging.clear()
            bench.bus.hand_over(deliveries)
            async with asyncio.timeout(PATIENCE):
                await bench.bus.acknowledging.wait()
            await bench.relay._publish_offered()
        assert {each.tag for each in deliveries} <= set(bench.bus.settled)
        self._collect(name)
        return [each.type for each in waiting], cost

    async def ended(self) -> dict[str, int]:
        """How many sagas there are, by status, and that the orders say the same."""
        sagas = Counter(row.status for row in await self.benches["orchestrator"].rows(saga))
        placed = Counter(row.status for row in await self.benches["order"].rows(orders))
        assert placed == Counter({_AS_AN_ORDER[status]: count for status, count in sagas.items()})
        return dict(sagas)

    def _collect(self, name: str) -> None:
        published = self.benches[name].bus.published
        fresh = published[self._taken[name] :]
        self._taken[name] = len(published)
        for each in fresh:
            self._waiting[_receiver(each)].append(each)

    @contextmanager
    def _counting(self, name: str, *, overhear: bool = True) -> Iterator[Cost]:
        bench, cost = self.benches[name], Cost()
        engine = bench.database.engine.sync_engine
        calls, published = len(bench.bus.calls), len(bench.bus.published)

        def statement(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
            if "LIMIT" not in text and not text.upper().startswith(("BEGIN", "PRAGMA", "SET LOCAL")):
                cost.statements.append(text)

        def commit(_connection: Any) -> None:
            cost.commits += 1

        def log(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> str:
            cost.logged.append(str(entry["event"]))
            raise structlog.DropEvent

        if overhear:
            event.listen(engine, "before_cursor_execute", statement)
        event.listen(engine, "commit", commit)
        structlog.configure(processors=[log], wrapper_class=structlog.make_filtering_bound_logger("info"))
        try:
            yield cost
        finally:
            if overhear:
                event.remove(engine, "before_cursor_execute", statement)
            event.remove(engine, "commit", commit)
            cost.publishes = [len(each) for each in bench.bus.calls[calls:]]
            cost.bytes = sum(len(each.body) for each in bench.bus.published[published:])


def _delivery(bench: Bench, message: Outgoing) -> Delivery:
    return bench.raw(
        message.body,
        exchange=message.exchange,
        routing_key=message.routing_key,
        content_type=message.content_type,
        message_id=message.message_id,
        type=message.type,
        correlation_id=message.correlation_id,
    )


def _receiver(message: Outgoing) -> str:
    if message.exchange == COMMANDS:
        return message.type.partition(".")[0]
    return "order" if message.type.startswith("fulfillment.") else "orchestrator"


def _garbage() -> Counter[str]:
    """Collect what nobody refers to but itself; returns what of it is ours."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = [type(each) for each in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.collect()
    return Counter(kind.__qualname__ for kind in kinds if kind.__module__.partition(".")[0] in OURS)


@contextmanager
def _deep(cost: Cost, *, wanted: bool) -> Iterator[None]:
    """Count the functions called in this thread, and the memory they take."""
    if not wanted:
        yield
        return

    def called(_frame: FrameType, kind: str, _argument: object) -> None:
        if kind in ("call", "c_call"):
            cost.calls += 1

    gc.collect()
    gc.disable()
    before = sys.getallocatedblocks()
    tracemalloc.start()
    sys.setprofile(called)
    try:
        yield
    finally:
        sys.setprofile(None)
        _, cost.peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        cost.garbage = _garbage()
        gc.enable()
        cost.kept = sys.getallocatedblocks() - before
