"""Two ways to put messages on a publishing channel, and what is known of a message on its way.

`FrameWriter` encodes a batch's frames together and writes them once to the connection's socket. It
leans on details of exactly one release of each library; with any other, `PublicWriter` publishes through
aio-pika's public interface, correct and several times slower. `writer_for` chooses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import metadata
from itertools import takewhile
from typing import Protocol

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import DeliveryError, PublishError
from pamqp.commands import Basic

from messaging.bus import Outgoing, Receipt
from messaging.rabbitmq_frames import FrameEncoder, Unencodable
from messaging.rabbitmq_link import LOST, BrokerConnection

KNOWN_VERSIONS = {"aio-pika": "10.2.1", "aiormq": "7.2.4", "pamqp": "4.0.1"}
"""The releases whose underlying channel `FrameWriter` has been tested with."""


class Call:
    """One call of `publish`: what the broker said of its messages, and how many it has yet to answer."""

    def __init__(self, size: int) -> None:
        self.receipts = [Receipt.UNKNOWN] * size
        self.had_something_new = False
        """A message was written, or had to wait for room; one that was given up earlier is nothing new."""
        self.over = False
        """It has returned: nobody waits for what it left in flight."""
        self._refusal: str | None = None
        self._left = 0
        self._finished: asyncio.Future[None] | None = None

    def expect(self, count: int) -> None:
        """So many messages are about to be sent."""
        self._left = count
        self._finished = asyncio.get_running_loop().create_future() if count else None

    def count_down(self) -> None:
        """One of them has been answered, or given up."""
        self._left -= 1
        if self._left == 0 and self._finished is not None and not self._finished.done():
            self._finished.set_result(None)

    def refuse(self, reason: str) -> None:
        """The broker closed the channel while messages of this call were on it."""
        self._refusal = reason

    def take_refusal(self) -> str | None:
        """Why the broker closed the channel since this was asked last, if it did."""
        refusal, self._refusal = self._refusal, None
        return refusal

    async def finished(self) -> None:
        """Wait until all of them are."""
        if self._finished is not None:
            await self._finished


class InFlight:
    """A message on its way.

    A future for each message would cost more than encoding it.
    """

    __slots__ = ("_release", "call", "index", "message", "settled")

    def __init__(self, message: Outgoing, index: int, call: Call, release: Callable[[InFlight, bool], None]) -> None:
        self.message = message
        self.index = index
        self.call = call
        self.settled = False
        self._release = release

    def settle(self, receipt: Receipt, *, answered: bool = True) -> None:
        """Write the receipt down, once; `answered` says whether the broker said so."""
        if not self.settled:
            self.settled = True
            self.call.receipts[self.index] = receipt
            self._release(self, answered)
            self.call.count_down()


class Writer(Protocol):
    """Puts messages on one channel."""

    async def write(self, messages: Sequence[InFlight]) -> None:
        """Send them in this order; returns when they are on their way, not when they are confirmed."""

    def forget(self, message: InFlight) -> None:
        """The message has been answered, or given up."""

    def close(self) -> None:
        """The channel is gone."""


def fast_path_is_known() -> bool:
    """Whether the installed libraries are the ones `FrameWriter` was made for."""
    return all(metadata.version(name) == version for name, version in KNOWN_VERSIONS.items())


async def writer_for(channel: AbstractChannel, connection: BrokerConnection, user_id: str | None) -> Writer:
    """The fastest writer that is safe with the installed libraries, on a channel of this connection."""
    underlying = await channel.get_underlay_channel()
    tune = underlying.connection.connection_tune
    encoder = FrameEncoder(underlying.number, tune.frame_max or 0, user_id)
    if fast_path_is_known():
        writer = FrameWriter(partial(connection.write, underlying.number), encoder)
        connection.deliveries.answer(underlying.number, writer)
        return writer
    installed = ", ".join(f"{name} {metadata.version(name)}" for name in KNOWN_VERSIONS)
    structlog.get_logger(__name__).warning("publishing_slowly", installed=installed, known=KNOWN_VERSIONS)
    return PublicWriter(channel, encoder, user_id)


class FrameWriter:
    """One encoding and one write for a whole batch, on a channel that nobody else publishes on; `send` writes frames.

    What the broker says of its messages is told to us and not to aiormq: that takes two tasks and 50 µs for each of its
    frames, and looks through everything in flight when one speaks of many.
    """

    def __init__(self, send: Callable[[bytes], None], encoder: FrameEncoder) -> None:
        self._send = send
        self._encoder = encoder
        self._last_tag = 0
        self._unconfirmed: dict[int, InFlight] = {}
        self._by_id: dict[str, InFlight] = {}
        self._ahead: dict[str, tuple[Outgoing, bytes]] = {}
        """Frames of messages that will probably be written next."""

    def prepare(self, messages: Sequence[Outgoing]) -> None:
        """Encode them ahead; what was encoded ahead before and has not been written is forgotten."""
        # What cannot be carried is told of when it is to be sent.
        with suppress(Unencodable):
            self._ahead = {each.message_id: (each, self._encoder.encode(each)) for each in messages}

    async def write(self, messages: Sequence[InFlight]) -> None:
        self.put(messages)

    def put(self, messages: Sequence[InFlight]) -> None:
        """The same: it never waits."""
        payload, numbered = [], []
        for each in messages:
            try:
                payload.append(self._frames(each.message))
            except Unencodable as error:
                _refuse(each, error)
            else:
                numbered.append(each)
        if not payload:
            return
        self._send(b"".join(payload))
        # The broker counts what has reached it: what was not sent must not have a number.
        for each in numbered:
            self._last_tag += 1
            self._unconfirmed[self._last_tag] = each
            self._by_id[each.message.message_id] = each

    def _frames(self, message: Outgoing) -> bytes:
        if self._ahead:
            made, frames = self._ahead.pop(message.message_id, (None, b""))
            if made is message:
                return frames
        return self._encoder.encode(message)

    def confirmed(self, tag: int, multiple: bool, *, good: bool) -> None:
        """Called by the connection's reader."""
        # In the order in which they were written, so the tags rise.
        tags = list(takewhile(tag.__ge__, self._unconfirmed)) if multiple else (tag,)
        for each in tags:
            message = self._unconfirmed.pop(each, None)
            if message is not None:
                message.settle(Receipt.CONFIRMED if good else Receipt.UNKNOWN)

    def returned(self, message_id: str) -> None:
        """Called by the connection's reader."""
        message = self._by_id.get(message_id)
        if message is not None:
            message.settle(Receipt.UNROUTABLE)

    def forget(self, message: InFlight) -> None:
        self._by_id.pop(message.message.message_id, None)

    def close(self) -> None:
        """Nothing to do: nobody speaks of the channel any more."""


