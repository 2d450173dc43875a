"""The bytes we write to RabbitMQ and the bytes we read from it, without a broker."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from messaging import rabbitmq_decoding
from messaging.bus import Delivery, Outgoing
from messaging.rabbitmq_consuming import RabbitSubscription
from messaging.rabbitmq_decoding import DeliveryReader, RawDelivery, _Deliveries
from messaging.rabbitmq_frames import FrameEncoder, Unencodable
from messaging.rabbitmq_properties import MAX_HEADERS

MESSAGE = Outgoing(
    exchange="amends.events",
    routing_key="order.created",
    message_id="id-1",
    body=b"{}",
    type="order.created",
    timestamp=datetime(2026, 3, 1, 12, 30, 15, 999_999, tzinfo=UTC),
    app_id="order",
    correlation_id="saga-1",
    headers={"traceparent": "00-1"},
)


def frames_of(data: bytes) -> list[frame.FrameTypes]:
    """What another library reads in it."""
    found = []
    while data:
        size, channel, each = frame.unmarshal(data)
        assert channel == 3
        found.append(each)
        data = data[size:]
    return found


async def test_who_ends_gives_back_what_it_has_not_tried() -> None:
    """RabbitMQ counts a reject as a failed delivery, and from 4.3 on no nack: a deploy brings none near its limit."""
    written: list[bytes] = []

    async def never() -> Any:
        raise AssertionError("it is not attached here")

    subscription = RabbitSubscription("one", prefetch=9, deliver=lambda _: None, connection=never, declare=never)
    delivered = [Delivery("one", tag, b"", "", "") for tag in (1, 2, 3, 4)]
    subscription._underlying = cast(Any, SimpleNamespace(number=3))
    subscription._connected = cast(Any, SimpleNamespace(write=lambda _, frames: written.append(frames)))
    await subscription.reject(delivered[:1], requeue=True)
    subscription._canceled = True
    await subscription.reject(delivered[1:2], requeue=True)
    await subscription.reject(delivered[2:3], requeue=False)
    await subscription.ack(delivered[3:])

    assert [dict(cast(Any, each)) | {"is": each.name} for each in frames_of(b"".join(written))] == [
        {"is": "Basic.Reject", "delivery_tag": 1, "requeue": True},
        {"is": "Basic.Nack", "delivery_tag": 2, "multiple": False, "requeue": True},
        {"is": "Basic.Reject", "delivery_tag": 3, "requeue": False},
        {"is": "Basic.Ack", "delivery_tag": 4, "multiple": True},
    ]


def test_every_property_is_written() -> None:
    """Another library reads method, properties and body as they were meant, mandatory and persistent."""
    method, header, body = frames_of(FrameEncoder(3, 131_072, "alice").encode(MESSAGE))
    assert isinstance(method, commands.Basic.Publish)
    assert (method.exchange, method.routing_key) == ("amends.events", "order.created")
    assert (method.mandatory, method.immediate) == (True, False)
    assert isinstance(header, ContentHeader)
    assert header.body_size == 2
    properties = header.properties
    assert (properties.delivery_mode, properties.content_type) == (2, "application/json")
    assert (properties.message_id, properties.message_type) == ("id-1", "order.created")
    assert (properties.correlation_id, properties.app_id, properties.user_id) == ("saga-1", "order", "alice")
    assert properties.timestamp == datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
    assert properties.headers == {"traceparent": "00-1"}
    assert isinstance(body, ContentBody)
    assert body.value == b"{}"


def test_what_a_message_does_not_have_is_not_written() -> None:
    """Absent properties are absent on the wire, not empty."""
    bare = replace(MESSAGE, correlation_id=None, headers={}, content_type="", app_id="", type="")
    _, header, _ = frames_of(FrameEncoder(3, 131_072, None).encode(bare))
    assert isinstance(header, ContentHeader)
    properties = header.properties
    assert (properties.correlation_id, properties.headers, properties.content_type) == (None, None, None)
    assert (properties.app_id, properties.message_type, properties.user_id) == (None, None, None)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [(0, []), (1, [1]), (4_088, [4_088]), (4_089, [4_088, 1]), (9_000, [4_088, 4_088, 824])],
)
def test_a_body_is_split_by_the_frame_size(size: int, sizes: list[int]) -> None:
    """No frame is longer than the broker agreed to, its eight bytes of frame included."""
    body = bytes(n % 256 for n in range(size))
    _, header, *parts = frames_of(FrameEncoder(3, 4_096, None).encode(replace(MESSAGE, body=body)))
    assert isinstance(header, ContentHeader)
    assert header.body_size == size
    values = [part.value for part in parts if isinstance(part, ContentBody)]
    assert [len(value) for value in values] == sizes
    assert b"".join(values) == body


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (replace(MESSAGE, message_id=""), "message_id is empty"),
        (replace(MESSAGE, message_id="ü" * 128), "message_id has 256 bytes, and AMQP allows 255"),
        (replace(MESSAGE, routing_key="x" * 256), "routing_key has 256 bytes"),
        (replace(MESSAGE, headers={"x" * 256: "value"}), "header's name has 256 bytes"),
        (replace(MESSAGE, headers={"key": "\ud800"}), "header 'key' is no text"),
        (replace(MESSAGE, headers={"key": "x" * 5_000}), "shorten the headers"),
        (replace(MESSAGE, timestamp=datetime(1969, 12, 31, tzinfo=UTC)), "before 1970"),
    ],
)
def test_what_amqp_cannot_carry_is_named(message: Outgoing, says: str) -> None:
    """A message that cannot be encoded says which part of it, and why."""
    with pytest.raises(Unencodable, match=says):
        FrameEncoder(3, 4_096, None).encode(message)


def delivered(message: Outgoing, tag: int, *, channel: int = 3, frame_max: int = 4_096) -> bytes:
    """The frames of a delivery with that message's properties and body."""
    content = FrameEncoder(channel, frame_max, None).encode(message)
    publish_size = frame.unmarshal(content)[0]
    deliver = commands.Basic.Deliver("consumer", tag, False, message.exchange, message.routing_key)
    return frame.marshal(deliver, channel) + content[publish_size:]


