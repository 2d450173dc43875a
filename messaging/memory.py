"""A bus inside one process and one event loop: the embedded mode, and tests without a broker.

Several services, each with its `MemoryBus`, meet at one `MemoryBroker`: topic exchanges, queues and
dead-lettering as RabbitMQ has them, held in memory. So that `kill -9` loses nothing although nothing is
stored here, a publish is CONFIRMED only when every queue it was routed to has had it acknowledged: until
then the row still lies in the sender's outbox. What follows from that:

- Acknowledge when you have committed, never when your own answers have been confirmed: two services that
  wait for each other's acknowledgment would both run into the publish timeout.
- A message that is rejected counts as settled once whoever reads the queues of the dead-letter exchange has
  acknowledged it there. A ring takes a message over at once while nobody consumes it, and keeps the newest
  `LAST_QUEUE_KEEPS`: the dead letter itself is a row in its service's database.
- The delivery limit counts what a consumer gives back by `reject`, not what goes back when it ends or its bus closes:
  here a message that kills its reader takes the queue along, so that only harmless closings would add up.
- A message that nobody took before the publish timed out is taken back; a consumer that hangs fills no
  memory.

There is no chance and no clock in here but the event loop's: a simulation that owns the loop owns the order
of events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from messaging.bus import Answers, BusUnavailable, Delivery, Outgoing, QueueState, Receipt, TopologyMismatch
from messaging.memory_broker import LAST_QUEUE_KEEPS, Batch, Copy, MemoryBroker, MemoryQueue
from messaging.topology import Topology

__all__ = ["LAST_QUEUE_KEEPS", "MemoryBroker", "MemoryBus", "MemorySubscription"]


class MemorySubscription:
    """A consumer of one queue of a MemoryBroker."""

    def __init__(self, queue: MemoryQueue, prefetch: int, deliver: Callable[[Delivery], None]) -> None:
        self._queue = queue
        self._prefetch = prefetch
        self._deliver = deliver
        self._held: dict[int, Copy] = {}
        self._last_tag = 0
        self._attached = True
        queue.attach(self)

    @property
    def attached(self) -> bool:
        return self._attached

    @property
    def has_room(self) -> bool:
        """Whether fewer than `prefetch` deliveries are unsettled."""
        return len(self._held) < self._prefetch

    def take(self, copy: Copy) -> None:
        """Hand a message to the consumer."""
        self._last_tag += 1
        self._held[self._last_tag] = copy
        self._deliver(copy.delivery(self._last_tag))

    def holds(self, delivery: Delivery) -> bool:
        return delivery.tag in self._held

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        for copy in self._let_go(deliveries):
            copy.settle()

    async def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        copies = self._let_go(deliveries)
        if requeue:
            back = self._queue.give_back if self._attached else self._queue.put_back
            for copy in reversed(copies):
                back(copy)
        else:
            for copy in copies:
                self._queue.dead_letter(copy, "rejected")

    async def step_back(self) -> None:
        if self._attached:
            self._queue.detach(self)
            self._queue.attach(self)

    async def cancel(self) -> None:
        self._attached = False
        self._queue.detach(self)

    def close(self) -> None:
        """Stop, and give back what is unsettled: it was never confirmed to its sender."""
        self._attached = False
        self._queue.detach(self)
        copies = list(self._held.values())
        self._held.clear()
        for copy in reversed(copies):
            self._queue.put_back(copy)

    def _let_go(self, deliveries: Sequence[Delivery]) -> list[Copy]:
        copies = [self._held.pop(each.tag) for each in deliveries if each.tag in self._held]
        self._queue.pump_soon()
        return copies


class MemoryBus:
    """One service's connection to a MemoryBroker; implements `messaging.bus.Bus`.

    `service` is the user its messages are sent as. `publish_timeout` bounds how long a publish waits for the
    consumers to commit; it is long, because only a consumer that hangs delays them. `passive` only checks the
    topology.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        *,
        service: str,
        publish_timeout: timedelta = timedelta(seconds=30),
        passive: bool = False,
    ) -> None:
        self._broker = broker
        self._service = service
        self._publish_timeout = publish_timeout.total_seconds()
        self._passive = passive
        self._started = False
        self._subscriptions: list[MemorySubscription] = []
        # A dict and not a set: who is woken first must not depend on hashes.
        self._batches: dict[Batch, None] = {}

    @property
    def connected(self) -> bool:
        return self._started

    async def start(self) -> None:
        self._started = True

    async def declare(self, topology: Topology) -> None:
        self._require_started()
        if self._passive:
            self._broker.check(topology)
        else:
            self._broker.declare(topology)

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        if not self._started:
            return [Receipt.UNKNOWN] * len(messages)
        batch = Batch(len(messages), asyncio.get_running_loop())
        self._batches[batch] = None
        sent = [self._broker.publish(message, self._service, batch, index) for index, message in enumerate(messages)]
        try:
            async with asyncio.timeout(self._publish_timeout):
                await batch.done
        except TimeoutError:
            structlog.get_logger(__name__).warning(
                "publish_unconfirmed",
                messages=batch.receipts.count(Receipt.UNKNOWN),
                seconds=self._publish_timeout,
            )
        finally:
            self._batches.pop(batch, None)
            # Whoever called sends again what is UNKNOWN; copies that nobody has taken yet would only pile up.
            for publication in sent:
                if publication is not None:
                    for copy in publication.copies:
                        copy.queue.withdraw(copy)
        return batch.receipts

    def send_now(self, messages: Sequence[Outgoing]) -> Answers | None:
        """Never: here nothing is shorter than a publish."""
        return None

    def prepare(self, messages: Sequence[Outgoing]) -> None:
        """Nothing can be made ahead: there are no bytes."""

    async def subscribe(self, queue: str, *, prefetch: int, deliver: Callable[[Delivery], None]) -> MemorySubscription:
        self._require_started()
        if prefetch < 1:
            raise ValueError(f"prefetch={prefetch}: a consumer takes at least one message at a time")
        found = self._broker.queue(queue)
        if found is None:
            raise TopologyMismatch(f"there is no queue {queue!r} to consume; declare it first")
        subscription = MemorySubscription(found, prefetch, deliver)
        self._subscriptions.append(subscription)
        return subscription

    async def inspect(self, queue: str) -> QueueState | None:
        self._require_started()
        found = self._broker.queue(queue)
        return None if found is None else QueueState(queue, len(found), found.consumers)

    async def close(self) -> None:
        self._started = False
        # Nobody is left to hear of them; the copies nobody took go with the call that waits.
        for batch in self._batches:
            batch.give_up()
        for subscription in reversed(self._subscriptions):
            subscription.close()
        self._subscriptions.clear()

    def _require_started(self) -> None:
        if not self._started:
            raise BusUnavailable("the bus in memory is not started, or closed again; call start() first")
