"""Connections that are lost, fall silent or come back to a broker that has forgotten everything."""

from __future__ import annotations

import asyncio

import aio_pika
import pytest
from structlog.testing import capture_logs

from messaging.bus import BusUnavailable, Receipt
from tests.contract.buses import (
    LATE,
    PATIENCE,
    RabbitBench,
    bodies,
    message,
    publishing,
    queue,
    read,
    topology,
    until,
)
from tests.contract.proxy import Proxy
from tests.contract.rabbitmq.sending import publish_until_confirmed

CONFIRMED, UNKNOWN = Receipt.CONFIRMED, Receipt.UNKNOWN


async def test_everything_comes_back_after_a_lost_connection(bench: RabbitBench, proxy: Proxy) -> None:
    """After a reset, publishing and consuming go on by themselves, and what was unsettled is delivered
    again.
    """
    bus = await bench.connect(url=proxy.url)
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one, ack=False)
    assert await bus.publish([message(bench, "order.x", b"before")]) == [CONFIRMED]
    (before,) = await reader.take(1)
    proxy.reset()
    await until(lambda: not bus.connected, "the bus to notice the reset")
    assert await bus.publish([message(bench, "order.x", b"meanwhile")]) in ([UNKNOWN], [CONFIRMED])
    await until(lambda: bus.connected and reader.subscription.attached, "the bus to come back")
    await reader.subscription.ack([before])
    (again,) = await reader.take(1)
    assert (again.body, again.redelivered) == (b"before", True)
    await reader.subscription.ack([again])
    await publish_until_confirmed(bus, bench, b"after")
    await until(lambda: b"after" in bodies(reader.seen), "the message sent after the reset")


async def test_an_acknowledgment_of_a_lost_channel_settles_nothing(bench: RabbitBench, proxy: Proxy) -> None:
    """Acknowledging what came over a lost connection does not settle what has the same tag on the new one."""
    bus, witness = await bench.connect(url=proxy.url), await bench.connect("witness")
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one, ack=False)
    assert await witness.publish([message(bench, "order.x", b"twice")]) == [CONFIRMED]
    stale = await reader.take(1)
    assert reader.subscription.holds(stale[0])
    proxy.reset()
    fresh = await reader.take(1)
    assert bodies(fresh) == [b"twice"]
    assert [reader.subscription.holds(each) for each in (*stale, *fresh)] == [False, True]
    await reader.subscription.ack(stale)
    await reader.subscription.reject(stale, requeue=False)
    await bus.close()
    (again,) = await (await read(witness, one)).take(1)
    assert (again.body, again.redelivered) == (b"twice", True)


async def test_publish_does_not_wait_for_a_broker_that_is_away(bench: RabbitBench, proxy: Proxy) -> None:
    """While the broker is away a publish is UNKNOWN at once, and the bus says that it is not connected."""
    bus = await bench.connect(url=proxy.url, publish_timeout=LATE)
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    await proxy.refuse()
    await until(lambda: not bus.connected, "the bus to notice")
    async with asyncio.timeout(PATIENCE):
        assert await bus.publish([message(bench, "order.x")] * 3) == [UNKNOWN] * 3
    with pytest.raises(BusUnavailable):
        await bus.declare(topology(bench))
    await proxy.listen()
    await publish_until_confirmed(bus, bench, b"back")
    await until(lambda: bus.connected, "both connections")


async def test_messages_in_flight_when_the_connection_breaks_are_unknown(bench: RabbitBench, proxy: Proxy) -> None:
    """A publish that waits for its confirms returns as soon as the connection is cut."""
    bus = await bench.connect(url=proxy.url, publish_timeout=LATE)
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    proxy.blackhole()
    under_way = publishing(bus, [message(bench, "order.x") for _ in range(700)])
    await asyncio.sleep(0)
    proxy.reset()
    proxy.let_through()
    async with asyncio.timeout(PATIENCE):
        assert await under_way == [UNKNOWN] * 700


async def test_a_broker_that_comes_back_empty_gets_its_topology_again(bench: RabbitBench, proxy: Proxy) -> None:
    """Exchanges, queues and consumers that were lost with the connection are made again."""
    bus = await bench.connect(url=proxy.url)
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    await proxy.refuse()
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(one.name)
        await channel.exchange_delete(bench.events)
    await proxy.listen()
    await until(lambda: bus.connected and reader.subscription.attached, "the bus to come back")
    await publish_until_confirmed(bus, bench, b"after")
    assert bodies(await reader.take(1)) == [b"after"]


async def test_a_service_that_only_publishes_declares_again_too(bench: RabbitBench, proxy: Proxy) -> None:
    """The topology comes back to an empty broker even if nobody consumes."""
    bus = await bench.connect(url=proxy.url)
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    await proxy.refuse()
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        await channel.exchange_delete(bench.events)
    await proxy.listen()
    await publish_until_confirmed(bus, bench, b"after")


async def test_a_deleted_queue_is_made_and_consumed_again(bench: RabbitBench) -> None:
    """A queue deleted under its consumer is declared again, and the consumer reads on."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    async with await aio_pika.connect(bench.url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(one.name)
    await publish_until_confirmed(bus, bench, b"after")
    assert bodies(await reader.take(1)) == [b"after"]
    assert bus.connected


async def test_a_conversation_that_is_broken_off_costs_its_channel_and_no_other(bench: RabbitBench) -> None:
    """What is acknowledged while the channel is being closed for that is not written: the connection stays."""
    one, two = queue(bench, "one", "one"), queue(bench, "two", "two")
    bus = await bench.connect()
    await bus.declare(topology(bench, one, two))
    reader, other = await read(bus, one, ack=False), await read(bus, two, ack=False)
    await bus.publish([message(bench, "one") for _ in range(100)] + [message(bench, "two")])
    taken, (beside,) = await reader.take(100), await other.take(1)

    with capture_logs() as logs:
        leaving = asyncio.create_task(reader.subscription.step_back())
        for _ in range(6):  # the broker has been asked, and both of its answers cannot have been read yet
            await asyncio.sleep(0)
        leaving.cancel()
        for each in taken:
            await asyncio.sleep(0.0005)
            await reader.subscription.ack([each])
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert len(await reader.take(1)) == 1
    assert "broker_connection_lost" not in {each["event"] for each in logs}
    assert other.subscription.holds(beside)