async def read(chunks: list[bytes], *channels: int) -> tuple[list[RawDelivery], bytes]:
    """The deliveries of these channels in it, and what is left for aiormq."""
    reader = DeliveryReader(asyncio.get_running_loop())
    taken: list[RawDelivery] = []
    for channel in channels:
        reader.receive(channel, taken.append)
    for chunk in chunks:
        reader.feed_data(chunk)
    reader.feed_eof()
    return taken, await reader.read()


HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


@settings(deadline=None)
@given(
    bodies=st.lists(st.binary(max_size=9_000), min_size=1, max_size=4),
    cuts=st.lists(st.integers(min_value=1, max_value=20_000), max_size=12),
)
def test_deliveries_are_read_however_they_are_cut(bodies: list[bytes], cuts: list[int]) -> None:
    """Wherever the network cuts the stream, the deliveries are taken out whole and the rest is passed on."""
    acknowledged = frame.marshal(commands.Basic.QosOk(), 3)
    stream = b"".join(
        delivered(replace(MESSAGE, body=body), tag) + acknowledged for tag, body in enumerate(bodies, start=1)
    )
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    taken, passed_on = asyncio.run(read([stream[a:b] for a, b in pairwise(edges)], 3))
    assert [(raw.tag, b"".join(raw.body_parts)) for raw in taken] == list(enumerate(bodies, start=1))
    assert passed_on.replace(HEARTBEAT, b"") == acknowledged * len(bodies)


async def _told(stream: bytes) -> object:
    """What is read of a stream, or what is raised."""
    try:
        taken, passed_on = await read([stream], 3, 4)
    except (struct.error, IndexError) as error:
        return type(error)
    return [replace(raw, body_parts=[b"".join(raw.body_parts)]) for raw in taken], passed_on.replace(HEARTBEAT, b"")


def _frame(kind: int, channel: int, content: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(content)) + content + b"\xce"


_DELIVER = struct.pack(">HH", 60, 60) + b"\x01c" + bytes(7) + b"\x01\x00" + b"\x01x" + b"\x01k"
_FRAMES = (
    (1, _DELIVER),
    (1, _DELIVER),
    *((2, struct.pack(">HHQ", 60, 0, size) + flags) for size in (0, 2, 300_000) for flags in (b"\0\0", b"\0", b"")),
    *((kind, bytes(size)) for kind in (3, 8) for size in (0, 1, 2, 3)),
)


