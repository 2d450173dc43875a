"""A database that answers, but not in time: what is too much at once goes in parts, what is too slow alone waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from contracts.registry import Registry
from messaging import inbox, schema
from messaging.bus import Delivery
from messaging.consumer import Act, Batch
from messaging.database import Database
from messaging.participant import Participant
from messaging.received import Received, Tick, Unreadable, read
from messaging.serving import ParticipantConsumer
from messaging.work import Work
from tests import laying
from tests.contract.messaging import parcels
from tests.contract.messaging.bench import Bench
from tests.contract.messaging.parcels import Ordered, Pack, Packed, Refused, done, note, packer


class _Canceled(Exception):
    """What PostgreSQL says of a statement that took longer than its `statement_timeout`."""

    sqlstate = "57014"


class _Locked(Exception):
    """What it says of one that waited for a lock for longer than its `lock_timeout`."""

    sqlstate = "55P03"


_TOO_LONG: list[Exception] = [
    DBAPIError("INSERT", {}, _Canceled("canceling statement due to statement timeout")),
    DBAPIError("SELECT", {}, _Locked("canceling statement due to lock timeout")),
    TimeoutError(),
]


class _Narrow:
    """A consumer for which the database is quick enough as long as a batch has at most so many messages."""

    name = "depot"

    def __init__(self, most: int, error: Exception) -> None:
        self.registry = Registry([Ordered])
        self.most = most
        self.error = error
        self.sizes: list[int] = []
        self.handled: list[str] = []

    def read(self, delivery: Delivery) -> Received | Unreadable:
        return read(delivery, self.registry)

    def begin(self, work: Work, messages: Sequence[Received], ticks: Sequence[Tick]) -> Act:
        return self.handle

    async def handle(self, work: Work, batch: Batch) -> None:
        self.sizes.append(len(batch.fresh))
        if len(batch.fresh) > self.most:
            raise self.error
        self.handled.extend(each.message.parcel for each in batch.fresh if isinstance(each.message, Ordered))

    async def fail(self, work: Work, received: Received, error: Exception) -> None:
        raise AssertionError("no message fails here")

    def concerns(self, received: Received) -> Sequence[str]:
        return ()

    async def due(
        self, connection: AsyncConnection, now: datetime, limit: int
    ) -> tuple[Sequence[Tick], datetime | None]:
        return (), None


@pytest.mark.parametrize("error", _TOO_LONG, ids=["statement_timeout", "lock_timeout", "command_timeout"])
async def test_a_batch_that_is_too_much_at_once_goes_in_parts(bench: Bench, error: Exception) -> None:
    """It is tried three times, then halved until its parts are small enough; their order is kept, and nothing fails."""
    consumer = _Narrow(3, error)
    await bench.serve(consumer)
    deliveries = [bench.delivery(Ordered(parcel=str(number))) for number in range(12)]
    bench.bus.hand_over(deliveries)
    await bench.pass_time(lambda: len(bench.bus.settled) == 12, "all are settled", step=1)

    assert consumer.sizes == [12, 12, 12, 6, 3, 3, 6, 3, 3]
    assert consumer.handled == [str(number) for number in range(12)]
    assert (bench.bus.rejected, bench.bus.requeued, await bench.letters()) == ([], [], [])


class _Slow(ParticipantConsumer):
    """Packs parcels; while one called slow is in a batch, the database does not answer in time."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(packer(), clock=bench.clock, entropy=bench.entropy)
        self.slow = True
        self.batches: list[list[str]] = []

    async def handle(self, work: Work, batch: Batch) -> None:
        parcels = [each.message.parcel for each in batch.fresh if isinstance(each.message, Pack)]
        self.batches.append(parcels)
        if self.slow and "slow" in parcels:
            raise TimeoutError
        await super().handle(work, batch)


