"""Sharing partitions: a process that is active on more than its share steps back to the end of their lines.

The broker makes whoever came first active on every partition, and keeps it so. How many share them is told by a queue
that each of them reads. What a process steps back from is taken over by the next in line; what it has in hand of it, it
still handles.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from messaging.bus import Bus, BusUnavailable
from messaging.clock import Clock
from messaging.worker import Worker

EVERY = 5.0
"""Seconds from look to look."""


class Balance:
    """Keeps a worker from being active on more than its share of `queues`; all who share them read `common`, too."""

    def __init__(self, worker: Worker, bus: Bus, clock: Clock, queues: Sequence[str], common: str) -> None:
        self._worker = worker
        self._bus = bus
        self._clock = clock
        self._queues = tuple(queues)
        self._common = common

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self._clock.sleep(EVERY)
            try:
                await self.look()
            except BusUnavailable as error:
                structlog.get_logger().debug("balance_waits", reason=str(error))

    async def look(self) -> None:
        """Step back from what is too much of what has been busy since the last look. Raises BusUnavailable."""
        busy = self._worker.busy_since() & set(self._queues)
        state = await self._bus.inspect(self._common)
        share = fair_share(len(self._queues), 0 if state is None else state.consumers)
        # In one order, so that two who have too much do not hand the same back and forth.
        for queue in sorted(busy, key=self._queues.index)[share:]:
            structlog.get_logger().info("stepping_back", queue=queue, active_on=len(busy), share=share)
            await self._worker.step_back(queue)


def fair_share(queues: int, processes: int) -> int:
    """Of so many queues, how many one of so many processes may have."""
    return -(-queues // max(processes, 1))
