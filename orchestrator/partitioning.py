"""Through which queues events come: one, or several partitions; and what an earlier number of partitions has left.

With partitions events go through an exchange that spreads them by correlation id, and each partition has a single
active consumer. Nothing depends on it: whoever gets two events of one instance in two processes waits for its row.
"""

from __future__ import annotations

from collections.abc import Sequence

from messaging.bus import Bus
from messaging.topology import WEIGHT, Binding, Queue, QueueType, Spread

QUEUE = "orchestrator.events"
"""The queue without partitions; with them, the beginning of their names."""
SPREAD = "orchestrator.partitions"
MOST = 256
"""Partitions at most: each is a queue on the broker, and a consumer in each process."""


def names(partitions: int | None) -> tuple[str, ...]:
    """The queues that events come through."""
    return (QUEUE,) if (partitions or 1) == 1 else tuple(f"{QUEUE}.{number}" for number in range(partitions or 1))


def queues(
    partitions: int | None, bindings: tuple[Binding, ...], type: QueueType, *, single_active: bool = True
) -> tuple[Queue, ...]:
    """The same, as they are declared. Where all they do is hand on, partitions need no single active consumer."""
    if (partitions or 1) == 1:
        return (Queue(QUEUE, bindings, type),)
    return tuple(Queue(name, (_SPREAD_OUT,), type, single_active=single_active) for name in names(partitions))


def spreads(partitions: int | None, bindings: tuple[Binding, ...]) -> tuple[Spread, ...]:
    """What is before them."""
    return () if (partitions or 1) == 1 else (Spread(SPREAD, bindings),)


async def left_over(bus: Bus, partitions: int | None, bindings: tuple[Binding, ...]) -> Sequence[Queue | Spread]:
    """What another number of partitions has left on the broker: to be read until it is empty, and filled no more.

    With `partitions` unset nobody has ever partitioned here, and nothing is looked for. Raises BusUnavailable.
    """
    if partitions is None:
        return ()
    found: list[Queue | Spread] = []
    if partitions > 1 and await bus.inspect(QUEUE) is not None:
        found.append(Queue(QUEUE, bindings))
    first = partitions if partitions > 1 else 0
    for number in range(first, MOST):
        # They are made from 0 on: where one is missing there are no more.
        if await bus.inspect(f"{QUEUE}.{number}") is None:
            break
        found.append(Queue(f"{QUEUE}.{number}", (_SPREAD_OUT,)))
    if partitions == 1 and found:
        found.append(Spread(SPREAD, bindings))
    return found


_SPREAD_OUT = Binding(SPREAD, WEIGHT)
