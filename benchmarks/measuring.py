"""The measurements: what is timed from when to when, and what it cost."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from benchmarks import orders
from benchmarks.endings import Endings
from benchmarks.system import NotMeasurable, System
from benchmarks.usage import Usage
from deploy.inspection import Inspection, inspect, opened, work_left
from messaging.database import Database
from messaging.rabbitmq import RabbitBus
from orchestrator.percentiles import percentile

PATIENCE = 180.0
"""Seconds until sagas that have not ended are given up."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Sagas a second, and the CPU milliseconds that one saga cost each process."""

    sagas_per_second: float
    cpu_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds from the beginning to the end of each saga, the shortest first."""

    waits: tuple[float, ...]

    @property
    def p50(self) -> float:
        return percentile(self.waits, 50)

    @property
    def p99(self) -> float:
        return percentile(self.waits, 99)


@dataclass(frozen=True, slots=True)
class Span:
    """When a saga began and ended, on the clock of `time.monotonic`; or anything else did."""

    began: float
    ended: float

    def meets(self, other: Span) -> bool:
        """Whether both were under way at the same time."""
        return self.began < other.ended and other.began < self.ended


def latency_of(spans: Iterable[Span]) -> Latency:
    """How long these took."""
    return Latency(tuple(sorted(each.ended - each.began for each in spans)))


class Bench:
    """Measures one running system."""

    def __init__(self, system: System, endings: Endings, bus: RabbitBus, database: Database) -> None:
        self._system = system
        self._endings = endings
        self._bus = bus
        self._database = database
        self.placed = 0
        self.failing = 0

    async def from_events(self, count: int) -> Throughput:
        """From the first order.created that is published to the last saga's last event."""
        events = await orders.write_orders(self._database, count)
        self._expect(count)
        before = self._usage()
        began = time.monotonic()
        await orders.announce(self._bus, events)
        await self._ended(count)
        return self._throughput(count, before, began)

    async def in_flight(self, count: int, most: int) -> Throughput:
        """As `from_events`, with no more than `most` sagas at a time: one that ends lets the next begin."""
        events = await orders.write_orders(self._database, count)
        messages = orders.messages(events)
        self._expect(count)
        before, sent = self._usage(), 0
        began = time.monotonic()
        while sent < count:
            room = most - (sent - len(self._endings.at))
            if room <= 0:
                await self._ended(sent - most + 1)
                continue
            batch = messages[sent : sent + min(room, orders.WINDOW)]
            sent += len(batch)
            await orders.publish(self._bus, batch)
        await self._ended(count)
        return self._throughput(count, before, began)

    async def from_requests(self, count: int) -> Throughput:
        """From the first POST /orders to the last saga's last event."""
        self._expect(count)
        before = self._usage()
        sent = await self._post(count)
        await self._ended(count)
        return self._throughput(count, before, min(sent.values()))

    async def event_latency(self, rate: float, seconds: float) -> Latency:
        """From each order.created, just before it is published, to the end of its saga, at a steady rate."""
        return latency_of(await self.event_spans(rate, seconds))

    async def event_spans(self, rate: float, seconds: float) -> list[Span]:
        """The same: when each began and ended."""
        count = max(1, round(rate * seconds))
        events = await orders.write_orders(self._database, count)
        messages = orders.messages(events)
        self._expect(count)
        sent: dict[UUID, float] = {}
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, (event, message) in enumerate(zip(events, messages, strict=True)):
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                sent[event.order_id] = time.monotonic()
                group.create_task(orders.publish(self._bus, [message]))
        await self._ended(count)
        return [Span(moment, self._endings.at[identity]) for identity, moment in sent.items()]

    async def request_latency(self, rate: float, seconds: float) -> Latency:
        """From each POST /orders, timed from when it was due, to the end of its saga, at a steady rate."""
        count = max(1, round(rate * seconds))
        self._expect(count)
        sent = await self._post(count, "--rate", str(rate))
        await self._ended(count)
        return self._waits(sent)

    def memory(self) -> Mapping[str, int]:
        """Resident bytes of every process now."""
        return self._usage().rss

    def _usage(self) -> Usage:
        return self._system.watched().usage()

    def _waits(self, sent: Mapping[UUID, float]) -> Latency:
        return Latency(tuple(sorted(self._endings.at[identity] - moment for identity, moment in sent.items())))

    def _expect(self, count: int) -> None:
        self._endings.forget()
        self.placed += count
        self.failing += orders.expected_failures(count)

    async def _ended(self, count: int) -> None:
        if not await self._endings.reached(count, PATIENCE):
            self._system.check()
            raise NotMeasurable(f"only {len(self._endings.at)} of {count} sagas have ended after {PATIENCE:g} s")

    def _throughput(self, count: int, before: Usage, began: float) -> Throughput:
        ended = max(self._endings.at.values())
        used = self._usage().since(before)
        return Throughput(count / (ended - began), {name: spent / count * 1000 for name, spent in used.items()})

    async def _post(self, count: int, *options: str) -> dict[UUID, float]:
        command = (sys.executable, "-m", "benchmarks.posting", self._system.order_url, str(count), *options)
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        output, _ = await process.communicate()
        if process.returncode:
            raise NotMeasurable(f"posting orders ended with exit code {process.returncode}; its words are above")
        lines = [json.loads(line) for line in output.splitlines()]
        return {UUID(line["order_id"]): line["sent"] for line in lines}


@asynccontextmanager
async def bench_of(system: System) -> AsyncIterator[Bench]:
    """A running system ready to be measured: the ends of its sagas are watched, and there is stock."""
    async with AsyncExitStack() as stack:
        endings = await stack.enter_async_context(Endings(system.amqp_url))
        bus = RabbitBus(system.amqp_url, service="benchmark")
        await bus.start()
        stack.push_async_callback(bus.close)
        database = Database(system.databases["order"], pool_size=1)
        stack.push_async_callback(database.close)
        await orders.fill_stock(database)
        yield Bench(system, endings, bus, database)


async def settled(urls: Mapping[str, str], *, waiting: int = 0) -> None:
    """Return when nothing is left to do anywhere, but for so many sagas that wait. Raises NotMeasurable."""
    expected = {"sagas under way": waiting} if waiting else {}
    async with opened(_ours(urls)) as databases:
        give_up = time.monotonic() + PATIENCE
        while (left := await work_left(databases)) != expected:
            if time.monotonic() > give_up:
                raise NotMeasurable(f"this is left to do after {PATIENCE:g} s: {left}")
            await asyncio.sleep(0.2)


async def result_of(urls: Mapping[str, str]) -> Inspection:
    """What the databases say of everything that was done."""
    async with opened(_ours(urls)) as databases:
        return await inspect(databases, default_stock=0, stocked=orders.STOCKED)


def wrong(found: Inspection, placed: int, failing: int) -> list[str]:
    """What is not as it has to be: how orders ended, where each unit of money and stock is."""
    expected = {"completed": placed - failing, "out_of_stock": failing}
    findings = [*found.findings]
    if found.ended != expected:
        findings.append(f"orders ended {dict(found.ended)}, not {expected}")
    captured = {orders.CURRENCY: (placed - failing) * orders.AMOUNT}
    if found.audit.captured != captured:
        findings.append(f"captured {dict(found.audit.captured)}, not {captured} (minor units)")
    return findings


def _ours(urls: Mapping[str, str]) -> dict[str, str]:
    return {name: urls[name] for name in ("orchestrator", "order", "payment")}
