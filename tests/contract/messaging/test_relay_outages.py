"""The relay while the broker is away: rows lose no time by it, and nobody waits for a lease that serves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import claims, schema
from messaging.appending import append
from messaging.bus import Outgoing, Receipt
from messaging.database import Database
from messaging.outbox_rows import Pending
from messaging.relay import MOST_HELD, Relay
from tests.contract.messaging.bench import Bench, ScriptedBus, numbers, row, until


class LeavingBus(ScriptedBus):
    """A broker that can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False

    @property
    def connected(self) -> bool:
        return not self.away


async def test_rows_wait_untouched_while_the_broker_is_away(bench: Bench) -> None:
    """However long the broker is away, what lies in the outbox leaves with the first sweep after it is back."""
    bus = LeavingBus()
    relay = Relay(bench.database, bus, bench.clock)
    await bench.commit_rows([row(1, "a"), row(2, "b")])
    bus.away = True
    for _ in range(3):
        assert await relay.sweep() == 0
        bench.clock.advance(60)
    assert [(each.attempts, each.last_error) for each in await bench.rows(schema.outbox)] == [(0, None), (0, None)]

    bus.away = False

    assert await relay.sweep() == 2
    assert numbers(bus.published) == [1, 2]


async def test_what_a_lost_connection_cut_off_is_not_put_off(bench: Bench) -> None:
    """A row that was on the wire when the connection broke is sent again as soon as there is another one."""
    bus = LeavingBus()
    relay = Relay(bench.database, bus, bench.clock)
    await bench.commit_rows([row(1)])

    def cut_off(_message: Outgoing) -> Receipt:
        bus.away = True
        return Receipt.UNKNOWN

    bus.says = cut_off
    assert await relay.sweep() == 1
    bus.away, bus.says = False, lambda _message: Receipt.CONFIRMED

    assert await relay.sweep() == 1
    assert numbers(bus.published) == [1, 1]


async def test_a_row_behind_one_that_is_on_its_way_follows_at_once(bench: Bench) -> None:
    """A sweep that finds a row's predecessor on the wire gives the row back, so that the next sweep can send it."""
    async with bench.database.transaction() as connection:
        first = await append(connection, [row(1, "a")], grace=timedelta(seconds=10), on_their_way=set(), done=set())
    bench.relay.offer(first)
    bench.bus.gate = asyncio.Event()
    flushing = asyncio.create_task(bench.flush())
    await until(lambda: len(bench.bus.published) == 1, "the first is on the wire")
    await bench.commit_rows([row(2, "a")], available_in=10)
    bench.clock.advance(10)
    await bench.relay.sweep()
    assert numbers(bench.bus.published) == [1]

    bench.bus.gate.set()
    await flushing

    assert await bench.relay.sweep() == 1
    assert numbers(bench.bus.published) == [1, 2]


async def test_a_key_keeps_its_order_through_an_outage_longer_than_memory(sqlite_bench: Bench) -> None:
    """However many rows have failed since, one behind an unconfirmed row of its key is left to the sweeper."""
    bench = sqlite_bench
    many = MOST_HELD + 1_000
    bench.bus.says = lambda message: Receipt.CONFIRMED if numbers([message])[0] > many else Receipt.UNKNOWN
    bench.relay.offer([Pending(1, row(1, "a"), checked=True)])
    for start in range(2, many + 1, 1_000):
        stop = min(start + 1_000, many + 1)
        bench.relay.offer([Pending(number, row(number), checked=True) for number in range(start, stop)])
        await bench.relay._publish_offered()
    bench.relay.offer([Pending(many + 1, row(many + 1, "a"), frozenset({1}), checked=True)])
    bench.relay.offer([Pending(many + 2, row(many + 2, "b"), checked=True)])
    bench.relay.offer([Pending(many + 3, row(many + 3, "b"), frozenset({many + 2}), checked=True)])
    await bench.relay._publish_offered()

    assert bench.relay.confirmed == {many + 2, many + 3}
    assert len(bench.relay._departures._failed) <= MOST_HELD


class LeavingDatabase(Database):
    """A database of which the transaction with a certain number fails, as if it had gone away."""

    def __init__(self, url: URL, fails: int) -> None:
        super().__init__(url)
        self._left = fails

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        self._left -= 1
        if self._left == 0:
            raise OSError("the database has gone away")
        async with super().transaction() as connection:
            yield connection


async def test_a_claim_whose_predecessor_could_not_be_given_back_is_sent_later(bench: Bench) -> None:
    """Rows claimed while broker and database went away are claimed again once their lease has run out."""
    # The third transaction: two claim, it gives back what the first could not send.
    database = LeavingDatabase(bench.database.url, fails=3)
    bus = ScriptedBus()
    bus.says = lambda _message: Receipt.UNKNOWN
    bus.gate = asyncio.Event()
    relay = Relay(database, bus, bench.clock)
    many = claims.CLAIM + 2
    try:
        await bench.commit_rows([row(number, f"k{number}") for number in range(1, many + 1)])
        sweeping = asyncio.create_task(relay._sweeper.sweep_all())
        await until(lambda: len(relay.on_their_way) == many, "the second claim was made while the first is on its way")
        bus.gate.set()
        with pytest.raises(OSError, match="gone away"):
            await sweeping

        bus.says = lambda _message: Receipt.CONFIRMED
        bus.published.clear()
        bench.clock.advance(claims.LEASE.total_seconds())
        while await relay.sweep():
            pass

        assert sorted(numbers(bus.published)) == list(range(1, many + 1))
        assert relay.on_their_way == set()
    finally:
        await database.close()


async def test_what_was_claimed_behind_an_offered_row_is_anybodys_soon(bench: Bench) -> None:
    """Rows that a sweep claims and does not send are free when it next forgets what is over, not at its lease's end."""
    await bench.commit_rows([row(1, "a"), row(2, "a"), row(3, "b")])
    bench.relay.on_their_way.add(1)
    assert await bench.relay.sweep() == 1
    assert numbers(bench.bus.published) == [3]
    bus = ScriptedBus()
    other = Relay(bench.database, bus, bench.clock)
    assert await other.sweep() == 0

    await bench.relay.forget_confirmed()

    assert await other.sweep() == 2
    assert numbers(bus.published) == [1, 2]
