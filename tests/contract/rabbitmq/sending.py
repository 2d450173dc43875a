"""Sending as the relay does."""

from __future__ import annotations

import asyncio

from messaging.bus import Bus, Receipt
from tests.contract.buses import (
    PATIENCE,
    RabbitBench,
    message,
)


async def publish_until_confirmed(bus: Bus, bench: RabbitBench, body: bytes) -> None:
    """Send again what is UNKNOWN, as the relay does."""
    async with asyncio.timeout(PATIENCE):
        while await bus.publish([message(bench, "order.x", body)]) != [Receipt.CONFIRMED]:  # noqa: ASYNC110 - as the relay
            await asyncio.sleep(0.02)
