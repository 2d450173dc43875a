"""Hostile properties: decoding what a broker delivers without ever losing the connection over it.

pamqp raises inside aiormq's reader on a short string that is no UTF-8, on an absurd timestamp and on
headers nested too deeply; the connection dies, and the good messages around the bad one are redelivered
with it until they reach their delivery limit. Here whatever can be saved is saved, and the delivery says in
`malformed` what could not be.

Only connections opened after `decode_tolerantly()` in the same task are decoded this way: another user of
aio-pika in the process keeps pamqp as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from typing import cast

from aiormq.abc import DeliveredMessage
from pamqp import decode
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from messaging.bus import Delivery

MAX_HEADER_TABLE = 18 * 1024
"""Bytes of headers that are decoded at all: the envelope's 16 KiB of text, and what AMQP adds to it.

pamqp copies the rest of the table for every value in it; a frame full of tiny headers would hold the loop for
a second.
"""

_MARK = "amends_malformed"
_tolerant: ContextVar[bool] = ContextVar("amends_tolerant_decoding", default=False)
_decode_header = ContentHeader.unmarshal
_decode_deliver = Basic.Deliver.unmarshal

# What pamqp's decoders raise: RecursionError on deep headers, OverflowError and OSError on timestamps.
_UNDECODABLE = (ValueError, OverflowError, OSError, RecursionError, struct.error, LookupError, TypeError)


def decode_tolerantly() -> None:
    """Make connections opened from now on in this task's context survive what they cannot decode."""
    # pamqp has no hook for this; each replacement calls the original first.
    ContentHeader.unmarshal = _unmarshal_header  # type: ignore[method-assign, assignment]
    Basic.Deliver.unmarshal = _unmarshal_deliver  # type: ignore[method-assign, assignment]
    _tolerant.set(True)


def delivery_of(message: DeliveredMessage, queue: str, tag: int) -> Delivery:
    """Our own view of a delivered message; `tag` is the subscription's, not the channel's."""
    frame = cast("Basic.Deliver", message.delivery)
    header = message.header
    properties = header.properties
    complaints = [complaint for each in (frame, header) if (complaint := getattr(each, _MARK, None)) is not None]
    timestamp = properties.timestamp
    return Delivery(
        queue=queue,
        tag=tag,
        body=message.body,
        exchange=frame.exchange or "",
        routing_key=frame.routing_key or "",
        redelivered=bool(frame.redelivered),
        message_id=properties.message_id,
        type=properties.message_type,
        content_type=properties.content_type,
        correlation_id=properties.correlation_id,
        app_id=properties.app_id,
        user_id=properties.user_id,
        timestamp=timestamp if isinstance(timestamp, datetime) else None,
        headers=properties.headers or {},
        malformed="; ".join(complaints) if complaints else None,
    )


def _unmarshal_deliver(frame: Basic.Deliver, data: bytes) -> None:
    try:
        _decode_deliver(frame, data)
    except ValueError:
        if not _tolerant.get():
            raise
        _salvage_deliver(frame, data)


def _salvage_deliver(frame: Basic.Deliver, data: bytes) -> None:
    # consumer-tag, delivery-tag, redelivered, exchange, routing-key (AMQP 0-9-1, 1.8.3.13)
    size, frame.consumer_tag = decode.short_str(data)
    frame.delivery_tag, frame.redelivered = struct.unpack_from(">Q?", data, size)
    at = size + 9
    exchange = data[at + 1 : at + 1 + data[at]]
    at += 1 + data[at]
    routing_key = data[at + 1 : at + 1 + data[at]]
    frame.exchange = exchange.decode(errors="backslashreplace")
    frame.routing_key = routing_key.decode(errors="backslashreplace")
    setattr(frame, _MARK, f"the routing key {routing_key!r} is no UTF-8")


def _unmarshal_header(header: ContentHeader, data: bytes) -> None:
    if not _tolerant.get():
        _decode_header(header, data)
        return
    if len(data) <= MAX_HEADER_TABLE:
        try:
            _decode_header(header, data)
        except _UNDECODABLE:
            header.properties = Basic.Properties()
        else:
            return
    _salvage_header(header, data)


def _salvage_header(header: ContentHeader, data: bytes) -> None:
    """Read property by property; what cannot be read is left out and complained of."""
    header.class_id, header.weight, header.body_size = struct.unpack_from(">HHQ", data)
    (flags,) = struct.unpack_from(">H", data, 12)
    at = 14
    complaints = []
    if flags & 1:
        # A second word of flags stands for properties that AMQP 0-9-1 does not have.
        flags, complaints = 0, ["the properties have flags that AMQP does not know"]
    for name in Basic.Properties.attributes():
        if not flags & Basic.Properties.flags[name]:
            continue
        kind = Basic.Properties.amqp_type(name)
        size = _SIZES[kind](data, at)
        try:
            if at + size > len(data):
                raise ValueError("cut off")
            if size > MAX_HEADER_TABLE:
                raise ValueError(f"{size} bytes, more than {MAX_HEADER_TABLE}")
            setattr(header.properties, name, decode.by_type(data[at : at + size], kind)[1])
        except _UNDECODABLE as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            complaints.append(f"property {name} cannot be read ({reason})")
        at += size
    setattr(header, _MARK, "; ".join(complaints) or None)


def _size_of_short_string(data: bytes, at: int) -> int:
    return 1 + data[at] if at < len(data) else 1


def _size_of_table(data: bytes, at: int) -> int:
    return 4 + cast("int", struct.unpack_from(">I", data, at)[0]) if at + 4 <= len(data) else 4


_SIZES: dict[str, Callable[[bytes, int], int]] = {
    "shortstr": _size_of_short_string,
    "table": _size_of_table,
    "octet": lambda _data, _at: 1,
    "timestamp": lambda _data, _at: 8,
}
