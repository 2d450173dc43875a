"""A command is claimed with its answer: what another process does with it meanwhile, between two real transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from messaging import claiming, schema
from messaging.bus import Delivery
from messaging.consumer import Batch
from messaging.database import Database
from messaging.participant import Participant, RetryLater
from messaging.received import Received
from messaging.work import Work
from tests.contract.messaging.bench import NOON, PATIENCE, Bench
from tests.contract.messaging.parcels import Pack, Packed, Refused, Unpack, done, metadata, packer

COMMAND = UUID(int=7)


@pytest.fixture
async def bench(postgres_url: str) -> AsyncIterator[Bench]:
    """A depot on PostgreSQL: SQLite has one writer at a time."""
    bench = Bench(Database(postgres_url))
    async with bench.database.transaction() as connection:
        await connection.run_sync(schema.metadata.create_all)
        await connection.run_sync(metadata.create_all)
    yield bench
    await bench.close()


@asynccontextmanager
async def _handled_elsewhere(bench: Bench, *deliveries: Delivery) -> AsyncIterator[None]:
    """Another process has handled these, and commits at the end, once the depot waits for it."""
    database = Database(bench.database.url)
    async with database.transaction() as connection:
        work = Work(connection, NOON, "depot", bench.consumer.name)
        read = [bench.consumer.read(each) for each in deliveries]
        claim = await claiming.claim(work, [each for each in read if isinstance(each, Received)])
        act = bench.consumer.begin(work, claim.messages, [])
        fresh, repeated = await claim.made()
        await act(work, Batch(fresh, repeated, []))
        await work.write(None, timedelta(hours=1))
        await work.close()
        yield
        await _until_somebody_waits(bench.database)
    await database.close()


async def _until_somebody_waits(database: Database) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(PATIENCE), database.reading() as looking:
        while not (await looking.execute(waiting)).scalar_one():
            await looking.rollback()
            await asyncio.sleep(0.01)


async def test_of_two_who_handle_a_command_at_once_one_is_undone(bench: Bench) -> None:
    """It has one effect and one answer, which the other gives again; its neighbor in the batch is handled."""
    await bench.serve(packer())
    mine = [bench.delivery(Pack(parcel="p1"), id=COMMAND), bench.delivery(Pack(parcel="p2"))]
    async with _handled_elsewhere(bench, bench.delivery(Pack(parcel="p1"), id=COMMAND)):
        bench.bus.hand_over(mine)
    await bench.settled(mine)
    await bench.flush()

    assert sorted(await done(bench.database)) == [("p1", "packed"), ("p2", "packed")]
    assert bench.worker.conflicts == 1
    (stored,) = [row for row in await bench.rows(schema.inbox) if row.message_id == COMMAND]
    # The other has not sent its own yet, and of a key nothing overtakes.
    said = [row.body for row in await bench.rows(schema.outbox) if row.message_id == stored.answer_id]
    assert said == [stored.answer_body] * 2
    assert await bench.letters() == []


async def test_of_two_who_put_a_command_off_at_once_one_is_undone(bench: Bench) -> None:
    """It waits once, and nobody takes that for an error of the command's."""
    participant = Participant("depot")

    @participant.handles_batch(Pack)
    async def pack(commands: Sequence[Pack], db: AsyncSession) -> Sequence[Packed | Refused | RetryLater]:
        return [RetryLater("not today") for _ in commands]

    await bench.serve(participant)
    delivery = bench.delivery(Pack(parcel="p1"), id=COMMAND)
    async with _handled_elsewhere(bench, bench.delivery(Pack(parcel="p1"), id=COMMAND)):
        bench.bus.hand_over([delivery])
    await bench.settled([delivery])

    assert [row.attempts for row in await bench.rows(schema.deferred)] == [1]
    assert await bench.statuses() == {7: "deferred"}
    assert (bench.worker.conflicts, await bench.letters()) == (1, [])


async def test_a_compensation_that_finds_its_command_under_way_undoes_it(bench: Bench) -> None:
    """It would leave a tombstone, meets the command's own row, and looks again."""
    await bench.serve(packer())
    undo = bench.delivery(Unpack(parcel="p1"), compensates=COMMAND)
    async with _handled_elsewhere(bench, bench.delivery(Pack(parcel="p1"), id=COMMAND)):
        bench.bus.hand_over([undo])
    await bench.settled([undo])

    assert await done(bench.database) == [("p1", "packed"), ("p1", "unpacked")]
    assert (await bench.statuses())[7] == "done"
    assert bench.worker.conflicts > 0


async def test_a_command_that_finds_its_compensation_under_way_is_dropped(bench: Bench) -> None:
    """It would be handled, meets the tombstone, and looks again."""
    await bench.serve(packer())
    late = bench.delivery(Pack(parcel="p1"), id=COMMAND)
    async with _handled_elsewhere(bench, bench.delivery(Unpack(parcel="p1"), compensates=COMMAND)):
        bench.bus.hand_over([late])
    await bench.settled([late])

    assert await done(bench.database) == [("p1", "unpacked")]
    assert ((await bench.statuses())[7], bench.worker.conflicts) == ("tombstone", 1)


async def test_commands_that_reach_two_workers_at_once_are_nobodys_error(bench: Bench, postgres_url: str) -> None:
    """A handler inserts under a unique key of its own: whose insert comes second has nothing counted against it."""
    unique = text("CREATE UNIQUE INDEX one_effect ON packing (parcel, done)")
    async with bench.database.transaction() as connection:
        await connection.execute(unique)
    other = Bench(Database(postgres_url))
    try:
        for each in (bench, other):
            await each.serve(packer(), batch_size=7)
        given = [(f"p{number}", UUID(int=1000 + number)) for number in range(60)]
        # The same to both, to the second from the other end, so that their batches meet and overlap in all ways.
        mine = [bench.delivery(Pack(parcel=name), id=identity, correlation_id=name) for name, identity in given]
        theirs = [other.delivery(Pack(parcel=name), id=identity, correlation_id=name) for name, identity in given[::-1]]
        bench.bus.hand_over(mine)
        other.bus.hand_over(theirs)

        def settled() -> bool:
            # Who waited for the other in a deadlock sleeps before the next try.
            bench.clock.advance(1)
            other.clock.advance(1)
            return len(bench.bus.settled) == len(other.bus.settled) == len(given)

        await bench.until(settled, "both have acknowledged all")
        assert sorted(await done(bench.database)) == sorted((name, "packed") for name, _ in given)
        assert set((await bench.statuses()).values()) == {"done"}
        assert await bench.rows(schema.deferred) == []
        assert (await bench.letters(), bench.bus.rejected, other.bus.rejected) == ([], [], [])
    finally:
        await other.close()
