"""Large bodies: what nobody has settled yet does not fill the memory, whatever the prefetch."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from messaging import rabbitmq_decoding
from messaging.bus import Delivery
from messaging.rabbitmq_consuming import RabbitSubscription
from tests.contract.buses import RabbitBench, message, queue, topology, until

BODY = bytes(100_000)
BOUND = 1_000_000


def _more_than(taken: list[Delivery], count: int) -> bool:
    return len(taken) > count


async def test_unsettled_bytes_are_bounded_and_cost_neither_messages_nor_the_connection(
    bench: RabbitBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the bound nothing more is taken from the network, for far longer than a silent broker is waited for; with
    every acknowledgment more comes, and each message once.
    """
    monkeypatch.setattr(rabbitmq_decoding, "MOST_HELD", BOUND)
    bus = await bench.connect(heartbeat=1)
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    await bus.publish([message(bench, "order.x", BODY + b"%d" % number) for number in range(60)])
    taken: list[Delivery] = []
    subscription = await bus.subscribe(one.name, prefetch=100, deliver=taken.append)
    connection = bus._consuming.connection
    await until(lambda: len(taken) >= 10, "what the bound allows")
    # Four heartbeats: after two a connection on which nothing is read would be given up.
    await asyncio.sleep(4)
    # What had been read from the network when the bound was reached is delivered too.
    assert len(taken) * len(BODY) <= BOUND + 2**19
    most, settled = 0, 0
    while settled < 60:
        await until(partial(_more_than, taken, settled), "more after an acknowledgment")
        most = max(most, len(taken) - settled)
        await subscription.ack([taken[settled]])
        settled += 1
    assert most * len(BODY) <= BOUND + 2**19
    assert [each.body[len(BODY) :] for each in taken] == [b"%d" % number for number in range(60)]
    assert bus._consuming.connection is connection
    assert not any(each.redelivered for each in taken)


async def test_bytes_of_a_lost_channel_count_no_more(bench: RabbitBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a channel has delivered when it is lost comes again on the next one, for which there is room."""
    monkeypatch.setattr(rabbitmq_decoding, "MOST_HELD", BOUND)
    bus = await bench.connect()
    one = queue(bench, "one", "#")
    await bus.declare(topology(bench, one))
    await bus.publish([message(bench, "order.x", BODY + b"%d" % number) for number in range(30)])
    taken: list[Delivery] = []
    subscription = await bus.subscribe(one.name, prefetch=100, deliver=taken.append)
    assert isinstance(subscription, RabbitSubscription)
    await until(lambda: len(taken) >= 10, "what the bound allows")
    bus._consuming.condemn("for a test")
    await until(lambda: any(each.redelivered for each in taken), "the next connection's deliveries")
    seen: set[bytes] = set()
    while len(seen) < 30:
        await until(lambda: bool(taken), "more after an acknowledgment")
        now, taken[:] = list(taken), []
        seen.update(each.body[len(BODY) :] for each in now)
        await subscription.ack(now)
    assert seen == {b"%d" % number for number in range(30)}
