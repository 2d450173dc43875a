"""Time and chance, passed in from the first line, so that a simulation can own both."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """The present, in UTC and aware of it. Somebody may set the clock meanwhile, forward or back."""

    def monotonic(self) -> float:
        """Seconds from a beginning of its own, for measuring how long something takes: they only go on, evenly."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds of this clock."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Entropy(Protocol):
    """Where chance comes from: fresh ids and the jitter of a backoff."""

    def message_id(self, now: datetime) -> UUID:
        """A fresh id that sorts by time (RFC 9562, version 7)."""

    def jitter(self) -> float:
        """A number in [0, 1)."""


class SystemEntropy:
    """The operating system's randomness."""

    def message_id(self, now: datetime) -> UUID:
        return uuid7(now, int.from_bytes(os.urandom(10), "big"))

    def jitter(self) -> float:
        return random.random()  # noqa: S311 - spreads retries, guards nothing


def uuid7(now: datetime, noise: int) -> UUID:
    """A version 7 UUID: milliseconds of `now` in front, 74 bits of `noise` behind.

    Ids that sort by time keep an index's inserts at its right edge (RFC 9562, section 5.7).
    """
    milliseconds = int(now.timestamp() * 1000) & (1 << 48) - 1
    rand_a = (noise >> 62) & 0xFFF
    rand_b = noise & (1 << 62) - 1
    return UUID(int=milliseconds << 80 | 7 << 76 | rand_a << 64 | 2 << 62 | rand_b)


Checkpoint = Callable[[str], None]
"""Called with the name of a place where a crash would hurt most (`committed`, `published`, …).

A simulation raises there; everyone else passes `no_checkpoint`.
"""


def no_checkpoint(_place: str) -> None:
    """Nothing crashes here."""
