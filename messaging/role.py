"""What one consumer of a service needs around it: its queues on the broker, and how many transactions at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from messaging.bus import Bus
from messaging.clock import Clock, Entropy
from messaging.consumer import Consumer
from messaging.participant import Participant
from messaging.serving import ParticipantConsumer
from messaging.settings import ServiceSettings
from messaging.telemetry.families import Look, Meter
from messaging.topology import COMMANDS, EVENTS, Binding, Queue, QueueType, Spread, Topology


@dataclass(frozen=True, slots=True)
class Role:
    """One consumer of a service and the queues it reads, behind `spreads` where it has some.

    `left_over` finds what an earlier configuration has left on the broker: its queues are read until they are empty.
    Queues with a single active consumer are shared with all processes that read the queue `common`. `also` is what is
    declared with them and not read. `meters` and `looks` are figures of its own, `watched` queues of others that it
    depends on. `lanes` is how many transactions there may be at a time. With `finishes` a process that ends handles all
    that it has in hand, instead of giving it back. `answers` are the types of what it publishes in answer to what it
    reads.
    """

    consumer: Consumer
    queues: tuple[Queue, ...]
    spreads: tuple[Spread, ...] = ()
    left_over: Callable[[Bus], Awaitable[Sequence[Queue | Spread]]] | None = None
    common: str | None = None
    lanes: int = 1
    finishes: bool = False
    also: Topology = Topology(exchanges=())  # noqa: RUF009 - a value
    meters: tuple[Meter, ...] = ()
    looks: tuple[Look, ...] = ()
    watched: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


def participant_role(
    participant: Participant, queue_type: QueueType, clock: Clock, entropy: Entropy, settings: ServiceSettings
) -> Role:
    """A participant's consumer on its own queues: `NAME.commands`, and `NAME.events` where it reacts to events."""
    queues = []
    for purpose, exchange, types in (
        ("commands", COMMANDS, participant.commands()),
        ("events", EVENTS, participant.events()),
    ):
        if types:
            bindings = tuple(Binding(exchange, wire_type) for wire_type in types)
            queues.append(Queue(f"{participant.name}.{purpose}", bindings, queue_type))
    consumer = ParticipantConsumer(
        participant, clock=clock, entropy=entropy, grace=settings.outbox_grace, senders=settings.allowed
    )
    return Role(consumer, tuple(queues), lanes=settings.lanes, answers=participant.answers())