async def test_a_message_that_is_too_slow_alone_waits_and_is_handled_when_it_can_be(bench: Bench) -> None:
    """It is put off with backoff; its neighbors are done at once, and it is not tried among others again."""
    consumer = _Slow(bench)
    await bench.serve(consumer)
    deliveries = [bench.delivery(Pack(parcel=name)) for name in ("p1", "p2", "slow", "p3")]
    bench.bus.hand_over(deliveries)
    await bench.pass_time(lambda: len(bench.bus.settled) == 4, "all are settled", step=0.1)

    (waiting,) = await bench.rows(schema.deferred)
    # Its next try may have come meanwhile: the time does not wait for the database.
    assert (waiting.attempts >= 1, waiting.last_error) == (True, "TimeoutError")
    assert sorted(await done(bench.database)) == [("p1", "packed"), ("p2", "packed"), ("p3", "packed")]

    before = len(consumer.batches)
    await bench.pass_time(lambda: len(consumer.batches) > before, "it is tried again", step=0.1)
    consumer.slow = False
    await bench.pass_time(lambda: len(consumer.batches) > before + 1, "it is tried again", step=1)
    assert consumer.batches[before:] == [["slow"], ["slow"]]
    await bench.until_status(waiting.message_id.int, "done")
    assert await bench.rows(schema.deferred) == []
    assert (bench.bus.rejected, await bench.letters()) == ([], [])


async def test_a_message_that_is_too_slow_for_ever_becomes_a_dead_letter_with_the_reason(bench: Bench) -> None:
    """After twelve tries, spread over some twenty minutes."""
    consumer = _Slow(bench)
    await bench.serve(consumer)
    bench.bus.hand_over([bench.delivery(Pack(parcel="slow"), id=UUID(int=7))])
    async with asyncio.timeout(30):
        while not await bench.letters():
            bench.clock.advance(10)
            await asyncio.sleep(0.002)

    (letter,) = await bench.rows(schema.dead_letter)
    assert (letter.reason, letter.message_id) == ("retries_exhausted", str(UUID(int=7)))
    assert letter.error.startswith("tried 12 times since 2026-03-01T12:0")
    assert letter.error.endswith("the last time: TimeoutError")


async def test_a_message_whose_rows_somebody_holds_rests_and_stops_nobody(postgres_url: str) -> None:
    """Not even its dead letter could be written: it stays unacknowledged, and is done when its rows are free."""
    bench, patient = Bench(Database(postgres_url, command_seconds=0.3)), Database(postgres_url)
    await laying.create(patient, schema.metadata, parcels.metadata)
    worker = await bench.serve(packer())
    held = bench.delivery(Pack(parcel="held"), id=UUID(int=7))
    others = [bench.delivery(Pack(parcel=f"p{number}")) for number in range(3)]
    async with patient.engine.connect() as holder:
        await inbox.claim(holder, "depot", [UUID(int=7)], bench.clock.now())
        bench.bus.hand_over([others[0], held, others[1]])
        await bench.pass_time(lambda: len(bench.bus.settled) == 2, "its neighbors are done", step=1)
        await bench.pass_time(lambda: bool(worker._poller._aside), "it rests", step=1)
        await bench.handle(others[2])
        await holder.rollback()
    await bench.pass_time(lambda: held.tag in bench.bus.settled, "it is done")

    assert sorted(await done(bench.database)) == [(name, "packed") for name in ("held", "p0", "p1", "p2")]
    assert (bench.bus.rejected, bench.bus.requeued, await bench.letters()) == ([], [], [])
    await bench.close()
    await patient.close()


class _Shut(Database):
    """A database that lets nobody write in it before their patience ends, until it is opened."""

    refused = 0
    shut = True

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        if self.shut:
            self.refused += 1
            raise TimeoutError
        async with super().transaction() as connection:
            yield connection


async def test_a_database_that_does_not_let_us_in_is_waited_for(database: Database) -> None:
    """That no connection comes about in time says nothing of the batch: it is neither taken apart nor put off."""
    shut = _Shut(database.url)
    bench, consumer = Bench(shut), _Narrow(100, TimeoutError())
    await bench.serve(consumer)
    bench.bus.hand_over([bench.delivery(Ordered(parcel=str(number))) for number in range(4)])
    await bench.pass_time(lambda: shut.refused > 10, "it tries again")
    shut.shut = False
    await bench.pass_time(lambda: len(bench.bus.settled) == 4, "all are settled")

    assert consumer.sizes == [4]
    assert await bench.rows(schema.deferred) == []
    await bench.close()


async def test_what_the_operating_system_forbids_a_handler_does_not_pass(bench: Bench) -> None:
    """It is told at once, and not twelve tries later."""
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        await note(db, command.parcel, "packed")
        raise PermissionError(13, "Permission denied", "/var/labels")

    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=UUID(int=7)))

    assert await bench.letters() == [("handler_failed", str(UUID(int=7)))]