class PublicWriter:
    """A task and a publish through aio-pika for each message."""

    def __init__(self, channel: AbstractChannel, encoder: FrameEncoder, user_id: str | None) -> None:
        self._channel = channel
        self._encoder = encoder
        self._user_id = user_id
        self._exchanges: dict[str, aio_pika.abc.AbstractExchange] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def write(self, messages: Sequence[InFlight]) -> None:
        for each in messages:
            try:
                # Only asks whether AMQP can carry it; a failure inside aio-pika would look like the broker's.
                self._encoder.encode(each.message)
            except Unencodable as error:
                _refuse(each, error)
                continue
            name = each.message.exchange
            if name not in self._exchanges:
                self._exchanges[name] = await self._channel.get_exchange(name, ensure=False)
            task = asyncio.create_task(self._publish(each, self._exchanges[name]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def forget(self, message: InFlight) -> None:
        """Nothing to do: aio-pika forgets by itself."""

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _publish(self, each: InFlight, exchange: aio_pika.abc.AbstractExchange) -> None:
        outgoing = each.message
        message = aio_pika.Message(
            outgoing.body,
            headers=dict(outgoing.headers),
            content_type=outgoing.content_type,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            correlation_id=outgoing.correlation_id,
            message_id=outgoing.message_id,
            timestamp=outgoing.timestamp,
            type=outgoing.type,
            user_id=self._user_id,
            app_id=outgoing.app_id,
        )
        try:
            frame = await exchange.publish(message, outgoing.routing_key, mandatory=True)
        except DeliveryError as error:
            each.settle(Receipt.UNROUTABLE if isinstance(error, PublishError) else Receipt.UNKNOWN)
        except (*LOST, asyncio.CancelledError):
            # The channel is gone; whoever watches it settles everything on it, and knows why.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        else:
            each.settle(Receipt.CONFIRMED if isinstance(frame, Basic.Ack) else Receipt.UNKNOWN)


def _refuse(each: InFlight, error: Unencodable) -> None:
    """It can never be sent; its neighbors can."""
    structlog.get_logger(__name__).error(
        "publish_refused",
        message_id=each.message.message_id,
        exchange=each.message.exchange,
        routing_key=each.message.routing_key,
        reason=str(error),
    )
    each.settle(Receipt.UNKNOWN, answered=False)
