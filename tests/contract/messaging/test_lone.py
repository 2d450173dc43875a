"""A message alone on PostgreSQL is committed with what it writes last, where nothing has to be looked at in between."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from structlog.testing import capture_logs

from messaging import schema
from messaging.appending import append_last
from messaging.bulk import Writes
from messaging.bus import Delivery, Outgoing, Receipt
from messaging.database import Conflict, Database, Unforeseen
from messaging.outbox_rows import Pending
from messaging.participant import Participant, RetryLater
from messaging.work import Work
from tests.contract.messaging.bench import Bench, numbers, row
from tests.contract.messaging.parcels import Pack, Packed, Refused, Unpack, done, packer


@pytest.fixture
def database_url(postgres_url: str) -> str:
    """SQLite has no round trips to spare."""
    return postgres_url


async def _append(
    bench: Bench, *, known: Collection[int], sending: Collection[int] = (), arrived: Collection[str] = ()
) -> tuple[list[Pending], list[int]]:
    async with bench.database.transaction() as connection:
        return await append_last(
            connection,
            [row(3, "a"), row(4, "b")],
            grace=timedelta(seconds=10),
            known=known,
            on_their_way=sending,
            beside=Writes(),
            arrived=arrived,
        )


async def test_a_row_leaves_behind_those_of_its_key_that_this_process_sends(bench: Bench) -> None:
    """It names what it follows; what is sent already it follows anyway."""
    sending, sent = await bench.commit_rows([row(1, "a"), row(2, "b")], available_in=10)
    pending, proven = await _append(bench, known={sending, sent}, sending={sending})
    assert [(each.row.message_id.int, each.after) for each in pending] == [(3, {sending}), (4, frozenset())]
    assert proven == []


async def test_a_strangers_row_that_has_arrived_holds_nothing_up(bench: Bench) -> None:
    """Whoever committed in the same breath could not delete it any more, and is told which it is."""
    known, strangers = await bench.commit_rows([row(1, "b"), row(2, "a")], available_in=10)
    pending, proven = await _append(bench, known={known}, arrived={"no uuid", str(UUID(int=2))})
    assert [(each.row.message_id.int, each.after) for each in pending] == [(3, frozenset()), (4, frozenset())]
    assert proven == [strangers]


async def test_a_strangers_row_is_not_passed_by(bench: Bench) -> None:
    """Nothing is committed then: whoever wrote this is to look at it first."""
    (known, _) = await bench.commit_rows([row(1, "b"), row(2, "a")], available_in=10)
    with pytest.raises(Unforeseen):
        await _append(bench, known={known}, arrived={str(UUID(int=1))})
    assert [each.message_id.int for each in await bench.rows(schema.outbox)] == [1, 2]


async def test_a_check_that_the_database_cannot_make_is_made_before_the_commit(bench: Bench) -> None:
    """Though nothing that was written has to be looked at for it."""

    def refuse() -> None:
        raise Conflict("not so")

    async def write() -> None:
        async with bench.database.transaction() as connection:
            work = Work(connection, bench.clock.now(), "depot", "depot", careful=False)
            work.sends.append(row(5, "c"))
            work.check(refuse)
            await work.write(bench.relay, timedelta(seconds=10), alone=True)

    with pytest.raises(Conflict, match="not so"):
        await write()
    assert await bench.rows(schema.outbox) == []


async def test_a_message_that_meets_a_strangers_row_is_handled_again_and_its_answer_left(bench: Bench) -> None:
    """The same transaction once more, with a look before the commit; everything in it is done once.

    It is no conflict: with a second process of a service this is how it is most of the time.
    """
    await bench.serve(packer())
    await bench.handle(bench.delivery(Unpack(parcel="p2")))  # from now on its statements are prepared
    await bench.commit_rows([row(99, "p1")], available_in=10)
    with capture_logs() as logs:
        await bench.handle(bench.delivery(Pack(parcel="p1")))
    await bench.flush()
    assert await done(bench.database) == [("p2", "unpacked"), ("p1", "packed")]
    assert [each.type for each in bench.bus.published] == ["parcel.unpacked"]
    assert (bench.worker.conflicts, [each["event"] for each in logs]) == (0, [])
    bench.clock.advance(10)
    await bench.relay.sweep()
    await bench.relay.sweep()
    assert numbers(bench.bus.published[1:2]) == [99]
    assert [each.type for each in bench.bus.published[2:]] == ["parcel.packed"]


async def test_a_kind_that_has_met_a_strangers_row_is_looked_at_first_for_a_minute(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With several processes it mostly meets one, and each time is an error in PostgreSQL's log; other kinds do not."""
    last: list[int] = []
    run_last = Writes.run_last

    async def counted(self: Writes, connection: AsyncConnection) -> None:
        last.append(1)
        await run_last(self, connection)

    async def ways(message: Pack | Unpack) -> int:
        last.clear()
        await bench.handle(bench.delivery(message))
        return len(last)

    monkeypatch.setattr(Writes, "run_last", counted)
    await bench.serve(packer())
    await bench.commit_rows([row(99, "p1"), row(98, "p2")], available_in=1_000)
    assert await ways(Pack(parcel="p1")) == 1
    assert await ways(Pack(parcel="p2")) == 0
    assert await ways(Unpack(parcel="p3")) == 1
    bench.clock.advance(59)
    assert await ways(Pack(parcel="p4")) == 0
    bench.clock.advance(1)
    assert await ways(Pack(parcel="p5")) == 1
    assert len(await done(bench.database)) == 5


