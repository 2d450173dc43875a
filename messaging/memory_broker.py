"""The broker of `messaging.memory`: exchanges, queues, copies of messages and who waits for them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import replace
from typing import Protocol, cast
from zlib import crc32

import structlog

from messaging.bus import Delivery, Outgoing, Receipt, TopologyMismatch
from messaging.topology import Binding, Queue, QueueType, Spread, Topology

LAST_QUEUE_KEEPS = 1_000
"""Messages kept in a ring that has no consumer: memory is dearer than a broker's disk."""
_DELIVERIES_PER_TURN = 32


def matches(pattern: str, routing_key: str) -> bool:
    """Whether a topic binding matches: `*` stands for one word, `#` for any number of words."""
    reachable = {0}
    words = routing_key.split(".") if routing_key else []
    for part in pattern.split(".") if pattern else []:
        if part == "#":
            reachable = set(range(min(reachable), len(words) + 1))
        else:
            reachable = {at + 1 for at in reachable if at < len(words) and part in ("*", words[at])}
        if not reachable:
            return False
    return len(words) in reachable


class Batch:
    """The messages of one `publish` call, and the call that waits for them."""

    def __init__(self, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self.receipts = [Receipt.UNKNOWN] * size
        self.done = loop.create_future()
        self._left = size
        if not size:
            self.give_up()

    def settle(self, index: int, receipt: Receipt) -> None:
        self.receipts[index] = receipt
        self._left -= 1
        if not self._left:
            self.give_up()

    def give_up(self) -> None:
        """End the wait; what is not settled stays UNKNOWN."""
        if not self.done.done():
            self.done.set_result(None)


class Publication:
    """One message of a batch; settled when each of its copies is."""

    __slots__ = ("_batch", "_index", "copies")

    def __init__(self, batch: Batch, index: int) -> None:
        self._batch = batch
        self._index = index
        self.copies: set[Copy] = set()

    def settle(self, copy: Copy) -> None:
        self.copies.discard(copy)
        if not self.copies:
            self._batch.settle(self._index, Receipt.CONFIRMED)


class Copy:
    """A message in one queue, or in the hands of one of the queue's consumers."""

    __slots__ = ("message", "publication", "queue", "redelivered", "returns", "sender")

    def __init__(self, message: Outgoing, sender: str, queue: MemoryQueue, publication: Publication | None) -> None:
        self.message = message
        self.sender = sender
        self.queue = queue
        self.publication = publication
        self.redelivered = False
        self.returns = 0

    def delivery(self, tag: int) -> Delivery:
        """The message as a consumer gets it."""
        message = self.message
        return Delivery(
            queue=self.queue.definition.name,
            tag=tag,
            body=message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            redelivered=self.redelivered,
            message_id=message.message_id,
            type=message.type,
            content_type=message.content_type,
            correlation_id=message.correlation_id,
            app_id=message.app_id,
            user_id=self.sender,
            # AMQP counts whole seconds; a finer time travels in the envelope.
            timestamp=message.timestamp.replace(microsecond=0),
            headers=dict(message.headers),
        )

    def settle(self) -> None:
        if self.publication is not None:
            self.publication.settle(self)
            self.publication = None


class Consumer(Protocol):
    """Who takes messages from a queue."""

    @property
    def has_room(self) -> bool:
        """Whether it may take one more."""

    def take(self, copy: Copy) -> None:
        """Hand it a message."""


class MemoryQueue:
    """Messages in order, and consumers taking turns."""

    def __init__(self, definition: Queue, broker: MemoryBroker) -> None:
        self.definition = definition
        self._broker = broker
        self._waiting: OrderedDict[Copy, None] = OrderedDict()
        self._consumers: deque[Consumer] = deque()
        self._scheduled = False

    def put(self, copy: Copy) -> None:
        self._waiting[copy] = None
        if not self._consumers and self.definition.ring:
            copy.settle()
            if len(self._waiting) > LAST_QUEUE_KEEPS:
                self._waiting.popitem(last=False)
        self.pump_soon()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def consumers(self) -> int:
        """How many read it."""
        return len(self._consumers)

    def give_back(self, copy: Copy) -> None:
        """As `put_back`, or away, when it has been given back too often."""
        copy.returns += 1
        limit = self.definition.delivery_limit if self.definition.type is QueueType.QUORUM else None
        if limit is not None and copy.returns > limit:
            self.dead_letter(copy, "delivery_limit")
        else:
            self.put_back(copy)

    def put_back(self, copy: Copy) -> None:
        """To the front, where it was taken from."""
        copy.redelivered = True
        self._waiting[copy] = None
        self._waiting.move_to_end(copy, last=False)
        self.pump_soon()

    def withdraw(self, copy: Copy) -> None:
        """Forget it, unless a consumer has it."""
        self._waiting.pop(copy, None)

    def dead_letter(self, copy: Copy, reason: str) -> None:
        exchange = self.definition.dead_letter_exchange
        if exchange is not None:
            self._broker.dead_letter(exchange, copy, reason)
        copy.settle()

    def attach(self, consumer: Consumer) -> None:
        self._consumers.append(consumer)
        self.pump_soon()

    def detach(self, consumer: Consumer) -> None:
        if consumer in self._consumers:
            self._consumers.remove(consumer)

    def pump_soon(self) -> None:
        if not self._scheduled and self._waiting and self._consumers:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        for _ in range(min(_DELIVERIES_PER_TURN, len(self._waiting))):
            consumer = self._next_consumer()
            if consumer is None:
                return
            copy, _nothing = self._waiting.popitem(last=False)
            consumer.take(copy)
        # The rest waits for the loop's next turn, so that no queue starves the others.
        if self._next_consumer() is not None:
            self.pump_soon()

    def _next_consumer(self) -> Consumer | None:
        if self.definition.single_active:
            first = self._consumers[0] if self._consumers else None
            return first if first is not None and first.has_room else None
        for _ in range(len(self._consumers)):
            self._consumers.rotate(-1)
            if self._consumers[-1].has_room:
                return self._consumers[-1]
        return None


class MemorySpread:
    """An exchange behind others that gives each message to one of its queues."""

    def __init__(self) -> None:
        self.queues: list[MemoryQueue] = []

    def choose(self, correlation_id: str | None) -> list[MemoryQueue]:
        """The one for this correlation id, if there is any."""
        if not self.queues:
            return []
        return [self.queues[crc32((correlation_id or "").encode()) % len(self.queues)]]


class MemoryBroker:
    """Where the `MemoryBus` of every service in this process meet. Belongs to one event loop."""

    def __init__(self) -> None:
        self._bindings: dict[str, list[tuple[str, MemoryQueue | MemorySpread]]] = {}
        self._queues: dict[str, MemoryQueue] = {}
        self._spreads: dict[str, MemorySpread] = {}
        self._routes: dict[tuple[str, str], tuple[MemoryQueue | MemorySpread, ...]] = {}

    def declare(self, topology: Topology) -> None:
        """Make what is missing; raises TopologyMismatch where a queue exists but is different."""
        for exchange in topology.exchanges:
            self._bindings.setdefault(exchange, [])
        for spread in topology.spreads:
            self._spreads.setdefault(spread.name, MemorySpread())
        for definition in topology.queues:
            queue = self._queues.get(definition.name)
            if queue is None:
                queue = self._queues[definition.name] = MemoryQueue(definition, self)
            elif replace(queue.definition, bindings=()) != replace(definition, bindings=()):
                raise TopologyMismatch(
                    f"queue {definition.name!r} exists as {queue.definition}, but {definition} is wanted; "
                    "let every service of this process declare it alike"
                )
            for binding in definition.bindings:
                self._bind(queue, binding)
        for spread in topology.spreads:
            for binding in spread.bindings:
                self._bind_to(self._spreads[spread.name], binding, f"exchange {spread.name!r}")
        for each in topology.retired:
            self._retire(each)

    def check(self, topology: Topology) -> None:
        """Raise TopologyMismatch where an exchange or queue is missing."""
        for kind, known, wanted in (
            ("exchange", self._bindings.keys(), topology.exchanges),
            ("exchange", self._spreads.keys(), tuple(spread.name for spread in topology.spreads)),
            ("queue", self._queues.keys(), tuple(queue.name for queue in topology.queues)),
        ):
            for name in wanted:
                if name not in known:
                    raise TopologyMismatch(
                        f"{kind} {name!r} is missing; declare it first, or connect without passive=True"
                    )

    def queue(self, name: str) -> MemoryQueue | None:
        """The queue of that name, if somebody has declared it."""
        return self._queues.get(name)

    def depth(self, queue: str) -> int:
        """How many messages wait in a queue, not counting those its consumers hold."""
        found = self._queues.get(queue)
        return 0 if found is None else len(found)

    def publish(self, message: Outgoing, user_id: str, batch: Batch, index: int) -> Publication | None:
        """Put a copy into every queue bound for the message; None where none is, and the batch knows."""
        if message.exchange not in self._bindings:
            structlog.get_logger(__name__).error(
                "publish_refused",
                message_id=message.message_id,
                exchange=message.exchange,
                routing_key=message.routing_key,
                reason=f"there is no exchange {message.exchange!r}; declare it in the topology",
            )
            batch.settle(index, Receipt.UNKNOWN)
            return None
        queues = self._route(message.exchange, message.routing_key, message.correlation_id)
        if not queues:
            batch.settle(index, Receipt.UNROUTABLE)
            return None
        publication = Publication(batch, index)
        copies = [Copy(message, user_id, each, publication) for each in queues]
        publication.copies.update(copies)
        for copy in copies:
            copy.queue.put(copy)
        return publication

    def dead_letter(self, exchange: str, copy: Copy, reason: str) -> None:
        """Route a given-up message on, marked the way RabbitMQ marks it."""
        died, name = copy.message, copy.queue.definition.name
        headers = {
            "x-first-death-exchange": died.exchange,
            "x-first-death-queue": name,
            "x-first-death-reason": reason,
            **died.headers,
        }
        queues = self._route(exchange, died.routing_key, died.correlation_id)
        if not queues:
            structlog.get_logger(__name__).warning(
                "dead_letter_dropped", message_id=died.message_id, queue=name, exchange=exchange
            )
        # Its sender hears that it has arrived when whoever collects dead letters has committed it.
        message = replace(died, exchange=exchange, headers=headers)
        copies = [Copy(message, copy.sender, queue, copy.publication) for queue in queues]
        if copy.publication is not None:
            copy.publication.copies.update(copies)
        for each in copies:
            each.queue.put(each)

    def _bind(self, queue: MemoryQueue, binding: Binding) -> None:
        spread = self._spreads.get(binding.exchange)
        if spread is None:
            self._bind_to(queue, binding, f"queue {queue.definition.name!r}")
        elif queue not in spread.queues:
            spread.queues.append(queue)

    def _bind_to(self, target: MemoryQueue | MemorySpread, binding: Binding, what: str) -> None:
        bindings = self._bindings.get(binding.exchange)
        if bindings is None:
            raise TopologyMismatch(
                f"{what} is bound to exchange {binding.exchange!r}, which is missing; name the exchange in the topology"
            )
        if (binding.pattern, target) not in bindings:
            bindings.append((binding.pattern, target))
            self._routes.clear()

    def _retire(self, each: Queue | Spread) -> None:
        target = self._queues.get(each.name) if isinstance(each, Queue) else self._spreads.get(each.name)
        if target is None:
            return
        for binding in each.bindings:
            spread = self._spreads.get(binding.exchange)
            if spread is not None and target in spread.queues:
                spread.queues.remove(target)
            elif (binding.pattern, target) in self._bindings.get(binding.exchange, ()):
                self._bindings[binding.exchange].remove((binding.pattern, target))
        self._routes.clear()

    def _route(self, exchange: str, routing_key: str, correlation_id: str | None) -> tuple[MemoryQueue, ...]:
        routes = self._routes.get((exchange, routing_key))
        if routes is None:
            bindings = self._bindings.get(exchange, ())
            # A dict and not a set: the order of queues must not depend on hashes.
            routes = tuple({target: None for pattern, target in bindings if matches(pattern, routing_key)})
            if len(self._routes) > 4_096:
                self._routes.clear()
            self._routes[exchange, routing_key] = routes
        if not self._spreads:
            return cast("tuple[MemoryQueue, ...]", routes)
        return tuple(
            queue
            for target in routes
            for queue in (target.choose(correlation_id) if isinstance(target, MemorySpread) else (target,))
        )
