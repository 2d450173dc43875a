"""Messages in and out of RabbitMQ with as little as can be done for them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import NamedTuple

import aio_pika
from aiormq.abc import AbstractChannel, ChannelFrame, DeliveredMessage
from aiormq.channel import Channel
from pamqp import commands
from pamqp.frame import marshal

EXCHANGE = "benchmark.bare"
# Content type, delivery mode (persistent) and message id are there.
_FLAGS = 0x9080
_CONTENT_TYPE = b"\x10application/json"


class Message(NamedTuple):
    """One message to be published."""

    id: str
    routing_key: str
    body: bytes


class Publisher:
    """Publishes a batch as one write, and tells of each message's confirm."""

    def __init__(self, channel: AbstractChannel) -> None:
        if not isinstance(channel, Channel):
            raise TypeError(f"the channel is a {type(channel).__name__}, not aiormq's")
        self._channel = channel
        self._methods: dict[str, bytes] = {}

    def send(self, messages: Sequence[Message]) -> list[asyncio.Future[object]]:
        """Write them; each future is done when the broker has confirmed its message."""
        channel, loop = self._channel, asyncio.get_running_loop()
        frames, confirms = [], []
        for message in messages:
            method = self._methods.get(message.routing_key)
            if method is None:
                publish = commands.Basic.Publish(exchange=EXCHANGE, routing_key=message.routing_key)
                method = self._methods[message.routing_key] = marshal(publish, channel.number)
            channel.delivery_tag += 1
            confirm: asyncio.Future[object] = loop.create_future()
            channel.confirmations[channel.delivery_tag] = confirm
            confirms.append(confirm)
            frames.append(method + self._content(message, channel.number))
        channel.write_queue.put_nowait(ChannelFrame(payload=b"".join(frames), should_close=False, drain_future=None))
        return confirms

    @staticmethod
    def _content(message: Message, channel: int) -> bytes:
        body, identity = message.body, message.id.encode()
        size, pack = len(body), struct.pack
        properties = pack(">HHQH", 60, 0, size, _FLAGS) + _CONTENT_TYPE + b"\x02" + bytes([len(identity)]) + identity
        head = pack(">BHI", 2, channel, len(properties)) + properties + b"\xce"
        return head + pack(">BHI", 3, channel, size) + body + b"\xce"


class Inbox:
    """What has been delivered and not been taken yet."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._waiting: list[DeliveredMessage] = []
        self._come = asyncio.Event()
        self._consumer: str | None = None

    async def open(self, queue: str, prefetch: int) -> None:
        """Begin to consume."""
        await self._channel.basic_qos(prefetch_count=prefetch)
        begun = await self._channel.basic_consume(queue, self._delivered)
        self._consumer = begun.consumer_tag

    async def close(self) -> None:
        """Consume no more."""
        if self._consumer is not None:
            await self._channel.basic_cancel(self._consumer)

    async def take(self, most: int) -> list[DeliveredMessage]:
        """What is there, but no more than so many; waits for the first."""
        while not self._waiting:
            self._come.clear()
            await self._come.wait()
        taken = self._waiting[:most]
        del self._waiting[:most]
        return taken

    async def ack(self, last: DeliveredMessage) -> None:
        """All up to this one."""
        await self._channel.basic_ack(last.delivery_tag or 0, multiple=True, wait=False)

    async def _delivered(self, message: DeliveredMessage) -> None:
        self._waiting.append(message)
        if len(self._waiting) == 1:
            self._come.set()


async def connect(url: str) -> tuple[aio_pika.abc.AbstractConnection, Publisher, Inbox]:
    """A connection with a channel to publish on, confirmed, and one to consume on."""
    connection = await aio_pika.connect(url)
    out = await connection.channel(publisher_confirms=True)
    into = await connection.channel(publisher_confirms=False)
    return connection, Publisher(await out.get_underlay_channel()), Inbox(await into.get_underlay_channel())
