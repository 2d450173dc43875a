"""Virtual time and seeded chance: an event loop whose clock jumps to the next timer when nothing is left to do.

Nothing here looks at the machine's clock, opens a socket or starts a thread, so that a run is a function of its seed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from messaging.clock import uuid7

EPOCH = datetime(2026, 3, 1, 12, tzinfo=UTC)
"""What the clock of every simulation shows when it begins."""
MOST_TURNS_AT_ONE_MOMENT = 50_000


class NothingWillHappen(Exception):
    """Every task waits for something, and no timer is set: in real time this would be a hang."""


class TimeStandsStill(Exception):
    """The tasks keep each other busy without ever letting time pass: in real time this would be a busy loop."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio loop in which a second of sleep takes no time at all."""

    def __init__(self) -> None:
        super().__init__()
        self._moment = 0.0
        self._turns = 0
        # The base class asks its selector to wait; ours lets time pass instead.
        self._selector = self

    def time(self) -> float:
        return self._moment

    def select(self, timeout: float | None) -> Sequence[Any]:
        """Let `timeout` seconds pass. Raises NothingWillHappen, TimeStandsStill."""
        if timeout is None:
            raise NothingWillHappen(f"at {self._moment:.3f} s every task waits and no timer is set")
        if timeout > 0:
            self._moment += timeout
            self._turns = 0
        else:
            self._turns += 1
            if self._turns > MOST_TURNS_AT_ONE_MOMENT:
                self._turns = 0
                raise TimeStandsStill(f"{MOST_TURNS_AT_ONE_MOMENT} turns of the loop at {self._moment:.3f} s")
        return ()

    def _process_events(self, event_list: Sequence[Any]) -> None:
        """There are no files to watch."""

    def _write_to_self(self) -> None:
        """Nobody else's thread wakes us."""


class SimClock:
    """A service's clock over the loop's time; `skew` is by how much it is wrong."""

    def __init__(self, loop: asyncio.AbstractEventLoop, skew: timedelta = timedelta(0)) -> None:
        self._loop = loop
        self._start = EPOCH + skew

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SeededEntropy:
    """Fresh ids and jitter from a seed."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def message_id(self, now: datetime) -> UUID:
        return uuid7(now, self._chance.getrandbits(80))

    def jitter(self) -> float:
        return self._chance.random()
