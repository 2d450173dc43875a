"""Peers that say nothing, read nothing or take nothing: half-open connections, alarms, readers that stop."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from pamqp import commands, frame

from messaging.bus import Delivery, Receipt
from messaging.rabbitmq_link import BrokerConnection
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


async def test_a_silent_peer_is_given_up(bench: RabbitBench, proxy: Proxy) -> None:
    """On a half-open connection a publish ends at its time limit, and a new connection is made."""
    bus = await bench.connect(url=proxy.url, publish_timeout=timedelta(seconds=0.5))
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    accepted = proxy.accepted
    proxy.blackhole()
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await bus.publish([message(bench, "order.x") for _ in range(3)]) == [UNKNOWN] * 3
    # Sooner than by a heartbeat that is missed.
    assert 0.4 < loop.time() - started < PATIENCE
    await until(lambda: proxy.accepted > accepted, "a new connection")
    proxy.let_through()
    await publish_until_confirmed(bus, bench, b"after")


async def test_a_silent_peer_is_noticed_without_publishing(
    bench: RabbitBench, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer whose broker has fallen silent connects again after two heartbeats."""
    # Left to itself, aiormq would notice, too, after three of them and three seconds.
    monkeypatch.setattr("aiormq.connection.Connection.HEARTBEAT_GRACE_MULTIPLIER", 1_000)
    bus = await bench.connect(url=proxy.url, heartbeat=1)
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    accepted = proxy.accepted
    proxy.blackhole()
    await until(lambda: proxy.accepted >= accepted + 2, "both connections to be tried again")
    proxy.let_through()
    await until(lambda: bus.connected and reader.subscription.attached, "the bus to come back")
    await publish_until_confirmed(bus, bench, b"after")
    assert bodies(await reader.take(1)) == [b"after"]


def unsent(connection: BrokerConnection) -> int:
    """Bytes that wait for the peer to read."""
    writer = connection._socket._writer
    assert writer is not None
    return writer.transport.get_write_buffer_size()


async def test_a_peer_that_half_closes_and_does_not_read(bench: RabbitBench, proxy: Proxy) -> None:
    """A peer that says good-bye and reads no more does not keep the connection: it is made anew at once."""
    # Longer than the test has patience, so that no publish that times out saves the day.
    bus = await bench.connect(url=proxy.url, publish_timeout=timedelta(seconds=60))
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    reader = await read(bus, one)
    accepted = proxy.accepted
    proxy.stop_reading()
    sending = publishing(bus, [message(bench, "order.x", b"x" * 200_000) for _ in range(60)])
    connection = bus._publishing.connection
    assert connection is not None
    await until(lambda: unsent(connection) > 0, "more to be sent than the network holds")
    proxy.blackhole()
    proxy.half_close()
    # Sooner than one connection alone could try twice.
    async with asyncio.timeout(PATIENCE - 1):
        await until(lambda: proxy.accepted >= accepted + 2, "both connections to be made anew")
    proxy.let_through()
    assert await sending == [UNKNOWN] * 60
    await until(lambda: bus.connected and reader.subscription.attached, "the bus to come back")
    await publish_until_confirmed(bus, bench, b"after")


async def test_a_blocked_connection_is_not_written_to(bench: RabbitBench, proxy: Proxy) -> None:
    """Under an alarm a publish is UNKNOWN at once, the connection is kept, and all goes on when the alarm
    ends.
    """
    bus = await bench.connect(url=proxy.url, publish_timeout=LATE)
    await bus.declare(topology(bench, queue(bench, "one", "#")))
    assert await bus.publish([message(bench, "order.x")]) == [CONFIRMED]
    accepted = proxy.accepted
    proxy.tell_clients(frame.marshal(commands.Connection.Blocked(reason="low on memory"), 0))
    await until(lambda: not bus.connected, "the bus to hear of the alarm")
    async with asyncio.timeout(PATIENCE):
        assert await bus.publish([message(bench, "order.x")] * 2) == [UNKNOWN] * 2
    proxy.tell_clients(frame.marshal(commands.Connection.Unblocked(), 0))
    await until(lambda: bus.connected, "the bus to hear of the end of the alarm")
    assert await bus.publish([message(bench, "order.x")]) == [CONFIRMED]
    assert proxy.accepted == accepted


async def test_a_reader_that_stops_does_not_lose_the_connection(bench: RabbitBench) -> None:
    """Five thousand deliveries that nobody settles leave the bus connected and publishing."""
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    seen: list[Delivery] = []
    subscription = await bus.subscribe(one.name, prefetch=5_000, deliver=seen.append)
    for _ in range(5):
        assert await bus.publish([message(bench, "order.x") for _ in range(1_000)]) == [CONFIRMED] * 1_000
    await until(lambda: len(seen) == 5_000, "all deliveries")
    await subscription.ack(seen[::-1])
    assert await bus.publish([message(bench, "order.x", b"end")]) == [CONFIRMED]
    await until(lambda: seen[-1].body == b"end", "one more delivery")
