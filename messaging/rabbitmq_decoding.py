"""Reading deliveries off the wire: quick, and deaf to hostility.

aiormq takes 80 µs of CPU for a delivered message, and pamqp raises inside its reader on a short string that is no
UTF-8, on an absurd timestamp and on headers nested too deeply; then the connection dies, and the good messages
around the bad one are redelivered with it until they reach their delivery limit.

So deliveries never get there. `DeliveryReader` is the stream that aiormq reads from; it takes the frames of
deliveries out (method, properties, body), and passes on everything else. What cannot be decoded is left out, and
so is what a body has beyond `MAX_KEPT`; the rest is saved, and the delivery says in `malformed` what was wrong.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, SupportsIndex

from messaging.bus import Delivery
from messaging.envelope import MAX_BODY
from messaging.rabbitmq_properties import UNDECODABLE, name_of, properties, quick_properties

MAX_KEPT = MAX_BODY + 1
"""Bytes of a body that are held: enough to see that it is too long.

Prefetch bounds the messages held, not their bytes, and a broker carries bodies of 16 MiB and more.
"""

MOST_HELD = 64 * 1024 * 1024
"""Bytes of bodies that a connection delivers before any of them is settled: then what comes is left in the network.

RabbitMQ's prefetch counts messages and not their bytes.
"""

Receiver = Callable[["RawDelivery"], None]

_FRAME = struct.Struct(">BHI")
_KIND_AND_CHANNEL = struct.Struct(">BH")
_METHOD, _HEADER, _BODY = 1, 2, 3
_WHOLE = struct.Struct(">BHI4xQ")
"""The frame of a content's header, as far as the properties: kind, channel, length, and the size of the body."""
_LEAST = 14
"""Bytes in it: class, weight, size and the flags of the properties (AMQP 0-9-1, 4.2.6.1)."""
_DELIVER, _RETURN = struct.pack(">HH", 60, 60), struct.pack(">HH", 60, 50)
_ACK, _NACK = struct.pack(">HH", 60, 80), struct.pack(">HH", 60, 120)
_SIZE, _TAG = struct.Struct(">Q"), struct.Struct(">Q?")
_CLOSE, _CHANNEL_CLOSE = struct.pack(">HH", 10, 50), struct.pack(">HH", 20, 40)
_HEARTBEAT = struct.pack(">BHI", 8, 0, 0) + b"\xce"
_HEARTBEAT_SECONDS = 1.0


@dataclass(slots=True)
class RawDelivery:
    """A message as the broker sent it; `delivery()` decodes it."""

    tag: int
    redelivered: bool
    exchange: bytes
    routing_key: bytes
    properties: bytes = b""
    body_parts: list[bytes] = field(default_factory=list)
    size: int = 0
    missing: int = 0

    def take(self, kind: int, data: bytes, start: int, stop: int) -> bool:
        """Take a frame of the content, its payload from `start` to `stop`; returns whether the message is complete."""
        if kind == _HEADER:
            (self.size,) = _SIZE.unpack_from(data, start + 4)
            self.missing = self.size
            self.properties = data[start + 12 : stop]
        else:
            self.take_body(data[start:stop])
        return self.missing <= 0

    def take_whole(self, data: bytes, method: int, header: int) -> int:
        """Take the frames of the content behind that of the method, where they are here and the body is in one frame.

        Returns where the body ends, or 0 where it is to be taken frame by frame. Most messages are like that, and to go
        through their frames one by one is a sixth of what it takes to read one from the network.
        """
        if len(data) - header < _WHOLE.size:
            return 0
        kind, channel, length, size = _WHOLE.unpack_from(data, header)
        body = header + _FRAME.size + length + 1 + _FRAME.size
        end: int = body + size
        if kind != _HEADER or length < _LEAST or not 0 < size <= MAX_KEPT or len(data) <= end:
            return 0
        same = _KIND_AND_CHANNEL.unpack_from(data, method)[1] == channel
        if not same or _FRAME.unpack_from(data, body - _FRAME.size) != (_BODY, channel, size):
            return 0
        self.size, self.properties = size, data[header + _WHOLE.size : body - _FRAME.size - 1]
        self.body_parts.append(data[body:end])
        return end

    def take_body(self, part: bytes) -> None:
        """Count this part of the body, and keep what of it lies before MAX_KEPT."""
        room = MAX_KEPT - (self.size - self.missing)
        if room > 0:
            self.body_parts.append(part[:room])
        self.missing -= len(part)

    def delivery(self, queue: str, tag: int) -> Delivery:
        """The message in our own terms; `tag` is the subscription's, not the channel's."""
        body = self.body_parts[0] if len(self.body_parts) == 1 else b"".join(self.body_parts)
        if self.size <= MAX_KEPT:
            try:
                return Delivery(
                    queue,
                    tag,
                    body,
                    self.exchange.decode(),
                    self.routing_key.decode(),
                    self.redelivered,
                    *quick_properties(self.properties),
                )
            except UNDECODABLE:
                pass  # Property by property then, so that whatever can be read is saved.
        complaints: list[str] = []
        known = properties(self.properties, complaints)
        if self.size > MAX_KEPT:
            complaints.append(f"the body has {self.size} bytes, more than {MAX_BODY}; only its beginning is kept")
        return Delivery(
            queue=queue,
            tag=tag,
            body=body,
            exchange=name_of("exchange", self.exchange, complaints),
            routing_key=name_of("routing key", self.routing_key, complaints),
            redelivered=self.redelivered,
            malformed="; ".join(complaints) or None,
            **known,
        )


