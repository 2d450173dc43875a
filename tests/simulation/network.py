"""A broker with RabbitMQ's promises and none of its kindness, in virtual time.

Kept: a message that was confirmed lies in every queue it was routed to until somebody acknowledges it, whoever is
killed meanwhile. Not kept, while faults are on: order, single delivery, the arrival of what was not confirmed, the
confirmation of what has arrived, connections, and bindings.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from messaging.bus import Answers, BusUnavailable, Delivery, Outgoing, QueueState, Receipt
from messaging.memory_broker import matches
from messaging.topology import Binding, Queue, Topology
from tests.simulation.life import Life


@dataclass(frozen=True)
class Weather:
    """How bad the network is: chances per message, and the longest delay in seconds."""

    lost: float = 0.0
    """Not delivered, and not confirmed."""
    unheard: float = 0.0
    """Delivered, but the confirmation is lost."""
    doubled: float = 0.0
    """Delivered twice."""
    strayed: float = 0.0
    """Delivered late, behind messages that were sent after it was confirmed."""
    delay: float = 0.05


CALM = Weather()


@dataclass(eq=False)
class Letter:
    """A message in one queue."""

    delivery: Delivery
    handed_out: int = 0


@dataclass(eq=False)
class Mailbox:
    """One queue: what waits in it, and who consumes it."""

    definition: Queue
    waiting: deque[Letter] = field(default_factory=deque)
    consumers: list[SimSubscription] = field(default_factory=list)
    last_arrival: float = 0.0
    taken: list[str] = field(default_factory=list)
    """Message ids that were acknowledged, in order."""


@dataclass(frozen=True)
class Sent:
    """What to tell the sender, after how many seconds, and where copies went."""

    receipt: Receipt
    after: float
    queues: tuple[str, ...] = ()


class Broker:
    """Exchanges and queues; they outlive everybody who uses them."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, chance: random.Random, note: Callable[[str, str], None]
    ) -> None:
        self.weather = CALM
        self.unbound: set[str] = set()
        """Queues whose bindings are missing for a while: messages for them alone cannot be routed."""
        self.mailboxes: dict[str, Mailbox] = {}
        self.confirmed: dict[tuple[str, str], None] = {}
        """What was confirmed: queue and message id."""
        self.handed_out: set[str] = set()
        """Ids of messages that some consumer has got."""
        self.confirmed_to: dict[str, dict[str, None]] = {}
        """The same by sender: the message ids a service need not send again."""
        self.given_up: list[str] = []
        """What was handed out more often than its queue's delivery limit allows."""
        self.in_flight = 0
        self._loop = loop
        self._chance = chance
        self._note = note
        self._bindings: list[tuple[Binding, Mailbox]] = []

    def declare(self, topology: Topology) -> None:
        """Make what is missing."""
        for definition in topology.queues:
            if definition.name not in self.mailboxes:
                mailbox = self.mailboxes[definition.name] = Mailbox(definition)
                self._bindings.extend((binding, mailbox) for binding in definition.bindings)

    @property
    def quiet(self) -> bool:
        """Whether no message is under way, waiting, or in a consumer's hand."""
        return not self.in_flight and all(
            not mailbox.waiting and not any(consumer.unsettled for consumer in mailbox.consumers)
            for name, mailbox in self.mailboxes.items()
            if not mailbox.definition.ring
        )

    def send(self, sender: str, message: Outgoing) -> Sent:
        """Take a message in."""
        weather, chance = self.weather, self._chance
        wait = chance.random() * weather.delay
        boxes = [
            mailbox
            for binding, mailbox in self._bindings
            if binding.exchange == message.exchange
            and mailbox.definition.name not in self.unbound
            and matches(binding.pattern, message.routing_key)
        ]
        boxes = list(dict.fromkeys(boxes))
        if not boxes:
            self._note(sender, f"unroutable {_told(message)}")
            return Sent(Receipt.UNROUTABLE, wait)
        dice = chance.random()
        if dice < weather.lost:
            self._note(sender, f"lost {_told(message)}")
            return Sent(Receipt.UNKNOWN, wait)
        copies = 1 + (chance.random() < weather.doubled)
        for mailbox in boxes:
            for copy in range(copies):
                self._carry(sender, message, mailbox, wait, astray=copy > 0)
        if dice < weather.lost + weather.unheard:
            self._note(sender, f"sent, confirmation lost {_told(message)}")
            return Sent(Receipt.UNKNOWN, wait)
        self._note(sender, f"sent {_told(message)}{' twice' if copies > 1 else ''}")
        return Sent(Receipt.CONFIRMED, wait, tuple(mailbox.definition.name for mailbox in boxes))

    def confirm(self, sender: str, message: Outgoing, sent: Sent) -> None:
        """The sender has heard of it."""
        if sent.receipt is Receipt.CONFIRMED:
            self.confirmed_to.setdefault(sender, {})[message.message_id] = None
            self.confirmed.update(dict.fromkeys((queue, message.message_id) for queue in sent.queues))

    def _carry(self, sender: str, message: Outgoing, mailbox: Mailbox, wait: float, *, astray: bool) -> None:
        now = self._loop.time()
        if astray or self._chance.random() < self.weather.strayed:
            arrival = now + wait + self._chance.random() * 4
        else:
            # Whatever was sent before arrives before.
            arrival = mailbox.last_arrival = max(mailbox.last_arrival + 1e-6, now + wait)
        self.in_flight += 1
        self._loop.call_at(arrival, self._arrive, mailbox, Letter(_delivery(message, sender, mailbox.definition.name)))

    def _arrive(self, mailbox: Mailbox, letter: Letter) -> None:
        self.in_flight -= 1
        mailbox.waiting.append(letter)
        self.pump(mailbox)

    def pump(self, mailbox: Mailbox) -> None:
        """Hand out what waits, as far as the consumers take it."""
        while mailbox.waiting:
            consumer = next((each for each in mailbox.consumers if each.has_room), None)
            if consumer is None:
                return
            letter = mailbox.waiting.popleft()
            letter.handed_out += 1
            self.handed_out.add(letter.delivery.message_id or "")
            limit = mailbox.definition.delivery_limit
            if limit is not None and letter.handed_out > limit + 1:
                self.given_up.append(f"{mailbox.definition.name}: {letter.delivery.type} {letter.delivery.message_id}")
                continue
            consumer.take(letter)

    def put_back(self, mailbox: Mailbox, letters: Sequence[Letter]) -> None:
        """To the front of the queue, or, as quorum queues with a delivery limit have it, to the back."""
        if self._chance.random() < self.weather.strayed:
            mailbox.waiting.extend(letters)
        else:
            mailbox.waiting.extendleft(reversed(letters))
        self._loop.call_soon(self.pump, mailbox)


