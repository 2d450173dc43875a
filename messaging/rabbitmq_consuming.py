"""Consuming one queue: a channel of its own, on whatever connection stands, attached again when it is lost.

The broker's callback only hands over. Tags are made unique across channels, so that an acknowledgment of
what an earlier channel delivered can be told from one of this channel's, and left out.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog
from aio_pika.abc import AbstractChannel
from aiormq.abc import AbstractChannel as UnderlyingChannel
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity
from pamqp.commands import Basic
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from messaging.bus import BusUnavailable, Delivery, TopologyMismatch
from messaging.rabbitmq_decoding import DeliveryReader, RawDelivery
from messaging.rabbitmq_link import ATTEMPT_SECONDS, BACKOFF, LOST, BrokerConnection, describe, end, lost_means_error

T = TypeVar("T")
_TAGS_PER_CHANNEL = 1 << 48
_SETTLE_SECONDS = 5.0
_SETTLEMENT = struct.Struct(">BHI4sQBB")
"""A frame of a method with a delivery tag and bits (`multiple` or `requeue`; both): 13 bytes between head and end."""
_ACK, _REJECT, _NACK = struct.pack(">HH", 60, 80), struct.pack(">HH", 60, 90), struct.pack(">HH", 60, 120)


class _Tags:
    """Which tags of one channel are settled: all up to `floor`, and a few above it."""

    def __init__(self) -> None:
        self.floor = 0
        self._settled: set[int] = set()

    def settle(self, tags: Sequence[int]) -> list[int]:
        """Note tags as settled; returns those that were not yet, in order.

        The broker closes a channel on which a tag is settled twice.
        """
        fresh = sorted({tag for tag in tags if tag > self.floor and tag not in self._settled})
        self._settled.update(fresh)
        while self.floor + 1 in self._settled:
            self.floor += 1
            self._settled.discard(self.floor)
        return fresh


class RabbitSubscription:
    """A consumer of one queue.

    `connection` waits until the consuming connection stands and returns it; `declare` declares the topology
    once more, on a broker that may have lost it.
    """

    def __init__(
        self,
        queue: str,
        *,
        prefetch: int,
        deliver: Callable[[Delivery], None],
        connection: Callable[[], Awaitable[BrokerConnection]],
        declare: Callable[[], Awaitable[None]],
    ) -> None:
        self._queue = queue
        self._prefetch = prefetch
        self._deliver = deliver
        self._connection = connection
        self._declare = declare
        self._generation = 0
        self._tags = _Tags()
        self._channel: AbstractChannel | None = None
        self._underlying: UnderlyingChannel | None = None
        self._connected: BrokerConnection | None = None
        self._consumer_tag: str | None = None
        self._reader: DeliveryReader | None = None
        self._held = 0
        """Bytes of the bodies that this channel has delivered and that are not settled."""
        self._detached = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._canceled = False
        self._deaf = False
        """Whether nothing that still comes is handed over."""

    @property
    def attached(self) -> bool:
        return self._consumer_tag is not None and not self._canceled

    async def start(self) -> None:
        """Attach for the first time, and stay attached.

        Raises TopologyMismatch when there is no such queue, BusUnavailable when we may not read it. A
        connection that is lost right now is no error: the subscription attaches as soon as it stands again.
        """
        try:
            await self._attach()
        except LOST as error:
            structlog.get_logger(__name__).warning("subscription_waiting", queue=self._queue, reason=describe(error))
            self._detached.set()
        self._keeper = asyncio.create_task(self._keep_attached(), name=f"subscription {self._queue}")

    def holds(self, delivery: Delivery) -> bool:
        return self._underlying is not None and delivery.tag // _TAGS_PER_CHANNEL == self._generation

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        tags = self._settled(deliveries)
        run = [tag for tag in tags if tag <= self._tags.floor]
        settlements = [(_ACK, tag, 0) for tag in tags[len(run) :]]
        if run:
            settlements.insert(0, (_ACK, run[-1], 1))
        self._send(settlements)

    async def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        # What is given back by who ends was not tried: from RabbitMQ 4.3 on a nack counts for no dead letter, and a
        # reject does.
        method, bits = (_NACK, 2) if requeue and self._canceled else (_REJECT, int(requeue))
        self._send([(method, tag, bits) for tag in self._settled(deliveries)])

    async def step_back(self) -> None:
        channel, consumer_tag = self._underlying, self._consumer_tag
        if channel is None or consumer_tag is None or self._canceled:
            return
        try:
            self._consumer_tag = await self._answer(self._join_anew(channel, consumer_tag))
        except LOST as error:
            # Attached anew it is at the end of the line as well.
            self._say_lost("step back", error)
            self._detached.set()

    async def _join_anew(self, channel: UnderlyingChannel, consumer_tag: str) -> str | None:
        await channel.basic_cancel(consumer_tag)
        return (await channel.basic_consume(self._queue, _never_called)).consumer_tag

    async def cancel(self) -> None:
        self._canceled = True
        await self._stop_keeping()
        consumer_tag, self._consumer_tag = self._consumer_tag, None
        try:
            if self._underlying is not None and consumer_tag is not None:
                await self._answer(self._underlying.basic_cancel(consumer_tag))
        except LOST as error:
            # Then nothing is delivered either.
            self._say_lost("cancel", error)
        self._deaf = True

    async def close(self) -> None:
        """Stop, and let the broker hand out again what is unsettled."""
        self._canceled = self._deaf = True
        await self._stop_keeping()
        await self._drop()

    def connection_lost(self) -> None:
        """Called when the consuming connection is gone."""
        self._consumer_tag = None
        self._underlying = None
        self._let_go()
        self._detached.set()

    async def _stop_keeping(self) -> None:
        if self._keeper is not None:
            await end(self._keeper)
            self._keeper = None

    async def _keep_attached(self) -> None:
        # Whatever fails is logged and tried again: giving up here would leave a deaf service.
        retrying = AsyncRetrying(wait=BACKOFF, retry=retry_if_exception_type(Exception), before_sleep=self._say_waiting)
        while True:
            await self._detached.wait()
            await self._drop()
            await retrying(self._attach_again)

    async def _attach_again(self) -> None:
        await self._connection()
        await self._declare()
        await self._attach()

    async def _attach(self) -> None:
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                with lost_means_error():
                    await self._consume(await self._connection())
        except BaseException as error:
            # A consumer that was attached after all would hold deliveries that nobody settles.
            await self._drop()
            self._explain(error)
            raise

    def _explain(self, error: BaseException) -> None:
        """Say in our own words what the broker refused, if it did."""
        if isinstance(error, ChannelNotFoundEntity):
            raise TopologyMismatch(
                f"there is no queue {self._queue!r} to consume; declare it first ({describe(error)})"
            ) from error
        if isinstance(error, ChannelAccessRefused):
            raise BusUnavailable(
                f"the broker does not let us read queue {self._queue!r}: {describe(error)}; grant the user read"
            ) from error

    async def _consume(self, connection: BrokerConnection) -> None:
        channel = connection.channel(publisher_confirms=False)
        await channel.initialize()
        underlying = await channel.get_underlay_channel()
        self._generation += 1
        self._tags = _Tags()
        self._channel, self._underlying, self._connected = channel, underlying, connection
        self._detached.clear()
        underlying.closing.add_done_callback(partial(self._channel_closed, underlying))
        underlying.on_consumer_cancel_callbacks.add(partial(self._consumer_canceled, underlying))
        await underlying.basic_qos(prefetch_count=self._prefetch)
        generation = self._generation
        self._let_go()
        self._reader = connection.deliveries

        def receive(raw: RawDelivery) -> None:
            # While it is being canceled too: what comes then is ours to give back.
            if generation == self._generation and not self._deaf:
                delivery = raw.delivery(self._queue, generation * _TAGS_PER_CHANNEL + raw.tag)
                self._hold(len(delivery.body))
                self._deliver(delivery)

        connection.deliveries.receive(underlying.number, receive)
        consuming = await underlying.basic_consume(self._queue, _never_called)
        self._consumer_tag = consuming.consumer_tag

    def _settled(self, deliveries: Sequence[Delivery]) -> list[int]:
        """Note these as settled; returns the tags of those that this channel has delivered and that were not yet."""
        sizes = {
            each.tag % _TAGS_PER_CHANNEL: len(each.body)
            for each in deliveries
            if each.tag // _TAGS_PER_CHANNEL == self._generation
        }
        fresh = self._tags.settle(tuple(sizes))
        self._hold(-sum(sizes[tag] for tag in fresh))
        return fresh

    async def _answer(self, conversation: Coroutine[Any, Any, T]) -> T:
        """What comes of a conversation on the channel that delivers. Raises what is in LOST.

        Where one is broken off, aiormq closes the channel. What is written there afterwards costs the whole connection,
        so nothing is any more: we attach anew.
        """
        talking = asyncio.create_task(conversation)
        try:
            await asyncio.wait((talking,), timeout=_SETTLE_SECONDS)
            if not talking.done():
                raise TimeoutError(f"no answer within {_SETTLE_SECONDS:g} s")
        finally:
            if not talking.done():
                self._connected = None
                self._detached.set()
                await end(talking)
        with lost_means_error():
            return talking.result()

    def _send(self, settlements: Sequence[tuple[bytes, int, int]]) -> None:
        """Write methods, tags and bits in the turn in which they were noted: in the order of the tags, none forgotten.

        What a channel that is lost has delivered is handed out again.
        """
        channel, connection = self._underlying, self._connected
        if channel is not None and connection is not None and settlements:
            frames = [_SETTLEMENT.pack(1, channel.number, 13, *each, 0xCE) for each in settlements]
            connection.write(channel.number, b"".join(frames))

    def _hold(self, size: int) -> None:
        """So many bytes more are unsettled, or fewer."""
        if self._reader is None:
            return
        self._held += size
        if size > 0:
            self._reader.hold(size)
        else:
            self._reader.release(-size)

    def _let_go(self) -> None:
        """Whatever the channel has delivered comes again on another one."""
        self._hold(-self._held)
        self._reader = None

    def _channel_closed(self, channel: UnderlyingChannel, closing: asyncio.Future[object]) -> None:
        error = None if closing.cancelled() else closing.exception()
        if channel is self._underlying:
            self._say_lost("consume", error)
            self.connection_lost()

    def _consumer_canceled(self, channel: UnderlyingChannel, _frame: Basic.Cancel) -> None:
        if channel is self._underlying:
            structlog.get_logger(__name__).warning(
                "subscription_canceled_by_broker", queue=self._queue, reason="the queue was deleted or moved"
            )
            self._consumer_tag = None
            self._detached.set()

    async def _drop(self) -> None:
        channel, self._channel = self._channel, None
        self._underlying = None
        self._consumer_tag = None
        self._let_go()
        if channel is None or channel.is_closed:
            return
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                with lost_means_error():
                    # A conversation, so acknowledgments written before it have arrived when it ends.
                    await channel.close()
        except LOST as error:
            self._say_lost("close", error)

    def _say_waiting(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        structlog.get_logger(__name__).warning(
            "subscription_waiting",
            queue=self._queue,
            attempt=state.attempt_number,
            reason=describe(error) if error else None,
        )

    def _say_lost(self, doing: str, error: BaseException | None) -> None:
        structlog.get_logger(__name__).debug(
            "channel_lost", queue=self._queue, doing=doing, reason=describe(error) if error else "closed"
        )


async def _never_called(_message: DeliveredMessage) -> None:
    """What aiormq is told to do with deliveries; the connection's DeliveryReader lets none through to it."""
