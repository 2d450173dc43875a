"""Publishing with confirms: order, windows, time limits, and what a lost channel means for messages on
their way.

Never two messages in flight with one message id (nothing else names a returned message), never more than
`WINDOW` unconfirmed, never longer than the time limit. A message that was not answered in time stays in
flight; until its answer comes a repetition of it is UNKNOWN at once, because one queue that does not confirm
must not hold up the messages for all others. A broker that answered nothing at all while a call had something
new to send for a whole time limit, and did not say that it blocks us, is taken for dead and the connection is
rebuilt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from functools import partial

import structlog
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import AMQPChannelError

from messaging.bound import Bound
from messaging.bus import Answers, Outgoing, Receipt
from messaging.rabbitmq_link import LOST, BrokerConnection, ConnectionLost, is_blocked, lost_means_error
from messaging.rabbitmq_writing import Call, FrameWriter, InFlight, Writer, writer_for

WINDOW = 500
"""Unconfirmed messages on the channel; more bring no throughput and fill the broker's memory."""
_WINDOW_BYTES = 16 * 1024 * 1024
_WRITE_BYTES = 256 * 1024
"""Written at once; the broker begins with a long batch while its rest is being encoded."""


class _State(Enum):
    DOWN = "down"
    OPEN = "open"
    REOPENING = "reopening"
    """The broker closed the channel over one message; the connection is fine."""


