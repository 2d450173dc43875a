"""Exchanges, queues, bindings and dead-lettering, as data; an adapter declares or checks them.

    amends.events    topic   what has happened     order.created, payment.authorized, …
    amends.commands  topic   what shall be done    payment.authorize, order.confirm, …
    amends.dead-letters topic what nobody could handle, for the broker's own tools

One durable queue per service and purpose. Delays are not the broker's business (mixed per-message TTLs block
at the head of a queue); they are rows with a due time in the service's own database.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

EVENTS = "amends.events"
COMMANDS = "amends.commands"
DEAD_LETTERS = "amends.dead-letters"
DEAD_LETTER_QUEUE = "amends.dead-letters"
COLLECTED_QUEUE = "orchestrator.dead-letters"

RING_MESSAGES = 10_000
RING_BYTES = 64 * 1024 * 1024
"""What the queue keeps that nobody empties: the newest so many messages, and of those the newest so many bytes."""

DELIVERY_LIMIT = 20
"""How often the broker hands out a message before it gives up on it.

RabbitMQ 4's own default; 3.10 has none, and a message that kills its reader would circle for ever. It counts
crashes, not our retries: those are rows in the database.
"""


class QueueType(StrEnum):
    """Quorum is replicated and the default; classic is for one node and for comparison."""

    QUORUM = "quorum"
    CLASSIC = "classic"


@dataclass(frozen=True, slots=True)
class Binding:
    """Messages to `exchange` whose routing key matches `pattern` go to the queue."""

    exchange: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue and what is bound to it.

    `dead_letter_exchange` receives what the broker itself gives up on; None only at the end of the line. A `ring` keeps
    the newest messages and lets go of the oldest, for a queue that nobody need read.
    """

    name: str
    bindings: tuple[Binding, ...] = ()
    type: QueueType = QueueType.QUORUM
    dead_letter_exchange: str | None = DEAD_LETTERS
    delivery_limit: int | None = DELIVERY_LIMIT
    ring: bool = False


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything one process needs to find on the broker."""

    exchanges: tuple[str, ...] = (EVENTS, COMMANDS, DEAD_LETTERS)
    queues: tuple[Queue, ...] = ()

    def with_queue(self, queue: Queue) -> Topology:
        return Topology(self.exchanges, (*self.queues, queue))


def dead_letter_queue(type: QueueType = QueueType.QUORUM) -> Queue:
    """The queue that shows every service's latest dead letters to the broker's own tools."""
    return Queue(
        DEAD_LETTER_QUEUE,
        (Binding(DEAD_LETTERS, "#"),),
        type=type,
        dead_letter_exchange=None,
        delivery_limit=None,
        ring=True,
    )


def collected_queue(type: QueueType = QueueType.QUORUM) -> Queue:
    """The queue from which the orchestrator collects every service's dead letters.

    What it cannot take must not come round to it again: it has no dead-letter exchange, and a copy of everything lies
    in the queue above.
    """
    return Queue(COLLECTED_QUEUE, (Binding(DEAD_LETTERS, "#"),), type=type, dead_letter_exchange=None)
