"""What lies between the services of a harness: the in-process bus, watched, with a test's faults in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from messaging.bus import Answers, Delivery, Outgoing, QueueState, Receipt
from messaging.memory import MemoryBus, MemorySubscription
from messaging.memory_broker import MemoryBroker
from messaging.topology import DEAD_LETTERS, Topology


@dataclass(frozen=True, slots=True)
class Carried:
    """A message a service has handed to the broker."""

    service: str
    message: Outgoing


class Wire:
    """The broker all services meet at, and everything that has gone over it."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.carried: list[Carried] = []
        self.doubling = False
        self.silent: set[str] = set()
        self.publishing = 0
        """Calls of `publish` that wait for their consumers."""
        self._kept: list[_WatchedSubscription] = []

    def bus(self, service: str) -> WatchedBus:
        """A service's connection."""
        return WatchedBus(self, service, MemoryBus(self.broker, service=service))

    def restore(self, service: str) -> None:
        """The service listens again, and gets what has come meanwhile."""
        self.silent.discard(service)
        for subscription in self._kept:
            if subscription.service == service:
                subscription.catch_up()

    @property
    def said(self) -> list[Carried]:
        """The events and commands among what was carried; announcements of dead letters are none."""
        return [each for each in self.carried if each.message.exchange != DEAD_LETTERS]

    @property
    def in_hand(self) -> int:
        """Messages that were kept for a silent service and that it is only now handling."""
        return sum(subscription.in_hand for subscription in self._kept)

    def keep(self, subscription: _WatchedSubscription) -> None:
        """Remember a subscription that may have to catch up."""
        self._kept.append(subscription)


class _WatchedSubscription:
    """A consumer that can be made deaf: what comes for it then is kept, as a broker would keep it in the queue."""

    def __init__(self, wire: Wire, service: str, deliver: Callable[[Delivery], None]) -> None:
        self.service = service
        self.inner: MemorySubscription | None = None
        self._wire = wire
        self._deliver = deliver
        self._waiting: list[Delivery] = []
        self._late: set[int] = set()
        self._settling: set[asyncio.Task[None]] = set()

    def take(self, delivery: Delivery) -> None:
        """Hand a message on, or keep it."""
        if self.service not in self._wire.silent:
            self._deliver(delivery)
            return
        self._waiting.append(delivery)
        # A real broker confirms what lies in its queue; the one in memory, what has been acknowledged.
        task = asyncio.ensure_future(self._required().ack([delivery]))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    def catch_up(self) -> None:
        """Hand on what was kept."""
        waiting, self._waiting = self._waiting, []
        for delivery in waiting:
            self._late.add(delivery.tag)
            self._deliver(delivery)

    @property
    def in_hand(self) -> int:
        return len(self._late) + len(self._settling)

    @property
    def attached(self) -> bool:
        return self._required().attached

    def holds(self, delivery: Delivery) -> bool:
        return self._required().holds(delivery)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._late -= {each.tag for each in deliveries}
        await self._required().ack(deliveries)

    async def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        self._late -= {each.tag for each in deliveries}
        await self._required().reject(deliveries, requeue=requeue)

    async def step_back(self) -> None:
        await self._required().step_back()

    async def cancel(self) -> None:
        await self._required().cancel()

    def _required(self) -> MemorySubscription:
        if self.inner is None:
            raise LookupError("not subscribed yet")
        return self.inner


class WatchedBus:
    """One service's bus, watched; implements `messaging.bus.Bus`."""

    def __init__(self, wire: Wire, service: str, bus: MemoryBus) -> None:
        self._wire = wire
        self._service = service
        self._bus = bus

    @property
    def connected(self) -> bool:
        return self._bus.connected

    async def start(self) -> None:
        await self._bus.start()

    async def declare(self, topology: Topology) -> None:
        await self._bus.declare(topology)

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        self._wire.carried += [Carried(self._service, message) for message in messages]
        self._wire.publishing += 1
        try:
            receipts = await self._bus.publish(messages)
            if self._wire.doubling:
                # After the first has been committed: a reader then knows it from its inbox, not from its batch.
                await self._bus.publish(messages)
            return receipts
        finally:
            self._wire.publishing -= 1

    def send_now(self, messages: Sequence[Outgoing]) -> Answers | None:
        """Never: each is to be seen by `publish`."""
        return None

    def prepare(self, messages: Sequence[Outgoing]) -> None:
        """Nothing can be made ahead."""

    async def subscribe(
        self, queue: str, *, prefetch: int, deliver: Callable[[Delivery], None]
    ) -> _WatchedSubscription:
        watched = _WatchedSubscription(self._wire, self._service, deliver)
        watched.inner = await self._bus.subscribe(queue, prefetch=prefetch, deliver=watched.take)
        self._wire.keep(watched)
        return watched

    async def inspect(self, queue: str) -> QueueState | None:
        return await self._bus.inspect(queue)

    async def close(self) -> None:
        await self._bus.close()