class Publisher:
    """The publishing side of a RabbitMQ connection.

    `timeout` in seconds bounds a publish; `user_id` is the user we are logged in as; `condemn` is told why,
    when the connection has to be rebuilt.
    """

    def __init__(self, *, timeout: float, user_id: str | None, condemn: Callable[[str], None]) -> None:
        self._timeout = timeout
        self._user_id = user_id
        self._condemn = condemn
        self._state = _State.DOWN
        self._connection: BrokerConnection | None = None
        self._channel: AbstractChannel | None = None
        self._writer: Writer | None = None
        self._reopening: asyncio.Task[None] | None = None
        # Whoever holds the turn writes; the messages of an earlier call are written first.
        self._turn = asyncio.Lock()
        self._in_flight: dict[str, InFlight] = {}
        self._bytes = 0
        self._answers = 0
        self._change: asyncio.Future[None] | None = None
        self._said_blocked = False
        self._bound: Bound | None = None

    @property
    def ready(self) -> bool:
        """Whether a message published now would be written."""
        return self._state is _State.OPEN and not self._blocked()

    async def attach(self, connection: BrokerConnection) -> None:
        """Publish on this connection from now on."""
        self._connection = connection
        await self._open(connection)

    def detach(self) -> None:
        """The connection is gone: nobody will hear of the messages on their way."""
        self._give_up(_State.DOWN, None)
        self._connection = None
        if self._reopening is not None:
            self._reopening.cancel()

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        """Send in order and return what the broker said, after `timeout` seconds at the latest."""
        call = Call(len(messages))
        if self._blocked():
            self._say_blocked()
            return call.receipts
        self._said_blocked = False
        return await self._answered(call, partial(self._send_all, call, messages))

    def send_now(self, messages: Sequence[Outgoing]) -> Answers | None:
        """Write them before this returns, and return what waits for the answers, as `publish` does.

        None, and nothing is written, where somebody else is writing, or something unanswered, or there is no channel.
        """
        if self._turn.locked() or self._in_flight or not isinstance(self._writer, FrameWriter) or not self.ready:
            return None
        ids = {each.message_id for each in messages}
        if len(ids) < len(messages) or len(ids) > WINDOW or sum(len(each.body) for each in messages) > _WRITE_BYTES:
            return None
        call = Call(len(messages))
        call.expect(len(messages))
        call.had_something_new = True
        self._said_blocked = False
        flying = [self._fly(each, index, call) for index, each in enumerate(messages)]
        try:
            self._writer.put(flying)
        except BaseException:
            for entry in flying:
                entry.settle(Receipt.UNKNOWN, answered=False)
            raise
        return partial(self._answered, call, partial(self._finished, call, messages))

    def prepare(self, messages: Sequence[Outgoing]) -> None:
        """Have the frames of these made, which will probably be sent next."""
        if isinstance(self._writer, FrameWriter):
            self._writer.prepare(messages)

    async def _answered(self, call: Call, answer: Callable[[], Awaitable[None]]) -> list[Receipt]:
        """What the broker has said of a call when its answer has come, or its time is over."""
        answers = self._answers
        try:
            await self._bounded().wait(answer, self._timeout)
        except TimeoutError:
            self._unanswered(call, answers)
        finally:
            call.over = True
            # A later call may be waiting with a repetition of what this one leaves in flight.
            self._changed()
        # A copy: what is still in flight may be answered later, when nobody listens any more.
        return list(call.receipts)

    def _bounded(self) -> Bound:
        if self._bound is None:
            self._bound = Bound(asyncio.get_running_loop())
        return self._bound

    async def _send_all(self, call: Call, messages: Sequence[Outgoing]) -> None:
        await self._send(call, list(enumerate(messages)))
        await self._finished(call, messages)

    async def _finished(self, call: Call, messages: Sequence[Outgoing]) -> None:
        await call.finished()
        if call.take_refusal() is not None:
            await self._send_one_by_one(call, messages)

    async def _send(self, call: Call, messages: Sequence[tuple[int, Outgoing]]) -> None:
        call.expect(len(messages))
        async with self._turn:
            await self._write_all(call, messages)

    async def _send_one_by_one(self, call: Call, messages: Sequence[Outgoing]) -> None:
        """The broker closed the channel over one of these: find it, and let its neighbors through."""
        for index, message in enumerate(messages):
            if call.receipts[index] is not Receipt.UNKNOWN:
                continue
            async with self._turn:
                # The client library may write a frame after it has agreed to the closing, which costs the connection:
                # still not the neighbors' fault.
                await self._until_open()
                await self._until(lambda: all(each.call.over for each in self._in_flight.values()))
                call.expect(1)
                await self._write_all(call, [(index, message)])
                await call.finished()
            refusal = call.take_refusal()
            if refusal is not None:
                structlog.get_logger(__name__).error(
                    "publish_refused",
                    message_id=message.message_id,
                    exchange=message.exchange,
                    routing_key=message.routing_key,
                    reason=refusal,
                )

    async def _write_all(self, call: Call, messages: Sequence[tuple[int, Outgoing]]) -> None:
        chunk: list[InFlight] = []
        size = 0
        try:
            for index, message in messages:
                if not self._given_up(message):
                    call.had_something_new = True
                if size > _WRITE_BYTES or not self._may_write(message):
                    await self._flush(chunk)
                    size = 0
                    await self._until(partial(self._need_not_wait, message))
                    if not self._may_write(message):
                        call.count_down()
                        continue
                chunk.append(self._fly(message, index, call))
                size += len(message.body) + 512
            await self._flush(chunk)
        finally:
            for entry in chunk:
                entry.settle(Receipt.UNKNOWN, answered=False)

    def _fly(self, message: Outgoing, index: int, call: Call) -> InFlight:
        entry = self._in_flight[message.message_id] = InFlight(message, index, call, self._release)
        self._bytes += len(message.body)
        return entry

    async def _flush(self, chunk: list[InFlight]) -> None:
        # What the loss of the channel has settled meanwhile must not be sent on the next one.
        alive = [each for each in chunk if not each.settled]
        if alive and self._writer is not None:
            await self._writer.write(alive)
        chunk.clear()

    def _may_write(self, message: Outgoing) -> bool:
        if self._state is not _State.OPEN:
            return False
        if not self._in_flight:
            return True
        return (
            message.message_id not in self._in_flight
            and len(self._in_flight) < WINDOW
            and self._bytes + len(message.body) <= _WINDOW_BYTES
        )

    def _given_up(self, message: Outgoing) -> bool:
        """Whether it is in flight from an earlier call, whose time is over."""
        entry = self._in_flight.get(message.message_id)
        return entry is not None and entry.call.over

    def _need_not_wait(self, message: Outgoing) -> bool:
        return self._may_write(message) or self._given_up(message)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for the condition, or for the connection to be down; called by the holder of the turn only."""
        while self._state is not _State.DOWN and not condition():
            self._change = asyncio.get_running_loop().create_future()
            await self._change

    async def _until_open(self) -> None:
        """Wait for a channel, through a lost connection too; called by the holder of the turn, in the time limit."""
        while self._state is not _State.OPEN:
            self._change = asyncio.get_running_loop().create_future()
            await self._change

    def _changed(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    def _release(self, entry: InFlight, answered: bool) -> None:
        self._answers += answered
        self._bytes -= len(entry.message.body)
        self._in_flight.pop(entry.message.message_id, None)
        if self._writer is not None:
            self._writer.forget(entry)
        self._changed()

    def _give_up(self, state: _State, refusal: str | None) -> None:
        self._state = state
        self._channel = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for entry in list(self._in_flight.values()):
            if refusal is not None:
                entry.call.refuse(refusal)
            entry.settle(Receipt.UNKNOWN, answered=False)
        self._changed()

    def _blocked(self) -> bool:
        return self._connection is not None and is_blocked(self._connection)

    def _say_blocked(self) -> None:
        if not self._said_blocked:
            self._said_blocked = True
            structlog.get_logger(__name__).warning(
                "publishing_blocked",
                reason="the broker has raised a memory or disk alarm; it must be relieved",
            )

    def _unanswered(self, call: Call, answers: int) -> None:
        if self._blocked():
            self._say_blocked()
            return
        structlog.get_logger(__name__).warning(
            "publish_unconfirmed", messages=call.receipts.count(Receipt.UNKNOWN), seconds=self._timeout
        )
        if self._in_flight and call.had_something_new and self._answers == answers:
            self._condemn(f"no confirm within {self._timeout:g} s")

    async def _open(self, connection: BrokerConnection) -> None:
        channel = connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.initialize()
        writer = await writer_for(channel, connection, self._user_id)
        underlying = await channel.get_underlay_channel()
        if connection is not self._connection:
            raise ConnectionLost("the connection was lost while its channel was being opened")
        self._writer = writer
        self._channel = channel
        underlying.closing.add_done_callback(partial(self._closed, channel))
        self._state = _State.OPEN
        self._changed()

    def _closed(self, channel: AbstractChannel, closing: asyncio.Future[object]) -> None:
        error = None if closing.cancelled() else closing.exception()
        if channel is not self._channel or self._connection is None:
            return
        if isinstance(error, AMQPChannelError):
            self._give_up(_State.REOPENING, str(error))
            self._reopening = asyncio.create_task(self._reopen(self._connection))
        else:
            self._give_up(_State.DOWN, None)
            self._condemn(f"the publishing channel is closed ({error!r})")

    async def _reopen(self, connection: BrokerConnection) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                with lost_means_error():
                    await self._open(connection)
        except LOST as error:
            self._give_up(_State.DOWN, None)
            self._condemn(f"the publishing channel cannot be opened again ({error!r})")
