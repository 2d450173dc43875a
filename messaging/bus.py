"""The bus: what a broker adapter must do. One conformance suite (tests/contract) runs on every adapter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from contracts.value import value
from messaging.topology import Topology


class BusUnavailable(Exception):
    """The broker cannot be reached, or refuses us; says which broker and why."""


class TopologyMismatch(Exception):
    """An exchange or queue exists, but not as we need it; says which, and how to mend it."""


@value
class Outgoing:
    """A message for the broker. Persistent and mandatory, always.

    Two messages of one `publish` may carry the same `message_id` (a repeated answer): the adapter keeps
    them apart.
    """

    exchange: str
    routing_key: str
    message_id: str
    body: bytes
    type: str
    timestamp: datetime
    app_id: str
    correlation_id: str | None = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Receipt(Enum):
    """What the broker said of one published message. Only CONFIRMED lets a row leave the outbox."""

    CONFIRMED = "confirmed"
    UNROUTABLE = "unroutable"
    """No queue is bound for it: returned, kept, tried again later."""
    UNKNOWN = "unknown"
    """Refused, timed out or cut off: it may have arrived or not; send it again."""


Answers = Callable[[], Awaitable[Sequence[Receipt]]]
"""Waits for what the broker says of messages that are written; called once."""


@value
class Delivery:
    """A message from the broker, nothing in it trusted yet.

    `malformed` says in words what the adapter could not even decode (a header frame that is no UTF-8), or that it keeps
    only the beginning of a giant body; the other fields then hold what could be saved.
    """

    queue: str
    tag: int
    body: bytes
    exchange: str
    routing_key: str
    redelivered: bool = False
    message_id: str | None = None
    type: str | None = None
    content_type: str | None = None
    correlation_id: str | None = None
    app_id: str | None = None
    user_id: str | None = None
    timestamp: datetime | None = None
    headers: Mapping[str, object] = field(default_factory=dict)
    malformed: str | None = None


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue as it is at one moment: `ready` messages that nobody has taken yet, and how many consumers read it."""

    name: str
    ready: int
    consumers: int


class Subscription(Protocol):
    """A running consumer of one queue. It survives a lost connection: deliveries simply begin again."""

    @property
    def attached(self) -> bool:
        """Whether the broker is delivering to us now."""

    def holds(self, delivery: Delivery) -> bool:
        """Whether the broker waits for us to settle it: false once its channel is lost, because then it is handed out
        again. What has been settled is held no more either, or may still seem so."""

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Settle them; a delivery of a connection that has been lost meanwhile is silently left out,
        because the broker hands it out again anyway."""

    async def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        """Give them back (`requeue`), or let the broker dead-letter them."""

    async def step_back(self) -> None:
        """Go to the end of the line of the queue's consumers. What was delivered can still be acknowledged."""

    async def cancel(self) -> None:
        """No more deliveries. What was delivered can still be acknowledged; the rest goes back when the
        bus closes."""


class Bus(Protocol):
    """A broker, as far as we need one."""

    async def start(self) -> None:
        """Connect. Raises BusUnavailable when the broker does not answer within the adapter's bound."""

    async def declare(self, topology: Topology) -> None:
        """Make what is missing (or only check, where an operator owns the topology).

        Raises TopologyMismatch where something is there but different, BusUnavailable when cut off.
        """

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        """Send all, in this order, and return what the broker said of each, within a bounded time.

        Never raises for a broker's fault: that is Receipt.UNKNOWN. Concurrent calls are allowed, and the
        messages of an earlier call are written first.
        """

    def send_now(self, messages: Sequence[Outgoing]) -> Answers | None:
        """The first half of `publish`: write them before this returns; the second half is what it returns.

        None: nothing was written, because that would take waiting (for an earlier call, a connection, room), or because
        this bus does not write in halves. `publish` does all then.
        """

    def prepare(self, messages: Sequence[Outgoing]) -> None:
        """Told that these will probably be sent next; what can be made of them ahead is made. Nothing leaves."""

    async def subscribe(self, queue: str, *, prefetch: int, deliver: Callable[[Delivery], None]) -> Subscription:
        """Call `deliver` (which only enqueues, and never raises) for each message, at most `prefetch` unsettled."""

    async def inspect(self, queue: str) -> QueueState | None:
        """Look at a queue and change nothing; None where there is no queue of that name.

        Raises BusUnavailable when cut off, or when the broker does not let us look.
        """

    @property
    def connected(self) -> bool:
        """Whether publishing and consuming are both possible now."""

    async def close(self) -> None:
        """Let go of everything; unsettled deliveries go back to their queues."""
