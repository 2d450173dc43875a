"""Several transactions at a time in one worker: what belongs together keeps its order, and nobody waits for others."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.registry import Registry
from messaging import schema
from messaging.appending import append
from messaging.bulk import Writes
from messaging.bus import Delivery
from messaging.consumer import Act, Batch, CannotGoOn
from messaging.database import Database
from messaging.outbox_rows import OutboxRow, Pending
from messaging.received import Received, Tick, Unreadable, read
from messaging.work import Work
from tests.contract.messaging import parcels
from tests.contract.messaging.bench import PATIENCE, Bench, numbers, row, until
from tests.contract.messaging.parcels import Ordered


class Gated:
    """A consumer that stays in a parcel's transaction for as long as the parcel is held."""

    name = "depot"

    def __init__(self) -> None:
        self.registry = Registry([Ordered])
        self.held: dict[str, asyncio.Event] = defaultdict(_open)
        self.raises: dict[str, Exception] = {}
        self.begun: list[list[str]] = []
        self.handled: list[str] = []
        self.failed: list[str] = []

    def hold(self, parcel: str) -> None:
        """Whoever handles it waits."""
        self.held[parcel] = asyncio.Event()

    def read(self, delivery: Delivery) -> Received | Unreadable:
        return read(delivery, self.registry)

    def begin(self, work: Work, messages: Sequence[Received], ticks: Sequence[Tick]) -> Act:
        return self.handle

    async def handle(self, work: Work, batch: Batch) -> None:
        found = [_parcel(each) for each in batch.fresh]
        self.begun.append(found)
        for parcel in found:
            await self.held[parcel].wait()
            if parcel in self.raises:
                raise self.raises[parcel]
        self.handled.extend(found)

    async def fail(self, work: Work, received: Received, error: Exception) -> None:
        self.failed.append(_parcel(received))

    def concerns(self, received: Received) -> Sequence[str]:
        return ()

    async def due(
        self, connection: AsyncConnection, now: datetime, limit: int
    ) -> tuple[Sequence[Tick], datetime | None]:
        return (), None


def _open() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def _turns() -> None:
    """Give the loop more turns than it takes from the broker's callback until a free lane has taken the message."""
    for _ in range(20):
        await asyncio.sleep(0)


def _parcel(received: Received) -> str:
    assert isinstance(received.message, Ordered)
    return received.message.parcel


@pytest.fixture
async def wide(postgres_url: str) -> AsyncIterator[Bench]:
    """A bench on PostgreSQL: SQLite has one lane."""
    database = Database(postgres_url)
    async with database.transaction() as connection:
        await connection.run_sync(schema.metadata.create_all)
        await connection.run_sync(parcels.metadata.create_all)
    bench = Bench(database)
    yield bench
    await bench.close()


def _ordered(bench: Bench, parcel: str, saga: str | None = None) -> Delivery:
    return bench.delivery(Ordered(parcel=parcel), correlation_id=saga or f"saga-{parcel}")


async def test_one_lane_works_while_another_waits(wide: Bench) -> None:
    """What is not of the same key is committed meanwhile; the broker hears of it behind what came first."""
    consumer = Gated()
    consumer.hold("a")
    worker = await wide.serve(consumer, lanes=2)
    first = _ordered(wide, "a")
    wide.bus.hand_over([first])
    await wide.until(lambda: consumer.begun == [["a"]], "the first is being handled")
    again, other = _ordered(wide, "a"), _ordered(wide, "b")
    wide.bus.hand_over([again, other])

    await wide.until(lambda: worker.batches == 1, "the other one is committed")
    assert (consumer.begun, consumer.handled) == ([["a"], ["b"]], ["b"])
    assert wide.bus.settled == []
    consumer.held["a"].set()
    await wide.settled([first, again, other])
    assert consumer.handled == ["b", "a", "a"]
    assert wide.bus.settled == [first.tag, other.tag, again.tag]


