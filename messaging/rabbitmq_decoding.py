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
from datetime import UTC, datetime
from typing import Any, SupportsIndex

from pamqp import decode

from messaging.bus import Delivery
from messaging.envelope import MAX_BODY

MAX_HEADERS = 18 * 1024
"""Bytes of headers that are decoded at all: the envelope's 16 KiB of text, and what AMQP adds to it.

pamqp copies the rest of the table for every value in it; a frame full of tiny headers would hold the loop for
a second.
"""

MAX_KEPT = MAX_BODY + 1
"""Bytes of a body that are held: enough to see that it is too long.

Prefetch bounds the messages held, not their bytes, and a broker carries bodies of 16 MiB and more.
"""

Receiver = Callable[["RawDelivery"], None]

_FRAME = struct.Struct(">BHI")
_METHOD, _HEADER, _BODY = 1, 2, 3
_DELIVER = struct.pack(">HH", 60, 60)
_HEARTBEAT = struct.pack(">BHI", 8, 0, 0) + b"\xce"
_HEARTBEAT_SECONDS = 1.0

# Property flags, in the order the properties stand in the frame (AMQP 0-9-1, 4.2.6.1 and 1.8.1).
_HEADERS, _DELIVERY_MODE, _PRIORITY, _TIMESTAMP = 0x2000, 0x1000, 0x0800, 0x0040
_SHORT_STRINGS = {
    0x8000: "content_type",
    0x4000: "content_encoding",
    0x0400: "correlation_id",
    0x0200: "reply_to",
    0x0100: "expiration",
    0x0080: "message_id",
    0x0020: "type",
    0x0010: "user_id",
    0x0008: "app_id",
    0x0004: "cluster_id",
}
_IN_ORDER = tuple(1 << bit for bit in range(15, 1, -1))
_OURS = frozenset({"content_type", "correlation_id", "message_id", "type", "user_id", "app_id"})

# What decoding raises: RecursionError on deep headers, OverflowError and OSError on timestamps.
_UNDECODABLE = (ValueError, OverflowError, OSError, RecursionError, struct.error, LookupError, TypeError)


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

    def take_body(self, part: bytes) -> None:
        """Count this part of the body, and keep what of it lies before MAX_KEPT."""
        room = MAX_KEPT - (self.size - self.missing)
        if room > 0:
            self.body_parts.append(part[:room])
        self.missing -= len(part)

    def delivery(self, queue: str, tag: int) -> Delivery:
        """The message in our own terms; `tag` is the subscription's, not the channel's."""
        complaints: list[str] = []
        properties = _properties(self.properties, complaints)
        if self.size > MAX_KEPT:
            complaints.append(f"the body has {self.size} bytes, more than {MAX_BODY}; only its beginning is kept")
        return Delivery(
            queue=queue,
            tag=tag,
            body=b"".join(self.body_parts),
            exchange=_name("exchange", self.exchange, complaints),
            routing_key=_name("routing key", self.routing_key, complaints),
            redelivered=self.redelivered,
            malformed="; ".join(complaints) or None,
            **properties,
        )


class DeliveryReader(asyncio.StreamReader):
    """The stream of a broker's frames without those of deliveries, which go to the receiver of their channel.

    `ended` is done, with the reason, as soon as the stream has ended; aiormq can wait for ever before it says so,
    namely for its last words to reach a peer that does not read. `heard_at` is when something came last, in the
    loop's time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._loop_time = loop.time
        self.ended: asyncio.Future[str] = loop.create_future()
        self.heard_at = loop.time()
        self._receivers: dict[int, Receiver] = {}
        self._incomplete: dict[int, RawDelivery] = {}
        self._rest = b""
        self._passed_on_at = 0.0

    def receive(self, channel: int, receiver: Receiver) -> None:
        """Give the channel's deliveries to this receiver; to be called before the channel consumes."""
        self._receivers[channel] = receiver
        self._incomplete.pop(channel, None)

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
            if channel not in self._receivers or not self._take(kind, channel, data[at + 7 : stop - 1]):
                others.append(data[at:stop])
            at = stop
        self._rest = data[at:]
        self._pass_on(others, took=at > 0)

    def feed_eof(self) -> None:
        # Half a frame, or the answer of something that does not speak AMQP: aiormq says what it makes of it.
        if self._rest:
            super().feed_data(self._rest)
        super().feed_eof()
        self._end("the broker closed the connection")

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

    def _take(self, kind: int, channel: int, payload: bytes) -> bool:
        if kind == _METHOD:
            if not payload.startswith(_DELIVER):
                return False
            self._incomplete[channel] = _delivered(payload)
            return True
        raw = self._incomplete.get(channel)
        if raw is None:
            return False
        if kind == _HEADER:
            (raw.size,) = struct.unpack_from(">Q", payload, 4)
            raw.missing = raw.size
            raw.properties = payload[12:]
        else:
            raw.take_body(payload)
        if raw.missing <= 0:
            del self._incomplete[channel]
            self._receivers[channel](raw)
        return True


def _delivered(payload: bytes) -> RawDelivery:
    # class, method, consumer-tag, delivery-tag, redelivered, exchange, routing-key (AMQP 0-9-1, 1.8.3.13)
    at = 5 + payload[4]
    tag, redelivered = struct.unpack_from(">Q?", payload, at)
    at += 10
    exchange = payload[at : at + payload[at - 1]]
    at += len(exchange) + 1
    return RawDelivery(tag, redelivered, exchange, payload[at : at + payload[at - 1]])


def _properties(data: bytes, complaints: list[str]) -> dict[str, Any]:
    """The properties a Delivery has; of one that cannot be read, a complaint."""
    flags = int.from_bytes(data[:2], "big")
    at = 2
    found: dict[str, Any] = {}
    if flags & 1:
        # A second word of flags stands for properties that AMQP 0-9-1 does not have.
        complaints.append("the properties have flags that AMQP does not know")
        return found
    for flag in _IN_ORDER:
        if not flags & flag:
            continue
        name = _SHORT_STRINGS.get(flag)
        try:
            if name is not None:
                start, at = at + 1, at + 1 + data[at]
                if name in _OURS:
                    found[name] = data[start:at].decode()
            elif flag == _HEADERS:
                name, start = "headers", at
                at += 4 + int(struct.unpack_from(">I", data, at)[0])
                found[name] = _headers(data[start:at])
            elif flag == _TIMESTAMP:
                name, at = "timestamp", at + 8
                found[name] = _time(int(struct.unpack_from(">Q", data, at - 8)[0]))
            else:
                at += 1
        except _UNDECODABLE as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            complaints.append(f"property {name} cannot be read ({reason})")
    return found


def _headers(table: bytes) -> dict[str, Any]:
    if len(table) > MAX_HEADERS:
        raise ValueError(f"{len(table)} bytes, more than {MAX_HEADERS}")
    return decode.field_table(table)[1]


def _time(value: int) -> datetime:
    # Some clients count milliseconds; read as seconds these would lie beyond the year 2106.
    return datetime.fromtimestamp(value / 1000 if value > 0xFFFFFFFF else value, UTC)


def _name(what: str, raw: bytes, complaints: list[str]) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        complaints.append(f"the {what} {raw!r} is no UTF-8")
        return raw.decode(errors="backslashreplace")