async def test_a_strangers_row_that_has_arrived_is_deleted_with_the_next_message(bench: Bench) -> None:
    """As if this process had sent it: what is answered need not be sent again."""
    bench.relay.arrived(await bench.commit_rows([row(99, "p1")], available_in=10))
    await bench.serve(packer())
    await bench.handle(bench.delivery(Pack(parcel="p1")))
    assert [each.type for each in await bench.rows(schema.outbox)] == ["parcel.packed"]
    assert bench.worker.conflicts == 0
    await bench.flush()
    assert [each.type for each in bench.bus.published] == ["parcel.packed"]


async def test_rows_that_have_arrived_are_deleted_before_a_handler_locks_anything_or_not_with_it(bench: Bench) -> None:
    """Their own process deletes them with a message of its own, and then may wait for what our handler has locked."""
    locked, waited_for = asyncio.Event(), asyncio.Event()
    participant = Participant("depot")
    tries: list[str] = []

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        tries.append(command.parcel)
        if len(tries) == 1:
            raise RetryLater("not yet")
        await db.execute(text("SELECT pg_advisory_xact_lock(7)"))
        locked.set()
        await waited_for.wait()
        return Packed(parcel=command.parcel)

    await bench.serve(participant)
    (arrived,) = await bench.commit_rows([row(99, "p9")], available_in=600)
    await bench.handle(bench.delivery(Pack(parcel="p1")))
    bench.relay.arrived([arrived])
    theirs = Database(bench.database.url)
    async with theirs.transaction() as connection:
        await connection.execute(schema.outbox.delete().where(schema.outbox.c.id == arrived))
        await bench.pass_time(locked.is_set, "what was put off is handled")
        waiting = asyncio.create_task(connection.execute(text("SELECT pg_advisory_xact_lock(7)")))
        await _until_one_waits(bench.database)
        waited_for.set()
        await waiting
    await theirs.close()
    await bench.until_status(1, "done")
    assert (tries, bench.worker.conflicts) == (["p1", "p1"], 0)


async def _until_one_waits(database: Database) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(30), database.reading() as connection:
        while not (await connection.execute(waiting)).scalar_one():  # noqa: ASYNC110 - the server announces nothing
            await asyncio.sleep(0.01)


async def test_what_is_committed_leaves_before_its_cause_is_acknowledged(bench: Bench) -> None:
    """Somebody waits for it; and on the broker's disk the acknowledgment would be written first, and waited for."""
    said: list[str] = []
    acknowledge = bench.bus.ack

    async def ack(deliveries: Sequence[Delivery]) -> None:
        said.append("acknowledged")
        await acknowledge(deliveries)

    def says(message: Outgoing) -> Receipt:
        said.append(message.type)
        return Receipt.CONFIRMED

    bench.bus.ack, bench.bus.says = ack, says  # type: ignore[method-assign]
    running = asyncio.create_task(bench.relay.run())
    await bench.serve(packer())
    await bench.until(lambda: bench.clock.sleepers == 2, "poller and sweeper have nothing to do")
    await bench.handle(bench.delivery(Pack(parcel="p1")))
    assert said == ["parcel.packed", "acknowledged"]
    bench.relay.stop()
    bench.clock.advance(60)
    await running
