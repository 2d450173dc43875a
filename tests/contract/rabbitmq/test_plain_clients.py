"""Other clients of the same broker: they read what we write, we read what they write, and dead letters are kept."""

from __future__ import annotations

from dataclasses import replace

import aio_pika
from pamqp.common import FieldTable
from yarl import URL

from messaging.bus import Receipt
from tests.contract.buses import (
    PATIENCE,
    RabbitBench,
    dead_queue,
    message,
    queue,
    read,
    topology,
)


async def test_a_plain_amqp_message_arrives_with_its_properties(bench: RabbitBench) -> None:
    """What any AMQP client sends arrives with its properties, whatever their types."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(bench.events)
        await exchange.publish(
            aio_pika.Message(
                b"hello", message_id="plain", type="order.created", headers={"number": 7, "list": ["a", 1]}
            ),
            "order.created",
        )
        await exchange.publish(aio_pika.Message(b"bare"), "order.created")
    first, second = await (await read(bus, one)).take(2)
    assert (first.body, first.message_id, first.type) == (b"hello", "plain", "order.created")
    assert first.headers == {"number": 7, "list": ["a", 1]}
    assert (first.content_type, first.correlation_id, first.timestamp, first.user_id) == (None,) * 4
    assert (second.body, second.type, second.headers) == (b"bare", None, {})


async def test_messages_name_their_sender(bench: RabbitBench) -> None:
    """The user id on a message is the user who is logged in; RabbitMQ vouches for it."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    await bus.publish([message(bench, "order.x")])
    (got,) = await reader.take(1)
    assert got.user_id == URL(bench.url).user


async def test_a_plain_client_reads_what_we_write(bench: RabbitBench) -> None:
    """Any AMQP client finds the native properties on our messages, persistence included."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    await bus.publish([message(bench, "order.x", b"ours", message_id="id-9")])
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        got = await (await channel.get_queue(one.name)).get(timeout=PATIENCE)
        await got.ack()
    assert (got.body, got.message_id, got.type, got.app_id) == (b"ours", "id-9", "order.x", "tester")
    assert got.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert got.timestamp is not None
    assert got.timestamp.isoformat() == "2026-03-01T12:30:15+00:00"


async def test_dead_letters_are_never_lost_on_the_way(bench: RabbitBench) -> None:
    """Queues are declared with at-least-once dead-lettering: asking for anything less is a mismatch."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    arguments: FieldTable = {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": bench.dead_letters,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(one.name, durable=True, arguments=arguments)
        ring: FieldTable = {
            "x-queue-type": "quorum",
            "x-max-length": 10_000,
            "x-max-length-bytes": 67_108_864,
            "x-overflow": "drop-head",
        }
        await channel.declare_queue(dead_queue(bench).name, durable=True, arguments=ring)


async def test_a_queue_that_nobody_empties_keeps_the_newest(bench: RabbitBench) -> None:
    """Everything that is published to a full ring is confirmed, and the oldest makes room."""
    bus = await bench.connect()
    await bus.declare(topology(bench))
    for start in range(0, 10_500, 500):
        letters = [
            replace(message(bench, "payment.handler_failed", b"%d" % number), exchange=bench.dead_letters)
            for number in range(start, start + 500)
        ]
        assert await bus.publish(letters) == [Receipt.CONFIRMED] * 500
    async with await aio_pika.connect(bench.url) as connection:
        ring = await (await connection.channel()).declare_queue(dead_queue(bench).name, passive=True)
        first = await ring.get(timeout=PATIENCE)
        await first.ack()

    assert (ring.declaration_result.message_count, first.body) == (10_000, b"500")