class Answers(Protocol):
    """Who is told what the broker says of the messages published on a channel."""

    def confirmed(self, tag: int, multiple: bool, *, good: bool) -> None:
        """The broker has this message, or with `multiple` all up to it; or it has not (`good` is false)."""

    def returned(self, message_id: str) -> None:
        """No queue is bound for it; its confirmation follows."""


class _Deliveries:
    """The deliveries of one channel."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.incomplete: RawDelivery | None = None

    def take(self, kind: int, data: bytes, start: int, stop: int) -> int:
        """Take a frame, its payload from `start` to `stop`, if it is part of a delivery, and what follows with it.

        Returns where the payload of the last frame ends that was taken, or 0.
        """
        if kind == _METHOD:
            if not data.startswith(_DELIVER, start):
                return 0
            # consumer-tag, delivery-tag, redelivered, exchange, routing-key (AMQP 0-9-1, 1.8.3.13)
            at = start + 5 + data[start + 4]
            tag, redelivered = _TAG.unpack_from(data, at)
            exchange = at + 10 + data[at + 9]
            raw = RawDelivery(
                tag, redelivered, data[at + 10 : exchange], data[exchange + 1 : exchange + 1 + data[exchange]]
            )
            last = raw.take_whole(data, start - _FRAME.size, stop + 1)
            self.incomplete = None if last else raw
            if last:
                self._receiver(raw)
            return last or stop
        incomplete = self.incomplete
        if incomplete is None:
            return 0
        if incomplete.take(kind, data, start, stop):
            self.incomplete = None
            self._receiver(incomplete)
        return stop


class _Answers:
    """What the broker says of the messages published on one channel.

    A returned message is confirmed right after it was returned: both are read here, or the confirmation would be first.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._returned: RawDelivery | None = None

    def take(self, kind: int, data: bytes, start: int, stop: int) -> int:
        """Take a frame, its payload from `start` to `stop`, if it says something of a published message; returns `stop`
        then, or 0.
        """
        if kind == _METHOD:
            if data.startswith(_ACK, start) or data.startswith(_NACK, start):
                tag, bits = _SIZE.unpack_from(data, start + 4)[0], data[start + 12]
                self._answers.confirmed(tag, bool(bits & 1), good=data[start + 3] == _ACK[3])
                return stop
            if data.startswith(_RETURN, start):
                self._returned = RawDelivery(0, False, b"", b"")
                return stop
            return 0
        raw = self._returned
        if raw is None:
            return 0
        if raw.take(kind, data, start, stop):
            self._returned = None
            self._answers.returned(raw.delivery("", 0).message_id or "")
        return stop