class SimSubscription:
    """A consumer of one queue."""

    def __init__(self, bus: SimBus, mailbox: Mailbox, prefetch: int, deliver: Callable[[Delivery], None]) -> None:
        self.unsettled: dict[int, Letter] = {}
        self.canceled = False
        self._bus = bus
        self.mailbox = mailbox
        self._prefetch = prefetch
        self._deliver = deliver
        self._tag = 0
        mailbox.consumers.append(self)

    @property
    def attached(self) -> bool:
        return self._bus.connected and not self.canceled

    @property
    def has_room(self) -> bool:
        """Whether it takes one more now."""
        return self.attached and len(self.unsettled) < self._prefetch

    def take(self, letter: Letter) -> None:
        """Hand it over."""
        self._tag += 1
        self.unsettled[self._tag] = letter
        self._deliver(replace(letter.delivery, tag=self._tag, redelivered=letter.handed_out > 1))

    def holds(self, delivery: Delivery) -> bool:
        return delivery.tag in self.unsettled

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        life = self._bus.life
        life.reached("before ack")
        await life.pause()
        for delivery in deliveries:
            if self.unsettled.pop(delivery.tag, None) is not None and delivery.message_id is not None:
                self.mailbox.taken.append(delivery.message_id)
        life.reached("after ack")
        self._bus.broker.pump(self.mailbox)

    async def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        self._bus.life.reached("before reject")
        letters = [letter for each in deliveries if (letter := self.unsettled.pop(each.tag, None)) is not None]
        if requeue:
            self._bus.broker.put_back(self.mailbox, letters)
        else:
            self._bus.broker.given_up += [f"{each.delivery.type} {each.delivery.message_id}" for each in letters]

    async def step_back(self) -> None:
        """There is no line."""

    async def cancel(self) -> None:
        self.canceled = True

    def hang_up(self) -> None:
        """The connection is gone: what was not settled is handed out again."""
        letters = list(self.unsettled.values())
        self.unsettled.clear()
        self._bus.broker.put_back(self.mailbox, letters)

    def end(self) -> None:
        """It never consumes again."""
        self.canceled = True
        self.hang_up()
        self.mailbox.consumers.remove(self)


