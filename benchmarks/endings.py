"""Watching sagas end: a queue of our own beside the order service's, on the same two events."""

from __future__ import annotations

import asyncio
import json
import time
from types import TracebackType
from typing import Self
from uuid import UUID

import aio_pika
from aiormq.abc import DeliveredMessage

from messaging.topology import EVENTS

LAST_EVENTS = ("fulfillment.completed", "fulfillment.failed")


class Endings:
    """When each order's saga said its last word, on the clock of `time.monotonic`."""

    def __init__(self, amqp_url: str) -> None:
        self._url = amqp_url
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._wanted = 0
        self._reached = asyncio.Event()
        self.at: dict[UUID, float] = {}

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self._url)
        channel = await self._connection.channel()
        # Exclusive and unacknowledged: the measurement shall cost the broker as little as it can.
        queue = await channel.declare_queue(exclusive=True)
        for event in LAST_EVENTS:
            await queue.bind(EVENTS, event)
        # As the floor watches its own: aio-pika's consumers take twice the CPU, of the machine that is measured, and
        # tell of the last ends long after all processes have come to rest.
        underlying = await channel.get_underlay_channel()
        await underlying.basic_consume(queue.name, self._ended, no_ack=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()

    def forget(self) -> None:
        """Begin anew."""
        self.at.clear()

    async def reached(self, count: int, seconds: float) -> bool:
        """Wait until so many have ended; False when they have not after `seconds`."""
        self._wanted = count
        self._reached.clear()
        if len(self.at) >= count:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._reached.wait()
        except TimeoutError:
            return False
        return True

    async def _ended(self, message: DeliveredMessage) -> None:
        now = time.monotonic()
        self.at.setdefault(UUID(json.loads(message.body)["data"]["order_id"]), now)
        if len(self.at) >= self._wanted:
            self._reached.set()