class DeliveryReader(asyncio.StreamReader):
    """The stream of a broker's frames without those of deliveries, and of answers to what was published.

    `ended` is done, with the reason, as soon as the stream has ended; aiormq can wait for ever before it says so,
    namely for its last words to reach a peer that does not read. `heard_at` is when something came last, in the
    loop's time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._loop_time = loop.time
        self.ended: asyncio.Future[str] = loop.create_future()
        self.heard_at = loop.time()
        self._takers: dict[int, _Deliveries | _Answers] = {}
        self._rest = b""
        self._passed_on_at = 0.0
        self._socket: asyncio.BaseTransport | None = None
        self._held = 0
        self._full = False
        self._again: asyncio.TimerHandle | None = None
        self.dismissal: str | None = None
        """What the broker said when it closed the connection, if it did."""
        self._closed: set[int] = set()

    def receive(self, channel: int, receiver: Receiver) -> None:
        """Give the channel's deliveries to this receiver; to be called before the channel consumes."""
        self._takers[channel] = _Deliveries(receiver)
        self._closed.discard(channel)

    def answer(self, channel: int, answers: Answers) -> None:
        """Tell what the broker says of the channel's messages; to be called before anything is published there."""
        self._takers[channel] = _Answers(answers)
        self._closed.discard(channel)

    def is_closed(self, channel: int) -> bool:
        """Whether the broker has closed a channel of somebody who receives; aiormq says so some turns later."""
        return channel in self._closed

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        super().set_transport(transport)
        self._socket = transport

    def hold(self, size: int) -> None:
        """A body of so many bytes has been handed out."""
        self._held += size
        if self._held > MOST_HELD and not self._full:
            self._full = True
            self._stay_full()

    def release(self, size: int) -> None:
        """Bodies of so many bytes have been settled, or their channel is gone."""
        self._held -= size
        if self._full and self._held <= MOST_HELD // 2:
            self._full = False
            if self._again is not None:
                self._again.cancel()
            if isinstance(self._socket, asyncio.ReadTransport):
                self._socket.resume_reading()

    def _stay_full(self) -> None:
        """Read nothing, and take care that nobody concludes from it that the broker is dead."""
        if not self._full or self.ended.done():
            return
        if isinstance(self._socket, asyncio.ReadTransport):
            self._socket.pause_reading()
        self.heard_at = self._passed_on_at = self._loop_time()
        super().feed_data(_HEARTBEAT)
        self._again = self.ended.get_loop().call_later(_HEARTBEAT_SECONDS, self._stay_full)

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Called by the transport with whatever has come."""
        self.heard_at = self._loop_time()
        # The transport hands over bytes, of which this makes no copy; the wider type is the base class's.
        data = self._rest + bytes(data) if self._rest else bytes(data)
        at, end = 0, len(data)
        others = []
        while end - at >= _FRAME.size:
            kind, channel, size = _FRAME.unpack_from(data, at)
            stop = at + _FRAME.size + size + 1
            if stop > end:
                break
            if channel == 0 and data.startswith(_CLOSE, at + 7):
                # Reply code, then its text with its length before it (AMQP 0-9-1, 1.4.2.9).
                self.dismissal = data[at + 14 : at + 14 + data[at + 13]].decode(errors="replace")
            taker = self._takers.get(channel)
            taken = 0 if taker is None else taker.take(kind, data, at + 7, stop - 1)
            if not taken:
                others.append(data[at:stop])
                if data.startswith(_CHANNEL_CLOSE, at + 7):
                    self._closed.add(channel)
            at = taken + 1 if taken else stop
        self._rest = data[at:]
        self._pass_on(others, took=at > 0)

    def feed_eof(self) -> None:
        # Half a frame, or the answer of something that does not speak AMQP: aiormq says what it makes of it.
        if self._rest:
            super().feed_data(self._rest)
        super().feed_eof()
        self._end(self.dismissal or "the broker closed the connection")

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._end(str(exc) or type(exc).__name__)

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    def _pass_on(self, frames: list[bytes], *, took: bool) -> None:
        if frames:
            super().feed_data(b"".join(frames))
        elif took and self.heard_at - self._passed_on_at > _HEARTBEAT_SECONDS:
            # aiormq takes a connection on which it reads nothing for dead; deliveries prove that it lives.
            super().feed_data(_HEARTBEAT)
        else:
            return
        self._passed_on_at = self.heard_at