async def test_a_batch_that_hangs_keeps_no_acknowledgments_for_long(wide: Bench) -> None:
    """As many as make a batch wait for those before them; the broker delivers only so many without."""
    consumer = Gated()
    consumer.hold("a")
    worker = await wide.serve(consumer, batch_size=2, lanes=2)
    first = _ordered(wide, "a")
    wide.bus.hand_over([first])
    await wide.until(lambda: consumer.begun == [["a"]], "the first is being handled")
    others = [_ordered(wide, each) for each in ("b", "c", "d")]
    for number, each in enumerate(others, 1):
        wide.bus.hand_over([each])
        async with asyncio.timeout(PATIENCE):
            while len(consumer.handled) < number:  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.002)
    await wide.settled(others)
    assert worker.batches == 3
    consumer.held["a"].set()
    await wide.settled([first])


async def test_a_message_that_fails_is_found_while_another_lane_goes_on(wide: Bench) -> None:
    """A batch is taken apart in its lane; what belongs to it stays behind it, whatever the other lane does."""
    consumer = Gated()
    consumer.hold("a")
    consumer.raises["b"] = ValueError("broken")
    await wide.serve(consumer, lanes=2)
    wide.bus.hand_over([_ordered(wide, "a")])
    await wide.until(lambda: consumer.begun == [["a"]], "the first is being handled")
    wide.bus.hand_over([_ordered(wide, each) for each in ("c", "b", "d", "a", "b")])

    await wide.until(lambda: consumer.failed == ["b", "b"], "both have failed alone")
    await wide.until(lambda: sorted(consumer.handled) == ["c", "d"], "their neighbors are handled")
    consumer.held["a"].set()
    await wide.until(lambda: sorted(consumer.handled) == ["a", "a", "c", "d"], "the rest as well")


async def test_a_small_batch_waits_for_company(wide: Bench) -> None:
    """Beside a large batch none begins that is much smaller: it would cost as much and gain nothing."""
    consumer = Gated()
    consumer.hold("a")
    worker = await wide.serve(consumer, lanes=2)
    wide.bus.hand_over([_ordered(wide, each) for each in ("a", "b", "c", "d")])
    await wide.until(lambda: len(consumer.begun) == 1, "four are being handled")
    wide.bus.hand_over([_ordered(wide, "e")])
    await _turns()
    assert (worker._under_way, len(worker._hand)) == (4, 1)
    wide.bus.hand_over([_ordered(wide, "f")])
    await wide.until(lambda: consumer.handled == ["e", "f"], "two are company enough")
    consumer.held["a"].set()
    await wide.until(lambda: len(consumer.handled) == 6, "all are handled")


async def test_sqlite_has_one_lane(sqlite_bench: Bench) -> None:
    """Two transactions would wait for each other there: the second batch is not begun before the first has ended."""
    consumer = Gated()
    consumer.hold("a")
    worker = await sqlite_bench.serve(consumer, lanes=2)
    first, other = _ordered(sqlite_bench, "a"), _ordered(sqlite_bench, "b")
    sqlite_bench.bus.hand_over([first])
    await sqlite_bench.until(lambda: consumer.begun == [["a"]], "the first is being handled")
    sqlite_bench.bus.hand_over([other])
    await _turns()
    assert (worker._under_way, len(worker._hand)) == (1, 1)
    consumer.held["a"].set()
    await sqlite_bench.settled([first, other])


async def test_both_lanes_finish_when_the_worker_stops(wide: Bench) -> None:
    """What was begun is committed and acknowledged, what was not stays on the queue."""
    consumer = Gated()
    consumer.hold("a")
    consumer.hold("b")
    worker = await wide.serve(consumer, lanes=2)
    first, second, third = (_ordered(wide, each) for each in ("a", "b", "a"))
    wide.bus.hand_over([first])
    await wide.until(lambda: len(consumer.begun) == 1, "the first is being handled")
    wide.bus.hand_over([second, third])
    await wide.until(lambda: len(consumer.begun) == 2, "both lanes are at work")
    await worker.stop()
    consumer.held["b"].set()
    consumer.held["a"].set()
    await wide.retire()
    assert sorted(consumer.handled) == ["a", "b"]
    assert sorted(wide.bus.settled) == [first.tag, second.tag]


