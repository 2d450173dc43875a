"""Waiting for a condition, with a bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

BOUND = 180.0


async def eventually(holds: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it came to hold within the bound."""
    give_up = time.monotonic() + BOUND
    while not await holds():
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(0.1)
    return True
