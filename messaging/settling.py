"""Acknowledging what several lanes have handled: in the order in which it came, so that one frame says it for a batch.

A batch that is committed before one that was taken earlier waits for it: the broker is told "all up to here" once,
instead of once for each message. Nothing is lost by waiting, whatever happens meanwhile: what is handed out again has
been handled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from messaging.bus import Delivery, Subscription


class Settling:
    """Acknowledgments of one worker; `most` is how many deliveries may wait for an earlier batch."""

    def __init__(self, subscriptions: Mapping[str, Subscription], most: int) -> None:
        self._subscriptions = subscriptions
        self._most = most
        self._turns = 0
        self._under_way: dict[int, None] = {}
        self._waiting: deque[tuple[int, list[Delivery]]] = deque()
        self._count = 0
        """How many deliveries wait."""

    def begin(self) -> int:
        """A batch has been taken; returns its turn."""
        self._turns += 1
        self._under_way[self._turns] = None
        return self._turns

    def end(self, turn: int) -> None:
        """Nothing more will come of the batch of this turn."""
        del self._under_way[turn]

    async def ack(self, turn: int, deliveries: list[Delivery]) -> None:
        """Acknowledge what a batch has handled, or part of it: now, or with `catch_up`."""
        if turn == next(iter(self._under_way)):
            await self._say(deliveries)
            return
        self._waiting.append((turn, deliveries))
        self._count += len(deliveries)
        if self._count > self._most:
            # Whatever keeps the earlier batch, the broker must not stop delivering for it.
            await self._say_all(len(self._waiting))

    async def catch_up(self) -> None:
        """Acknowledge what has waited for batches that have ended."""
        first = next(iter(self._under_way), self._turns + 1)
        ready = 0
        for turn, _ in self._waiting:
            if turn > first:
                break
            ready += 1
        if ready:
            await self._say_all(ready)

    async def _say_all(self, count: int) -> None:
        taken = [self._waiting.popleft()[1] for _ in range(count)]
        self._count -= sum(len(each) for each in taken)
        await self._say([each for deliveries in taken for each in deliveries])

    async def _say(self, deliveries: Iterable[Delivery]) -> None:
        by_queue: dict[str, list[Delivery]] = {}
        for each in deliveries:
            by_queue.setdefault(each.queue, []).append(each)
        for queue, theirs in by_queue.items():
            await self._subscriptions[queue].ack(theirs)