@settings(deadline=None, max_examples=300)
@given(
    frames=st.lists(st.tuples(st.sampled_from(_FRAMES), st.sampled_from((3, 4))), max_size=8),
    left_out=st.integers(0, 9),
)
def test_a_delivery_taken_at_once_is_the_same_as_frame_by_frame(
    frames: list[tuple[tuple[int, bytes], int]], left_out: int
) -> None:
    """Also where its frames are of other channels, kinds or sizes than they should be, or not all there."""
    stream = b"".join(_frame(kind, channel, content) for (kind, content), channel in frames)
    given = stream[: len(stream) - left_out]
    at_once = asyncio.run(_told(given))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RawDelivery, "take_whole", lambda *_: 0)
        assert asyncio.run(_told(given)) == at_once


@pytest.mark.parametrize(
    ("header", "body", "taken"),
    [
        ((2, 3, 14, 2), (3, 3, 2), True),
        ((2, 4, 14, 2), (3, 4, 2), False),
        ((2, 3, 14, 2), (3, 4, 2), False),
        ((2, 3, 14, 2), (8, 3, 2), False),
        ((8, 3, 14, 2), (3, 3, 2), False),
        ((2, 3, 13, 2), (3, 3, 2), False),
        ((2, 3, 14, 3), (3, 3, 2), False),
        ((2, 3, 14, 2), (3, 3, 3), False),
        ((2, 3, 14, 0), (3, 3, 0), False),
        ((2, 3, 14, 300_000), (3, 3, 300_000), False),
    ],
)
def test_only_what_is_plain_is_taken_at_once(
    header: tuple[int, int, int, int], body: tuple[int, int, int], taken: bool
) -> None:
    """Of a header its kind, channel, length and the body's size are looked at, of a body its kind, channel, length."""
    kind, channel, length, size = header
    method = _frame(1, 3, _DELIVER)
    content = _frame(kind, channel, struct.pack(">HHQH", 60, 0, size, 0)[:length])
    whole = method + content + _frame(body[0], body[1], bytes(body[2]))
    raw = RawDelivery(1, False, b"x", b"k")
    assert raw.take_whole(whole, 0, len(method)) == (len(whole) - 1 if taken else 0)
    assert (raw.size, raw.body_parts) == ((2, [b"\0\0"]) if taken else (0, []))
    for fewer in range(1, min(len(whole) - len(method) + 1, 50)):
        assert RawDelivery(1, False, b"x", b"k").take_whole(whole[:-fewer], 0, len(method)) == 0


@pytest.mark.parametrize("size", [262_144, 262_145])
async def test_a_body_of_bearable_size_is_whole(size: int) -> None:
    """Up to one byte more than the envelope allows, a body is kept whole."""
    body = bytes(n % 251 for n in range(size))
    (raw,), _ = await read([delivered(replace(MESSAGE, body=body), 1)], 3)
    got = raw.delivery("one", 1)
    assert got.body == body
    assert got.malformed is None


async def test_only_the_beginning_of_a_giant_body_is_kept() -> None:
    """Of a body past the limit the beginning is held, the size is told, and the next message arrives whole."""
    giant = bytes(n % 251 for n in range(1_000_000))
    stream = delivered(replace(MESSAGE, body=giant), 1) + delivered(MESSAGE, 2)
    reader = DeliveryReader(asyncio.get_running_loop())
    taken: list[RawDelivery] = []
    reader.receive(3, taken.append)
    deliveries = reader._takers[3]
    assert isinstance(deliveries, _Deliveries)
    held = []
    for at in range(0, len(stream), 65_536):
        reader.feed_data(stream[at : at + 65_536])
        if deliveries.incomplete is not None:
            held.append(sum(map(len, deliveries.incomplete.body_parts)))
    assert max(held) == 262_145
    cut, whole = (raw.delivery("one", raw.tag) for raw in taken)
    assert cut.body == giant[:262_145]
    assert cut.malformed == "the body has 1000000 bytes, more than 262144; only its beginning is kept"
    assert (cut.message_id, cut.headers, cut.app_id) == ("id-1", {"traceparent": "00-1"}, "order")
    assert (whole.body, whole.malformed) == (b"{}", None)


