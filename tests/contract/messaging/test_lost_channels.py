"""Deliveries of channels that are gone: they come again, so a worker whose database is away need not keep them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from messaging import schema
from messaging.bus import Delivery
from messaging.worker import PREFETCH_BATCHES
from tests.contract.messaging.away import Away
from tests.contract.messaging.bench import Bench
from tests.contract.messaging.parcels import Pack, done, packer

BATCH = 4
PREFETCH = BATCH * PREFETCH_BATCHES


def _reconnected(bench: Bench, deliveries: list[Delivery]) -> list[Delivery]:
    """The channel is lost, and the broker hands the same messages out on the next one."""
    bench.bus.lost.update(each.tag for each in deliveries)
    again = [replace(each, tag=bench.bus.tag(), redelivered=True) for each in deliveries]
    bench.bus.hand_over(again)
    return again


async def test_reconnecting_while_the_database_is_away_fills_no_memory(bench: Bench) -> None:
    """After fifty lost channels the worker holds no more than two prefetches, and each message is handled once."""
    worker = await bench.serve(packer(), batch_size=BATCH)
    away = Away(bench)
    deliveries = [bench.delivery(Pack(parcel=f"p{number}"), id=UUID(int=1000 + number)) for number in range(PREFETCH)]
    bench.bus.hand_over(deliveries)
    await bench.until(lambda: worker.waiting_for is not None, "the worker waits for the database")
    held = []
    for _ in range(50):
        deliveries = _reconnected(bench, deliveries)
        held.append(len(worker._hand))
    assert max(held) <= 2 * PREFETCH
    away.away = False
    await bench.pass_time(_all_settled(bench, deliveries), "the last channel's deliveries are acknowledged")
    assert sorted(await done(bench.database)) == sorted((f"p{number}", "packed") for number in range(PREFETCH))
    assert await bench.letters() == []


async def test_what_a_living_channel_delivered_is_never_dropped(bench: Bench) -> None:
    """However much is handed over while the database is away, all of it is handled as long as its channel lives."""
    worker = await bench.serve(packer(), batch_size=BATCH)
    away = Away(bench)
    deliveries = [bench.delivery(Pack(parcel=f"p{number}")) for number in range(10 * PREFETCH)]
    bench.bus.hand_over(deliveries[:1])
    await bench.until(lambda: worker.waiting_for is not None, "the worker waits for the database")
    bench.bus.hand_over(deliveries[1:])
    away.away = False
    await bench.pass_time(_all_settled(bench, deliveries), "all are acknowledged")
    assert len(await bench.rows(schema.inbox)) == 10 * PREFETCH


def _all_settled(bench: Bench, deliveries: list[Delivery]) -> Callable[[], bool]:
    tags = {each.tag for each in deliveries}
    return lambda: tags <= set(bench.bus.settled)
