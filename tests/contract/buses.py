"""One face for every bus adapter, so that the conformance suite need not know which one it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Protocol
from uuid import uuid4

import aio_pika
import pytest

from messaging.bus import Bus, Delivery, Outgoing, Receipt, Subscription
from messaging.memory import MemoryBroker, MemoryBus
from messaging.rabbitmq import RabbitBus
from messaging.topology import Binding, Queue, Topology, dead_letter_queue
from orchestrator.testing.wire import WatchedBus, Wire

PATIENCE = 30.0
"""Seconds after which something that should have happened is taken not to happen."""
LATE = timedelta(seconds=4 * PATIENCE)
"""A time limit that does not help what has to happen without it."""

_numbers = count(1)


class Bench(Protocol):
    """An adapter and names of its own, so that tests do not meet on a shared broker."""

    events: str
    dead_letters: str

    async def connect(self, service: str = "tester", *, passive: bool = False) -> Bus:
        """A started bus, closed when the test ends."""

    async def close(self) -> None:
        """Close every bus and leave nothing behind."""


class _Named:
    def __init__(self) -> None:
        self.prefix = f"test-{uuid4().hex[:12]}"
        self.events = f"{self.prefix}.events"
        self.dead_letters = f"{self.prefix}.dead"
        self.open: list[Bus] = []

    async def close(self) -> None:
        for bus in self.open:
            await bus.close()


class MemoryBench(_Named):
    """Buses that meet in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = MemoryBroker()

    async def connect(self, service: str = "tester", *, passive: bool = False) -> Bus:
        bus = MemoryBus(self.broker, service=service, passive=passive)
        await bus.start()
        self.open.append(bus)
        return bus


class WatchedBench(MemoryBench):
    """The same through the testing kit's bus, with no fault in it."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire()

    async def connect(self, service: str = "tester", *, passive: bool = False) -> Bus:
        bus = WatchedBus(self.wire, service, MemoryBus(self.broker, service=service, passive=passive))
        await bus.start()
        self.open.append(bus)
        return bus


class RabbitBench(_Named):
    """Buses on a RabbitMQ broker; what a test has declared is deleted afterwards."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    async def connect(
        self,
        service: str = "tester",
        *,
        passive: bool = False,
        url: str | None = None,
        publish_timeout: timedelta = timedelta(seconds=PATIENCE),
        heartbeat: int = 30,
    ) -> RabbitBus:
        bus = RabbitBus(
            url or self.url,
            service=service,
            passive=passive,
            publish_timeout=publish_timeout,
            connect_timeout=timedelta(seconds=PATIENCE),
            heartbeat=heartbeat,
        )
        await bus.start()
        self.open.append(bus)
        return bus

    async def close(self) -> None:
        await super().close()
        async with await aio_pika.connect(self.url) as connection:
            async with connection.channel() as channel:
                for name in ("one", "two", "three", "dead"):
                    await channel.queue_delete(f"{self.prefix}.{name}")
                await channel.exchange_delete(self.events)
                await channel.exchange_delete(self.dead_letters)


def queue(bench: Bench, name: str, *patterns: str, delivery_limit: int = 20) -> Queue:
    """A quorum queue of the bench (`one`, `two` or `three`), bound to its events exchange."""
    return Queue(
        f"{bench.events.removesuffix('events')}{name}",
        tuple(Binding(bench.events, pattern) for pattern in patterns),
        dead_letter_exchange=bench.dead_letters,
        delivery_limit=delivery_limit,
    )


def dead_queue(bench: Bench) -> Queue:
    """The queue that gets all of the bench's dead letters."""
    return replace(dead_letter_queue(), name=bench.dead_letters, bindings=(Binding(bench.dead_letters, "#"),))


def topology(bench: Bench, *queues: Queue) -> Topology:
    """The bench's exchanges, these queues and the dead-letter queue."""
    return Topology((bench.events, bench.dead_letters), (*queues, dead_queue(bench)))


def message(bench: Bench, routing_key: str, body: bytes = b"{}", *, message_id: str | None = None) -> Outgoing:
    """A message to the bench's events exchange."""
    return Outgoing(
        exchange=bench.events,
        routing_key=routing_key,
        message_id=message_id or f"message-{next(_numbers)}",
        body=body,
        type=routing_key,
        timestamp=datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC),
        app_id="tester",
    )


class Reader:
    """Collects what a subscription delivers, and waits for it."""

    def __init__(self, *, ack: bool = True) -> None:
        self.subscription: Subscription
        self.seen: list[Delivery] = []
        self.most_unsettled = 0
        self._ack = ack
        self._taken = 0
        self._unsettled = 0
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def subscribe(self, bus: Bus, queue: str, *, prefetch: int = 100) -> Reader:
        """Start reading; returns itself."""
        self.subscription = await bus.subscribe(queue, prefetch=prefetch, deliver=self._deliver)
        return self

    async def take(self, number: int) -> list[Delivery]:
        """The next so many deliveries, in the order in which they came."""
        async with asyncio.timeout(PATIENCE):
            async with self._arrived:
                await self._arrived.wait_for(lambda: len(self.seen) >= self._taken + number)
        taken = self.seen[self._taken : self._taken + number]
        self._taken += number
        return taken

    def untaken(self) -> list[Delivery]:
        """What has come and was not asked for."""
        return self.seen[self._taken :]

    def _deliver(self, delivery: Delivery) -> None:
        self.seen.append(delivery)
        self._unsettled += 1
        self.most_unsettled = max(self.most_unsettled, self._unsettled)
        task = asyncio.create_task(self._note(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _note(self, delivery: Delivery) -> None:
        async with self._arrived:
            self._arrived.notify_all()
        if self._ack:
            self._unsettled -= 1
            await self.subscription.ack([delivery])


async def read(bus: Bus, queue: Queue, *, prefetch: int = 100, ack: bool = True) -> Reader:
    """A reader of that queue."""
    return await Reader(ack=ack).subscribe(bus, queue.name, prefetch=prefetch)


def publishing(bus: Bus, messages: Sequence[Outgoing]) -> asyncio.Task[Sequence[Receipt]]:
    """A publish that goes on while the test plays the consumer; in memory it ends when all is settled."""
    return asyncio.create_task(bus.publish(messages))


def bodies(deliveries: Sequence[Delivery]) -> list[bytes]:
    """What they say, in order."""
    return [each.body for each in deliveries]


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that happens in the background; fails the test when it does not."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - the conditions are properties of buses, not events
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"waited {PATIENCE:g} s in vain: {what}")