class SimBus:
    """One process's connection to the broker; implements `messaging.bus.Bus`."""

    def __init__(self, broker: Broker, life: Life, sending: Callable[[str, Sequence[Outgoing]], None]) -> None:
        self.broker = broker
        self.life = life
        self._sending = sending
        self._started = False
        self._cut_off = False
        self._cuts = 0
        self._subscriptions: list[SimSubscription] = []
        life.hold(self)

    @property
    def connected(self) -> bool:
        return self._started and not self._cut_off

    async def start(self) -> None:
        self.life.reached("bus start")
        self._started = True

    async def declare(self, topology: Topology) -> None:
        self.life.reached("declare")
        if not self.connected:
            raise BusUnavailable("the simulated broker is away")
        self.broker.declare(topology)

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        self.life.reached("before publish")
        if not self.connected or not messages:
            await asyncio.sleep(0.01)
            return [Receipt.UNKNOWN] * len(messages)
        return await self._send(messages)()

    def send_now(self, messages: Sequence[Outgoing]) -> Answers | None:
        self.life.reached("before publish")
        return self._send(messages) if self.connected else None

    def prepare(self, messages: Sequence[Outgoing]) -> None:
        """Nothing can be made ahead."""

    def _send(self, messages: Sequence[Outgoing]) -> Answers:
        self._sending(self.life.service, messages)
        answers = [self.broker.send(self.life.service, message) for message in messages]
        return partial(self._answered, messages, answers, self._cuts)

    async def _answered(self, messages: Sequence[Outgoing], answers: Sequence[Sent], cuts: int) -> Sequence[Receipt]:
        await asyncio.sleep(max(sent.after for sent in answers))
        self.life.reached("after publish")
        if self._cuts != cuts:
            return [Receipt.UNKNOWN] * len(messages)
        for message, sent in zip(messages, answers, strict=True):
            self.broker.confirm(self.life.service, message, sent)
        return [sent.receipt for sent in answers]

    async def subscribe(self, queue: str, *, prefetch: int, deliver: Callable[[Delivery], None]) -> SimSubscription:
        self.life.reached("subscribe")
        mailbox = self.broker.mailboxes[queue]
        subscription = SimSubscription(self, mailbox, prefetch, deliver)
        self._subscriptions.append(subscription)
        # Deliveries begin once the caller has what it subscribed.
        asyncio.get_running_loop().call_soon(self.broker.pump, mailbox)
        return subscription

    async def inspect(self, queue: str) -> QueueState | None:
        found = self.broker.mailboxes.get(queue)
        return None if found is None else QueueState(queue, len(found.waiting), len(found.consumers))

    async def close(self) -> None:
        self.life.release(self)
        self.sever()

    def sever(self) -> None:
        """The process is dead or has closed: give everything back."""
        self._started = False
        for subscription in self._subscriptions:
            subscription.end()
        self._subscriptions.clear()

    def disconnect(self) -> None:
        """The network fails: unsettled deliveries go back, what is being published stays unconfirmed."""
        self._cut_off = True
        self._cuts += 1
        for subscription in self._subscriptions:
            subscription.hang_up()

    def reconnect(self) -> None:
        """The network is back."""
        self._cut_off = False
        for subscription in self._subscriptions:
            self.broker.pump(subscription.mailbox)


def _told(message: Outgoing) -> str:
    return f"{message.type} {message.message_id[-12:]} of {(message.correlation_id or '-')[-4:]}"


def _delivery(message: Outgoing, sender: str, queue: str) -> Delivery:
    return Delivery(
        queue=queue,
        tag=0,
        body=message.body,
        exchange=message.exchange,
        routing_key=message.routing_key,
        message_id=message.message_id,
        type=message.type,
        content_type=message.content_type,
        correlation_id=message.correlation_id,
        app_id=message.app_id,
        user_id=sender,
        timestamp=message.timestamp.replace(microsecond=0),
        headers=dict(message.headers),
    )
