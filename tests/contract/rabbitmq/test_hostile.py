"""Properties and routing keys that a hostile client may send: they arrive, marked, and harm no neighbor."""

from __future__ import annotations

import struct

import aio_pika
import pytest
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel

from tests.contract.buses import (
    RabbitBench,
    queue,
    read,
    topology,
)
from tests.contract.rabbitmq.sending import publish_until_confirmed


async def publish_raw(bench: RabbitBench, properties: bytes, body: bytes, routing_key: bytes = b"order.x") -> None:
    """Publish a message whose properties are these very bytes."""
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        underlying = await channel.get_underlay_channel()
        exchange = bench.events.encode()
        method = struct.pack(">HHH", 60, 40, 0) + bytes([len(exchange)]) + exchange
        method += bytes([len(routing_key)]) + routing_key + b"\x00"
        header = struct.pack(">HHQ", 60, 0, len(body)) + properties
        payload = b"".join(
            struct.pack(">BHI", kind, underlying.number, len(part)) + part + b"\xce"
            for kind, part in ((1, method), (2, header), (3, body))
        )
        assert isinstance(underlying, Channel)
        await underlying.write_queue.put(ChannelFrame(payload, should_close=False))
        # A conversation, so the broker has the message when it ends.
        await channel.declare_queue(f"{bench.prefix}.one", passive=True)


def table(entries: bytes) -> bytes:
    """A field table of encoded entries."""
    return struct.pack(">I", len(entries)) + entries


def nested(depth: int) -> bytes:
    """Headers that hold headers that hold headers."""
    entries = b""
    for _ in range(depth):
        entries = b"\x01nF" + table(entries)
    return entries


HOSTILE = {
    "content type that is no UTF-8": (struct.pack(">H", 0x8080) + b"\x02\xff\xfe" + b"\x02id", "content_type"),
    "header key that is no UTF-8": (
        struct.pack(">H", 0x2080) + table(b"\x02\xff\xfeS\x00\x00\x00\x01x") + b"\x02id",
        "headers",
    ),
    "timestamp far away": (struct.pack(">H", 0x00C0) + b"\x02id" + struct.pack(">Q", 2**62), "timestamp"),
    "headers nested deeply": (struct.pack(">H", 0x2080) + table(nested(2_000)) + b"\x02id", "headers"),
    "a frame full of tiny headers": (
        struct.pack(">H", 0x2080) + table(b"".join(b"\x03%03xV" % n for n in range(4_096))) + b"\x02id",
        "headers",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_properties_arrive_malformed(bench: RabbitBench, name: str) -> None:
    """Properties that cannot be read are named, the rest is saved, and the neighbors arrive as if nothing
    was.
    """
    properties, culprit = HOSTILE[name]
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    await publish_until_confirmed(bus, bench, b"first")
    await publish_raw(bench, properties, b"hostile body")
    await publish_until_confirmed(bus, bench, b"last")
    reader = await read(bus, one)
    first, hostile, last = await reader.take(3)
    assert (first.body, first.malformed, last.body, last.malformed) == (b"first", None, b"last", None)
    assert not any(each.redelivered for each in (first, hostile, last))
    assert hostile.body == b"hostile body"
    assert hostile.message_id == "id"
    assert hostile.malformed is not None
    assert culprit in hostile.malformed


async def test_a_routing_key_that_is_no_text_arrives_malformed(bench: RabbitBench) -> None:
    """A routing key that is no UTF-8 is shown escaped, and the neighbors arrive as if nothing was."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    await publish_raw(bench, struct.pack(">H", 0), b"hostile", routing_key=b"order.\xff")
    await publish_until_confirmed(bus, bench, b"last")
    hostile, last = await (await read(bus, one)).take(2)
    assert (hostile.body, hostile.routing_key, hostile.exchange) == (b"hostile", "order.\\xff", bench.events)
    assert hostile.malformed == "the routing key b'order.\\xff' is no UTF-8"
    assert (last.body, last.malformed) == (b"last", None)


async def test_carbon_copies_can_be_seen(bench: RabbitBench) -> None:
    """A CC header, which gets around topic permissions on old brokers, is among the delivery's headers."""
    bus = await bench.connect()
    one = queue(bench, "one", "payment.#")
    await bus.declare(topology(bench, one))
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(bench.events)
        await exchange.publish(aio_pika.Message(b"cc", headers={"CC": ["payment.x"]}), "order.x")
    (got,) = await (await read(bus, one)).take(1)
    assert (got.body, got.headers["CC"]) == (b"cc", ["payment.x"])
