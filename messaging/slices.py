"""Publishing more than a broker may have time for at once: a slice while the one before it is being confirmed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from messaging.bus import Bus, Outgoing, Receipt

SLICE = 500
"""Rows published together: as many as a RabbitMQ channel should have unconfirmed."""


class Slices:
    """Messages on their way, in their order; `give_up` ends what has not been waited for."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._under_way: deque[asyncio.Task[Sequence[Receipt]]] = deque()
        self._said: list[Receipt] = []

    async def start(self, messages: Sequence[Outgoing]) -> None:
        """Hand all of them to the bus; of the last slice it need not have said anything then."""
        for first in range(0, len(messages), SLICE):
            self._under_way.append(asyncio.create_task(self._bus.publish(messages[first : first + SLICE])))
            await self._wait(for_all_but=1)

    async def finish(self) -> list[Receipt]:
        """What the bus has said of each since it was asked last."""
        await self._wait(for_all_but=0)
        said, self._said = self._said, []
        return said

    def give_up(self) -> None:
        """Wait for none of them any more; what is on its way may arrive all the same."""
        for each in self._under_way:
            each.cancel()

    async def _wait(self, *, for_all_but: int) -> None:
        while len(self._under_way) > for_all_but:
            self._said += await self._under_way[0]
            del self._under_way[0]
