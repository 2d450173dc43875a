"""Handing on what concerns instances in other shards: a bus that keeps from its worker what is not for it.

All shards' processes read the queues that events come through. Whoever takes an event computes the instances that it
concerns; where some lie in other shards, it is published to those shards' queues and acknowledged once the broker has
confirmed that. Nothing of it touches a database: a crash in between hands it on twice, and the inbox there drops it.
What nobody can read, and what concerns no instance, is for whoever has taken it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from contracts.message import Event
from messaging.bus import Answers, Bus, Delivery, Outgoing, QueueState, Receipt, Subscription
from messaging.clock import Clock, Entropy
from messaging.envelope import CONTENT_TYPE
from messaging.outbox_rows import OutboxRow
from messaging.received import Received, read
from messaging.senders import Senders
from messaging.topology import Topology
from orchestrator.catalog import Catalog
from orchestrator.sharding import EXCHANGE, Placement, shard_of

AT_ONCE = 500
"""Deliveries in one publish: as many as a RabbitMQ channel should have unconfirmed."""
LONGEST_RETRY = 5.0


@dataclass(frozen=True, slots=True)
class Routed:
    """A delivery that concerns instances elsewhere: as it leaves, and whether it is also for the worker here."""

    delivery: Delivery
    messages: tuple[Outgoing, ...]
    here: bool


class Router:
    """Where a delivery belongs."""

    def __init__(self, catalog: Catalog, placement: Placement, senders: Senders | None = None) -> None:
        self._senders = senders
        self._catalog = catalog
        self._placement = placement

    def route(self, delivery: Delivery) -> Routed | None:
        """How it is handed on; None where it is for nobody else."""
        # What its sender may not say is not handed on: it would leave here as ours.
        received = read(delivery, self._catalog.registry, self._senders)
        if not isinstance(received, Received) or not isinstance(received.message, Event):
            return None
        shards = self._shards(received, received.message)
        elsewhere = sorted(shards - {self._placement.number})
        if not elsewhere:
            return None
        messages = tuple(handed_on(received, number) for number in elsewhere)
        return Routed(delivery, messages, here=self._placement.number in shards)

    def _shards(self, received: Received, event: Event) -> set[int]:
        try:
            targets = self._catalog.targets(received.envelope, event)
        except Exception as error:  # noqa: BLE001 - a definition's own key function: the engine here says what it raised
            structlog.get_logger().warning("cannot_route", message_id=str(received.envelope.id), error=str(error))
            return set()
        return {shard_of(target.saga_id, self._placement.shards) for target in targets}


def row_for(received: Received, number: int, now: datetime) -> OutboxRow:
    """The same as a row of the outbox, for what had been taken in before it belonged elsewhere."""
    envelope = received.envelope
    return OutboxRow(
        key=envelope.key,
        message_id=envelope.id,
        exchange=EXCHANGE,
        routing_key=str(number),
        type=envelope.type,
        source=envelope.source,
        correlation_id=envelope.correlation_id,
        body=received.body,
        created_at=now,
    )


def handed_on(received: Received, number: int) -> Outgoing:
    """The message as it leaves for a shard: the same one, as a structured CloudEvent."""
    envelope = received.envelope
    return Outgoing(
        exchange=EXCHANGE,
        routing_key=str(number),
        message_id=str(envelope.id),
        body=received.body.encode(),
        type=envelope.type,
        timestamp=envelope.time,
        app_id=envelope.source,
        correlation_id=envelope.correlation_id,
        content_type=CONTENT_TYPE,
    )


class RoutingBus:
    """A bus on which events are handed on where they belong, but for queues `apart`; a `messaging.bus.Bus`."""

    def __init__(self, bus: Bus, router: Router, apart: Collection[str], clock: Clock, entropy: Entropy) -> None:
        self._bus = bus
        self._router = router
        self._apart = frozenset(apart)
        self._clock = clock
        self._entropy = entropy
        self._routing: list[RoutingSubscription] = []

    @property
    def connected(self) -> bool:
        return self._bus.connected

    async def start(self) -> None:
        await self._bus.start()

    async def declare(self, topology: Topology) -> None:
        await self._bus.declare(topology)

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        return await self._bus.publish(messages)

    def send_now(self, messages: Sequence[Outgoing]) -> Answers | None:
        return self._bus.send_now(messages)

    def prepare(self, messages: Sequence[Outgoing]) -> None:
        self._bus.prepare(messages)

    async def subscribe(self, queue: str, *, prefetch: int, deliver: Callable[[Delivery], None]) -> Subscription:
        if queue in self._apart:
            return await self._bus.subscribe(queue, prefetch=prefetch, deliver=deliver)
        routing = RoutingSubscription(self._bus, self._router, deliver, self._clock, self._entropy)
        await routing.start(queue, prefetch)
        self._routing.append(routing)
        return routing

    async def inspect(self, queue: str) -> QueueState | None:
        return await self._bus.inspect(queue)

    async def close(self) -> None:
        for each in self._routing:
            await each.stop()
        self._routing.clear()
        await self._bus.close()


class RoutingSubscription:
    """A consumer that hands on what is not for its worker; what is, it delivers."""

    def __init__(
        self, bus: Bus, router: Router, deliver: Callable[[Delivery], None], clock: Clock, entropy: Entropy
    ) -> None:
        self._bus = bus
        self._router = router
        self._deliver = deliver
        self._clock = clock
        self._entropy = entropy
        self._waiting: list[Routed] = []
        self._something = asyncio.Event()
        self._inner: Subscription
        self._task: asyncio.Task[None]

    async def start(self, queue: str, prefetch: int) -> None:
        """Attach to the queue. Raises what `Bus.subscribe` raises."""
        self._inner = await self._bus.subscribe(queue, prefetch=prefetch, deliver=self._take)
        self._task = asyncio.create_task(self._run(), name=f"routing {queue}")

    async def stop(self) -> None:
        """Hand on nothing more; what was not comes again."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def attached(self) -> bool:
        # Whatever ends the handing on: nothing would come through here any more.
        return self._inner.attached and not self._task.done()

    def holds(self, delivery: Delivery) -> bool:
        return self._inner.holds(delivery)

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        await self._inner.ack(deliveries)

    async def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        await self._inner.reject(deliveries, requeue=requeue)

    async def step_back(self) -> None:
        await self._inner.step_back()

    async def cancel(self) -> None:
        await self._inner.cancel()

    def _take(self, delivery: Delivery) -> None:
        routed = self._router.route(delivery)
        if routed is None:
            self._deliver(delivery)
            return
        self._waiting.append(routed)
        self._something.set()

    async def _run(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting:
                taken, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
                await self._hand_on(taken)

    async def _hand_on(self, taken: list[Routed]) -> None:
        """Publish until all is confirmed; what a lost channel had delivered comes again, and is left out."""
        failures = 0
        left = [(each, message) for each in taken for message in each.messages]
        while left := [each for each in left if self._inner.holds(each[0].delivery)]:
            receipts = await self._bus.publish([message for _, message in left])
            left = [each for each, said in zip(left, receipts, strict=True) if said is not Receipt.CONFIRMED]
            if left:
                failures += 1
                structlog.get_logger().warning("handing_on_waits", messages=len(left), failures=failures)
                wait = min(0.05 * 2 ** min(failures, 10), LONGEST_RETRY)
                await self._clock.sleep(wait * (0.5 + self._entropy.jitter()))
        for each in taken:
            if each.here:
                self._deliver(each.delivery)
        await self._inner.ack([each.delivery for each in taken if not each.here])
