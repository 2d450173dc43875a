"""The bytes of a published message: method, properties and body frames of AMQP 0-9-1, encoded in one go.

aio-pika takes 70 to 110 µs of CPU to publish a message, most of it in objects between the message and its
bytes; encoding the frames directly takes 8 µs. Every property that a plain AMQP client or RabbitMQ's own
tools look at is set.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from messaging.bus import Outgoing

_METHOD, _HEADER, _BODY, _END = 1, 2, 3, b"\xce"
_BASIC = 60
_PUBLISH = 40
_MANDATORY = b"\x01"
_PERSISTENT = b"\x02"
_FRAME_OVERHEAD = 8
_FRAME, _CONTENT, _SECONDS = struct.Struct(">BHI"), struct.Struct(">HHQ"), struct.Struct(">Q")
_REMEMBERED = 1_024
"""A handful of wire types; the bound is for callers who make routing keys up."""

# Property flags, in the order the properties stand in the frame (AMQP 0-9-1, 4.2.6.1 and 1.8.1).
_CONTENT_TYPE, _HEADERS, _DELIVERY_MODE, _CORRELATION_ID = 0x8000, 0x2000, 0x1000, 0x0400
_MESSAGE_ID, _TIMESTAMP, _TYPE, _USER_ID, _APP_ID = 0x0080, 0x0040, 0x0020, 0x0010, 0x0008


class Unencodable(ValueError):
    """A message that AMQP cannot carry; says which part of it, and why."""


class FrameEncoder:
    """Encodes messages for one channel.

    `frame_max` is what the broker agreed to (0 for no limit); `user_id` is the user we are logged in as,
    which RabbitMQ checks, so that a consumer may believe it.
    """

    def __init__(self, channel: int, frame_max: int, user_id: str | None) -> None:
        self._channel = channel
        self._largest = (frame_max or 2**31) - _FRAME_OVERHEAD
        self._user_id = b"" if user_id is None else _short("user_id", user_id)
        self._methods: dict[tuple[str, str], bytes] = {}
        self._same: dict[tuple[str, str, str, bool, bool], tuple[bytes, bytes]] = {}

    def encode(self, message: Outgoing) -> bytes:
        """All frames of the message; raises Unencodable."""
        target = (message.exchange, message.routing_key)
        method = self._methods.get(target) or self._method(*target)
        body = message.body
        properties = b"%b%b" % (_CONTENT.pack(_BASIC, 0, len(body)), self._properties(message))
        if len(properties) > self._largest:
            raise Unencodable(
                f"the properties have {len(properties)} bytes, and the broker takes frames of {self._largest}; "
                "shorten the headers"
            )
        parts = [method, _FRAME.pack(_HEADER, self._channel, len(properties)), properties, _END]
        for at in range(0, len(body), self._largest):
            part = body if len(body) <= self._largest else body[at : at + self._largest]
            parts += (_FRAME.pack(_BODY, self._channel, len(part)), part, _END)
        return b"".join(parts)

    def _frame(self, kind: int, payload: bytes) -> bytes:
        return _FRAME.pack(kind, self._channel, len(payload)) + payload + _END

    def _method(self, exchange: str, routing_key: str) -> bytes:
        arguments = _short("exchange", exchange) + _short("routing_key", routing_key) + _MANDATORY
        frame = self._frame(_METHOD, struct.pack(">HHH", _BASIC, _PUBLISH, 0) + arguments)
        if len(self._methods) >= _REMEMBERED:
            self._methods.clear()
        self._methods[exchange, routing_key] = frame
        return frame

    def _properties(self, message: Outgoing) -> bytes:
        if not message.message_id:
            raise Unencodable("the message_id is empty; a returned message could not be told from others")
        same = (message.content_type, message.type, message.app_id, bool(message.headers), bool(message.correlation_id))
        head, tail = self._same.get(same) or self._always(same)
        parts = [head]
        if message.headers:
            parts.append(_table(message.headers))
        parts.append(_PERSISTENT)
        if message.correlation_id:
            parts.append(_short("correlation_id", message.correlation_id))
        parts += (_short("message_id", message.message_id), _timestamp(message.timestamp.timestamp()), tail)
        return b"".join(parts)

    def _always(self, same: tuple[str, str, str, bool, bool]) -> tuple[bytes, bytes]:
        """What stands before the headers and after the timestamp in all messages that have these in common."""
        content_type, wire_type, app_id, headers, correlation_id = same
        flags = _DELIVERY_MODE | _MESSAGE_ID | _TIMESTAMP
        flags |= _CONTENT_TYPE * bool(content_type) | _HEADERS * headers | _CORRELATION_ID * correlation_id
        flags |= _TYPE * bool(wire_type) | _USER_ID * bool(self._user_id) | _APP_ID * bool(app_id)
        head = struct.pack(">H", flags) + (_short("content_type", content_type) if content_type else b"")
        tail = (
            (_short("type", wire_type) if wire_type else b"")
            + self._user_id
            + (_short("app_id", app_id) if app_id else b"")
        )
        if len(self._same) >= _REMEMBERED:
            self._same.clear()
        self._same[same] = head, tail
        return head, tail


def _short(name: str, text: str) -> bytes:
    raw = _utf8(name, text)
    if len(raw) > 255:
        raise Unencodable(f"{name} has {len(raw)} bytes, and AMQP allows 255: {text[:60]!r}…")
    return bytes((len(raw),)) + raw


def _utf8(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise Unencodable(f"{name} is no text that can be sent: {text[:60]!r}") from error


def _timestamp(seconds: float) -> bytes:
    if seconds < 0:
        raise Unencodable("the timestamp lies before 1970, and AMQP counts from there")
    return _SECONDS.pack(int(seconds))


def _table(headers: Mapping[str, str]) -> bytes:
    entries = []
    for name, value in headers.items():
        raw = _utf8(f"header {name!r}", value)
        entries.append(_short("a header's name", name) + b"S" + struct.pack(">I", len(raw)) + raw)
    table = b"".join(entries)
    return struct.pack(">I", len(table)) + table
