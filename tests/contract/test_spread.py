"""Spreading messages over queues by their correlation id, in memory and on RabbitMQ."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import aio_pika
import pytest

from messaging import rabbitmq_topology
from messaging.bus import Outgoing, Receipt, TopologyMismatch
from messaging.topology import WEIGHT, Binding, Queue, Spread, Topology
from tests.contract.buses import MemoryBench, RabbitBench, bodies, message, publishing, queue, read, topology, until

NAMES = ("one", "two", "three")


@pytest.fixture(params=["memory", "rabbitmq"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[MemoryBench | RabbitBench]:
    """Each adapter in turn."""
    made: MemoryBench | RabbitBench
    made = MemoryBench() if request.param == "memory" else RabbitBench(request.getfixturevalue("broker_url"))
    yield made
    await made.close()
    if isinstance(made, RabbitBench):
        async with await aio_pika.connect(made.url) as connection, connection.channel() as channel:
            await channel.exchange_delete(_spread(made).name)


def _spread(bench: MemoryBench | RabbitBench) -> Spread:
    return Spread(f"{bench.prefix}.spread", (Binding(bench.events, "order.*"),))


def _behind(bench: MemoryBench | RabbitBench, name: str, *, single_active: bool = False) -> Queue:
    return replace(queue(bench, name), bindings=(Binding(_spread(bench).name, WEIGHT),), single_active=single_active)


def _about(bench: MemoryBench | RabbitBench, correlation_id: str | None, body: bytes = b"{}") -> Outgoing:
    return replace(message(bench, "order.x", body), correlation_id=correlation_id)


def _three(bench: MemoryBench | RabbitBench, *, single_active: bool = False) -> Topology:
    queues = [_behind(bench, name, single_active=single_active) for name in NAMES]
    return replace(topology(bench, *queues), spreads=(_spread(bench),))


async def test_each_message_comes_once_and_all_of_one_correlation_id_to_one_queue(
    bench: MemoryBench | RabbitBench,
) -> None:
    """Three hundred ids fill three queues; what has an id in common comes to one of them, in order."""
    bus = await bench.connect()
    made = _three(bench)
    await bus.declare(made)
    readers = [await read(bus, each, prefetch=1000) for each in made.queues[:3]]

    sent = [_about(bench, f"saga-{number % 300}", f"{number}".encode()) for number in range(900)]
    assert set(await bus.publish(sent)) == {Receipt.CONFIRMED}

    await until(lambda: sum(len(each.seen) for each in readers) == 900, "everything comes")
    assert min(len(each.seen) for each in readers) > 100
    for reader in readers:
        by_id: dict[str | None, list[int]] = {}
        for each in reader.seen:
            by_id.setdefault(each.correlation_id, []).append(int(each.body))
        assert all(numbers == sorted(numbers) and len(numbers) == 3 for numbers in by_id.values())


async def test_what_nothing_is_bound_for_is_unroutable_behind_a_spread_too(bench: MemoryBench | RabbitBench) -> None:
    """Mandatory means a queue, not an exchange behind the exchange."""
    bus = await bench.connect()
    await bus.declare(replace(topology(bench, queue(bench, "one", "payment.*")), spreads=(_spread(bench),)))

    assert await bus.publish([_about(bench, "a"), message(bench, "refund.x")]) == [Receipt.UNROUTABLE] * 2


async def test_one_consumer_is_active_and_the_next_in_line_follows(bench: MemoryBench | RabbitBench) -> None:
    """Of two consumers of a partition the first gets everything, until it is gone; then the second goes on."""
    first, second = await bench.connect(), await bench.connect()
    only = replace(queue(bench, "one", "order.*"), single_active=True)
    await first.declare(topology(bench, only))
    readers = [await read(bus, only) for bus in (first, second)]

    assert await first.publish([_about(bench, None, b"%d" % number) for number in range(4)]) == [Receipt.CONFIRMED] * 4
    assert bodies(await readers[0].take(4)) == [b"0", b"1", b"2", b"3"]
    await readers[0].subscription.cancel()
    assert await first.publish([_about(bench, None, b"4")]) == [Receipt.CONFIRMED]

    assert bodies(await readers[1].take(1)) == [b"4"]
    assert readers[0].untaken() == []


async def test_what_is_retired_is_filled_no_more_and_keeps_what_it_has(bench: MemoryBench | RabbitBench) -> None:
    """From one queue to a spread and back: what lies in the old one is still there, and nothing new comes to it."""
    bus = await bench.connect()
    plain, behind = queue(bench, "one", "order.*"), _behind(bench, "two")
    await bus.declare(topology(bench, plain))
    old = publishing(bus, [_about(bench, "a", b"old")])
    before = await read(bus, plain, ack=False)
    assert bodies(await before.take(1)) == [b"old"]

    await bus.declare(replace(topology(bench, behind), spreads=(_spread(bench),), retired=(plain,)))
    after = await read(bus, behind)
    assert await bus.publish([_about(bench, "b", b"new")]) == [Receipt.CONFIRMED]
    assert bodies(await after.take(1)) == [b"new"]

    await bus.declare(replace(topology(bench, plain), retired=(behind, _spread(bench))))
    newest = publishing(bus, [_about(bench, "c", b"newest")])
    assert bodies(await before.take(1)) == [b"newest"]
    assert after.untaken() == []
    await before.subscription.ack(before.seen)
    assert [*await old, *await newest] == [Receipt.CONFIRMED] * 2


async def test_an_exchange_of_that_name_and_another_kind_is_a_mismatch(broker_url: str) -> None:
    """It is named."""
    bench = RabbitBench(broker_url)
    try:
        bus = await bench.connect()
        await bus.declare(topology(bench))
        with pytest.raises(TopologyMismatch, match=bench.events):
            await bus.declare(replace(topology(bench), spreads=(Spread(bench.events),)))
    finally:
        await bench.close()


async def test_a_broker_without_the_plugin_is_told_apart(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The complaint says how to enable it. What such a broker says of our kind of exchange, ours says of no kind."""
    monkeypatch.setattr(rabbitmq_topology, "CONSISTENT_HASH", "x-nobody-knows")
    bench = RabbitBench(broker_url)
    try:
        bus = await bench.connect()
        with pytest.raises(TopologyMismatch, match="rabbitmq-plugins enable rabbitmq_consistent_hash_exchange"):
            await bus.declare(replace(topology(bench), spreads=(_spread(bench),)))
    finally:
        await bench.close()
