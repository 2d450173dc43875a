"""A clock that stands still until it is moved, and chance from a seed."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from uuid import UUID

from messaging.clock import uuid7
from orchestrator.testing.playing import START

_POLLING_SLACK = timedelta(milliseconds=2)
"""A poller sleeps a millisecond past the moment it waits for; on a clock that stands still that never comes."""


class VirtualClock:
    """The time of every service of a harness; only the harness moves it.

    Whoever sleeps wakes up when it has been moved far enough. `start` is what it shows at the beginning.
    """

    def __init__(self, start: datetime = START) -> None:
        self._start = self._now = start
        self._sleeping: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._start).total_seconds()

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeping.append((self._now + timedelta(seconds=seconds), woken))
        await woken

    @property
    def next_waking(self) -> datetime | None:
        """When the first of those who sleep wants to be woken."""
        return min((until for until, woken in self._sleeping if not woken.done()), default=None)

    def move_to(self, moment: datetime) -> None:
        """Move the time on, never back, and wake whose time has come."""
        self._now = max(self._now, moment)
        for until, woken in self._sleeping:
            if until <= self._now + _POLLING_SLACK and not woken.done():
                woken.set_result(None)
        self._sleeping = [each for each in self._sleeping if not each[1].done()]


class SeededEntropy:
    """Fresh ids and jitter from a seed: the same run, the same ids."""

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - reproducible on purpose

    def message_id(self, now: datetime) -> UUID:
        return uuid7(now, self._chance.getrandbits(80))

    def jitter(self) -> float:
        return self._chance.random()
