"""Exchanges, queues, bindings and dead-lettering, as data; an adapter declares or checks them.

    amends.events    topic   what has happened     order.created, payment.authorized, …
    amends.commands  topic   what shall be done    payment.authorize, order.confirm, …
    amends.dead-letters topic what nobody could handle, for the broker's own tools

One durable queue per service and purpose. Delays are not the broker's business (mixed per-message TTLs block
at the head of a queue); they are rows with a due time in the service's own database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
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


WEIGHT = "1"
"""With this pattern a queue is bound to a spread: all get the same share."""


_NAMED = re.compile(r"(?P<service>.+)\.(?P<purpose>commands|events|shard)(\.\d+)?")
"""How queues are called: the service, what they are for, and the number where there are several."""


def service_of(queue: str) -> str | None:
    """Whose queue it is; None where its name is none of ours."""
    named = _NAMED.fullmatch(queue)
    return None if named is None else named["service"]


def exchange_of(queue: str) -> str | None:
    """The exchange on which what comes through it is published; None where its name is none of ours."""
    named = _NAMED.fullmatch(queue)
    if named is None:
        return None
    return COMMANDS if named["purpose"] == "commands" else EVENTS


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
    the newest messages and lets go of the oldest, for a queue that nobody need read. With `single_active` the broker
    delivers to one of its consumers at a time, and to the next in line once that one is gone.
    """

    name: str
    bindings: tuple[Binding, ...] = ()
    type: QueueType = QueueType.QUORUM
    dead_letter_exchange: str | None = DEAD_LETTERS
    delivery_limit: int | None = DELIVERY_LIMIT
    ring: bool = False
    single_active: bool = False


@dataclass(frozen=True, slots=True)
class Spread:
    """An exchange that gives each message to one of the queues bound to it: the same for the same correlation id.

    `bindings` are what flows into it, from topic exchanges. A queue is bound to it with a weight as its pattern.
    """

    name: str
    bindings: tuple[Binding, ...] = ()


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything one process needs to find on the broker.

    `retired` is what an earlier configuration may have left there: where it is, its bindings are taken away, so that
    nothing more comes into it. It is not made, and it is not deleted: messages may still lie in it.
    """

    exchanges: tuple[str, ...] = (EVENTS, COMMANDS, DEAD_LETTERS)
    queues: tuple[Queue, ...] = ()
    spreads: tuple[Spread, ...] = ()
    retired: tuple[Queue | Spread, ...] = ()

    def with_queue(self, queue: Queue) -> Topology:
        return replace(self, queues=(*self.queues, queue))

    def with_all(self, other: Topology) -> Topology:
        """Both, each thing once."""
        return Topology(
            tuple(dict.fromkeys((*self.exchanges, *other.exchanges))),
            tuple(dict.fromkeys((*self.queues, *other.queues))),
            tuple(dict.fromkeys((*self.spreads, *other.spreads))),
            tuple(dict.fromkeys((*self.retired, *other.retired))),
        )


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