async def test_a_worker_that_cannot_go_on_ends_after_the_batch_of_its_other_lane(wide: Bench) -> None:
    """What one lane has begun is finished; nothing more is taken."""
    consumer = Gated()
    consumer.hold("a")
    consumer.raises["b"] = CannotGoOn("another shard")
    worker = await wide.serve(consumer, lanes=2)
    first = _ordered(wide, "a")
    wide.bus.hand_over([first])
    await wide.until(lambda: consumer.begun == [["a"]], "the first is being handled")
    wide.bus.hand_over([_ordered(wide, "b"), _ordered(wide, "a")])
    await until(lambda: worker._station.stopping, "the worker has given up")
    consumer.held["a"].set()
    with pytest.raises(CannotGoOn, match="another shard"):
        await wide.retire()
    wide._running.clear()
    assert (consumer.handled, wide.bus.settled) == (["a"], [first.tag])


async def test_a_lane_that_hangs_is_told(wide: Bench) -> None:
    """A process of which one lane does nothing for minutes is not ready, whatever the other one does."""
    consumer = Gated()
    consumer.hold("a")
    worker = await wide.serve(consumer, lanes=2)
    wide.bus.hand_over([_ordered(wide, "a")])
    await wide.until(lambda: consumer.begun == [["a"]], "the first is being handled")
    wide.clock.moment += timedelta(minutes=3)
    wide.bus.hand_over([_ordered(wide, "b")])
    await wide.until(lambda: consumer.handled == ["b"], "the other lane goes on")
    assert not worker.moving
    assert worker.waiting_for is not None
    assert "nothing has come of it since 2026-03-01T12:00:00" in worker.waiting_for
    consumer.held["a"].set()
    await wide.until(lambda: worker.moving, "it moves again")


async def _write(bench: Bench, connection: AsyncConnection, *rows: OutboxRow) -> list[Pending]:
    """Write rows as a lane does, which commits them afterwards."""
    relay = bench.relay
    pending = await append(
        connection, rows, grace=timedelta(seconds=10), on_their_way=relay.on_their_way, done=relay.confirmed
    )
    relay.expect(pending)
    return pending


async def test_what_another_lane_has_committed_and_not_offered_yet_leaves_first(wide: Bench) -> None:
    """A row that follows it is offered before it, waits for it in memory, and so do those behind it; no others."""
    async with wide.database.transaction() as connection:
        first = await _write(wide, connection, row(1, "a"))
    async with wide.database.transaction() as connection:
        second = await _write(wide, connection, row(2, "a"), row(3, "b"))
    async with wide.database.transaction() as connection:
        third = await _write(wide, connection, row(4, "a"))

    wide.relay.offer(third)
    wide.relay.offer(second)
    await wide.relay._publish_offered()
    assert numbers(wide.bus.published) == [3]
    wide.relay.offer(first)
    await wide.relay._publish_offered()
    assert numbers(wide.bus.published) == [3, 1, 2, 4]
    assert wide.relay.confirmed == {each.id for each in (*first, *second, *third)}


async def test_what_follows_rows_whose_commit_is_unknown_is_swept_in_its_order(wide: Bench) -> None:
    """They may be committed all the same, as here: nobody overtakes them, and the sweeper sends all in their order."""
    async with wide.database.transaction() as connection:
        first = await _write(wide, connection, row(1, "a"))
    async with wide.database.transaction() as connection:
        second = await _write(wide, connection, row(2, "a"))
    wide.relay.offer(second)
    wide.relay.withdraw(first)
    await wide.relay.flush()
    assert numbers(wide.bus.published) == []

    wide.clock.advance(11)
    assert await wide.relay.sweep() == 2
    assert numbers(wide.bus.published) == [1, 2]


async def test_two_transactions_delete_no_row_twice(wide: Bench) -> None:
    """What one is deleting the other leaves alone; what a failed one has not deleted the next one does."""
    async with wide.database.transaction() as connection:
        wide.relay.offer(await _write(wide, connection, row(1), row(2)))
    await wide.relay._publish_offered()
    one, two = sorted(wide.relay.confirmed)

    writes = Writes()
    assert wide.relay.delete_with(writes) == {one, two}
    async with wide.database.transaction() as connection:
        wide.relay.offer(await _write(wide, connection, row(3)))
    await wide.relay._publish_offered()
    assert await wide.relay.sweep() == 0
    assert [each.id for each in await wide.rows(schema.outbox)] == [one, two]
    wide.relay.kept({one, two})
    await wide.relay.flush()
    assert await wide.rows(schema.outbox) == []
    assert wide.relay.confirmed == set()