class Heard:
    """What the broker has said, in order."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []

    def confirmed(self, tag: int, multiple: bool, *, good: bool) -> None:
        self.said.append(("confirmed", tag, multiple, good))

    def returned(self, message_id: str) -> None:
        self.said.append(("returned", message_id))


def returned(message: Outgoing) -> bytes:
    """The frames of a message that comes back."""
    content = FrameEncoder(3, 4_096, None).encode(message)
    publish_size = frame.unmarshal(content)[0]
    comes_back = commands.Basic.Return(312, "NO_ROUTE", message.exchange, message.routing_key)
    return frame.marshal(comes_back, 3) + content[publish_size:]


@settings(deadline=None)
@given(cuts=st.lists(st.integers(min_value=1, max_value=6_000), max_size=12), size=st.sampled_from([0, 1, 5_000]))
def test_answers_are_read_however_they_are_cut(cuts: list[int], size: int) -> None:
    """Confirmations and returned messages are told in the order in which they came, the rest is passed on."""
    rest = frame.marshal(commands.Channel.CloseOk(), 3)
    stream = (
        frame.marshal(commands.Basic.Ack(1, False), 3)
        + returned(replace(MESSAGE, body=bytes(size)))
        + frame.marshal(commands.Basic.Ack(7, True), 3)
        + rest
        + frame.marshal(commands.Basic.Nack(8, False, True), 3)
        + frame.marshal(commands.Basic.Nack(10, True, True), 3)
    )
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]

    async def hear() -> tuple[Heard, bytes]:
        reader, heard = DeliveryReader(asyncio.get_running_loop()), Heard()
        reader.answer(3, heard)
        for a, b in pairwise(edges):
            reader.feed_data(stream[a:b])
        reader.feed_eof()
        return heard, await reader.read()

    heard, passed_on = asyncio.run(hear())
    assert heard.said == [
        ("confirmed", 1, False, True),
        ("returned", "id-1"),
        ("confirmed", 7, True, True),
        ("confirmed", 8, False, False),
        ("confirmed", 10, True, False),
    ]
    assert passed_on.replace(HEARTBEAT, b"") == rest


async def test_channels_are_told_apart() -> None:
    """Frames of two channels may alternate, and what a channel without a receiver gets is passed on."""
    ours, theirs = delivered(MESSAGE, 1), delivered(replace(MESSAGE, body=b"[]"), 2, channel=4)
    split = frame.unmarshal(ours)[0]
    taken, passed_on = await read([ours[:split] + theirs + ours[split:]], 3)
    assert [(raw.tag, raw.body_parts) for raw in taken] == [(1, [b"{}"])]
    assert passed_on == theirs


async def test_a_channel_that_the_broker_closes_is_known_at_once() -> None:
    """A frame that follows our agreement would cost the whole connection; a new channel of that number is open."""
    reader, closing = DeliveryReader(asyncio.get_running_loop()), commands.Channel.Close(406, "in use", 60, 80)
    reader.receive(3, lambda _: None)
    reader.answer(4, Heard())
    for half in (slice(None, 9), slice(9, None)):
        assert not reader.is_closed(3)
        reader.feed_data(frame.marshal(closing, 3)[half])
    assert reader.is_closed(3)
    assert not reader.is_closed(4)
    reader.receive(3, lambda _: None)
    assert not reader.is_closed(3)


async def test_deliveries_keep_the_connection_alive() -> None:
    """A heartbeat stands where aiormq would otherwise read nothing and take the connection for dead."""
    _, passed_on = await read([delivered(MESSAGE, 1), delivered(MESSAGE, 2)], 3)
    assert passed_on == HEARTBEAT


async def test_something_that_does_not_speak_amqp() -> None:
    """An answer that is no AMQP frame is passed on, for aiormq to complain of."""
    answer = b"HTTP/1.1 400 Bad Request\r\n"
    assert await read([answer]) == ([], answer)


def decoded(properties: bytes) -> Delivery:
    """A delivery with these properties."""
    return RawDelivery(7, False, b"amends.events", b"order.x", properties, [b"body"]).delivery("one", 7)


def short(text: bytes) -> bytes:
    """A short string."""
    return bytes([len(text)]) + text


def test_every_property_is_read() -> None:
    """All fourteen properties are stepped over or read, each in its place."""
    everything = commands.Basic.Properties(
        content_type="application/json",
        content_encoding="utf-8",
        headers={"a": 1, "b": [True, "x"], "c": {"d": None}},
        delivery_mode=2,
        priority=5,
        correlation_id="saga-1",
        reply_to="back",
        expiration="1000",
        message_id="id-1",
        timestamp=datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC),
        message_type="order.created",
        user_id="alice",
        app_id="order",
    )
    got = decoded(everything.marshal())
    assert (got.content_type, got.correlation_id, got.message_id) == ("application/json", "saga-1", "id-1")
    assert (got.type, got.user_id, got.app_id) == ("order.created", "alice", "order")
    assert got.timestamp == datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
    assert got.headers == {"a": 1, "b": [True, "x"], "c": {"d": None}}
    assert got.malformed is None


def test_a_timestamp_in_milliseconds() -> None:
    """A client that counts milliseconds is understood."""
    assert decoded(struct.pack(">HQ", 0x0040, 1_772_368_215_000)).timestamp == datetime(
        2026, 3, 1, 12, 30, 15, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        (struct.pack(">H", 0x8080) + short(b"\xff\xfe") + short(b"id"), "property content_type cannot be read"),
        (struct.pack(">H", 0x0480) + short(b"\xc3") + short(b"id"), "property correlation_id cannot be read"),
        (struct.pack(">H", 0x00C0) + short(b"id") + struct.pack(">Q", 2**62), "property timestamp cannot be read"),
        (
            struct.pack(">HI", 0x2080, MAX_HEADERS + 6) + bytes(MAX_HEADERS + 6) + short(b"id"),
            f"property headers cannot be read ({MAX_HEADERS + 10} bytes, more than {MAX_HEADERS})",
        ),
        (struct.pack(">HI", 0x2080, 2) + b"\x01\xff" + short(b"id"), "property headers cannot be read"),
        (struct.pack(">HI", 0x2080, 3) + b"\x01a?" + short(b"id"), "property headers cannot be read"),
    ],
)
def test_one_property_that_cannot_be_read(properties: bytes, says: str) -> None:
    """The property is named, and everything else of the message is saved."""
    got = decoded(properties)
    assert got.malformed is not None
    assert says in got.malformed
    assert (got.message_id, got.body, got.routing_key) == ("id", b"body", "order.x")


def test_headers_nested_too_deeply() -> None:
    """Headers nested beyond reason are left out; the message is saved."""
    table = b""
    for _ in range(2_000):
        table = b"\x01nF" + struct.pack(">I", len(table)) + table
    got = decoded(struct.pack(">HI", 0x2080, len(table)) + table + short(b"id"))
    assert got.malformed == "property headers cannot be read (nested too deeply)"
    assert (got.message_id, got.headers) == ("id", {})


def test_flags_that_amqp_does_not_know() -> None:
    """More than one word of property flags is named, and the body is saved."""
    got = decoded(struct.pack(">HH", 0x0001, 0x8000) + short(b"x"))
    assert got.malformed == "the properties have flags that AMQP does not know"
    assert got.body == b"body"


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_properties_can_raise(properties: bytes) -> None:
    """Whatever the bytes are, a delivery comes out, and its body with it."""
    assert decoded(properties).body == b"body"


async def test_a_connection_that_fills_again_and_again_keeps_itself_alive_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it was full and had room again, one timer says that it lives, while it is full."""
    monkeypatch.setattr(rabbitmq_decoding, "_HEARTBEAT_SECONDS", 0.05)
    reader = DeliveryReader(asyncio.get_running_loop())
    reader.hold(rabbitmq_decoding.MOST_HELD + 1)
    for _ in range(50):
        reader.release(rabbitmq_decoding.MOST_HELD)
        reader.hold(rabbitmq_decoding.MOST_HELD)
    said = len(await reader.readexactly(51 * 8))

    await asyncio.sleep(0.07)
    reader.release(rabbitmq_decoding.MOST_HELD)
    reader.feed_eof()
    assert said == 51 * 8
    assert len(await reader.read()) == 8
