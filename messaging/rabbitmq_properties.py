"""The properties of a delivered message: quickly where all can be read, one by one where one cannot."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pamqp import decode

MAX_HEADERS = 18 * 1024
"""Bytes of headers that are decoded at all: the envelope's 16 KiB of text, and what AMQP adds to it.

pamqp copies the rest of the table for every value in it; a frame full of tiny headers would hold the loop for
a second.
"""

_SIZE = struct.Struct(">Q")

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

# Where a property belongs among the last fields of a Delivery, and what is passed over.
_PLACES = {"message_id": 0, "type": 1, "content_type": 2, "correlation_id": 3, "app_id": 4, "user_id": 5}
_TIME, _TABLE, _PASSED_OVER, _BYTE = 6, 7, 8, 9
_OTHERS = {_HEADERS: _TABLE, _DELIVERY_MODE: _BYTE, _PRIORITY: _BYTE, _TIMESTAMP: _TIME}

# What decoding raises: RecursionError on deep headers, OverflowError and OSError on timestamps.
UNDECODABLE = (ValueError, OverflowError, OSError, RecursionError, struct.error, LookupError, TypeError)


@lru_cache(maxsize=256)
def _plan(flags: int) -> tuple[int, ...]:
    """What stands in the properties, in order: where each belongs in a Delivery, or how it is passed over."""
    return tuple(
        _PLACES.get(_SHORT_STRINGS[flag], _PASSED_OVER) if flag in _SHORT_STRINGS else _OTHERS[flag]
        for flag in _IN_ORDER
        if flags & flag
    )


def quick_properties(data: bytes) -> list[Any]:
    """A Delivery's fields from `message_id` to `headers`; raises one of UNDECODABLE."""
    flags = data[0] << 8 | data[1]
    if flags & 1:
        raise ValueError("flags that AMQP does not know")
    found: list[Any] = [None, None, None, None, None, None, None, {}]
    at = 2
    for place in _plan(flags):
        if place < _TIME:
            start, at = at + 1, at + 1 + data[at]
            found[place] = data[start:at].decode()
        elif place == _TIME:
            found[_TIME] = _time(_SIZE.unpack_from(data, at)[0])
            at += 8
        elif place == _TABLE:
            start = at
            at += 4 + int.from_bytes(data[at : at + 4], "big")
            found[_TABLE] = _headers(data[start:at])
        elif place == _PASSED_OVER:
            at += 1 + data[at]
        else:
            at += 1
    return found


def properties(data: bytes, complaints: list[str]) -> dict[str, Any]:
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
        except UNDECODABLE as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            complaints.append(f"property {name} cannot be read ({reason})")
    return found


def _headers(table: bytes) -> dict[str, Any]:
    if len(table) > MAX_HEADERS:
        raise ValueError(f"{len(table)} bytes, more than {MAX_HEADERS}")
    return decode.field_table(table)[1]


@lru_cache(maxsize=64)  # what comes within a second was mostly sent within one
def _time(value: int) -> datetime:
    # Some clients count milliseconds; read as seconds these would lie beyond the year 2106.
    return datetime.fromtimestamp(value / 1000 if value > 0xFFFFFFFF else value, UTC)


def name_of(what: str, raw: bytes, complaints: list[str]) -> str:
    """An exchange's or a routing key's text; where it is none, something like it and a complaint."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        complaints.append(f"the {what} {raw!r} is no UTF-8")
        return raw.decode(errors="backslashreplace")
