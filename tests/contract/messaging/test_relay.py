"""The relay on both databases: what is committed reaches the broker, in the order of its key, and leaves the table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import claims, schema
from messaging.appending import append
from messaging.bulk import Writes
from messaging.bus import Outgoing, Receipt
from messaging.claims import CLAIM
from messaging.database import Database
from messaging.driver import Ahead
from messaging.outbox_rows import Pending
from messaging.relay import MOST_HELD, Relay
from messaging.slices import SLICE
from messaging.waiting import OutboxDepth, outbox_depth
from tests.contract.messaging.bench import (
    NOON,
    PATIENCE,
    Bench,
    ScriptedBus,
    StillClock,
    append_rows,
    numbers,
    row,
    statements,
    until,
)


async def _depth(bench: Bench) -> OutboxDepth:
    async with bench.database.reading() as connection:
        return await outbox_depth(connection, bench.clock.now())


async def _ids(bench: Bench) -> list[int]:
    return [each.message_id.int for each in await bench.rows(schema.outbox)]


async def _end(bench: Bench, running: asyncio.Task[None]) -> None:
    """Stop the relay, whenever it goes to sleep."""
    bench.relay.stop()
    async with asyncio.timeout(PATIENCE):
        while not running.done():
            bench.clock.advance(60)
            await asyncio.sleep(0.002)
    await running


def _refusing(*refused: int, receipt: Receipt = Receipt.UNKNOWN) -> object:
    def says(message: Outgoing) -> Receipt:
        return receipt if numbers([message])[0] in refused else Receipt.CONFIRMED

    return says


async def test_offered_rows_are_published_once_and_deleted_in_the_next_transaction(bench: Bench) -> None:
    """The fast path sends from memory, and the rows leave with the next transaction that deletes what is confirmed."""
    bench.relay.offer(await append_rows(bench, row(1, "a"), row(2, "b")))
    bench.bus.gate = asyncio.Event()
    flushing = asyncio.create_task(bench.flush())
    await until(lambda: len(bench.bus.published) == 2, "both are on the wire")

    assert await _ids(bench) == [1, 2]
    bench.bus.gate.set()
    await flushing

    assert numbers(bench.bus.published) == [1, 2]
    assert await _ids(bench) == []
    assert bench.relay.confirmed == set()


async def test_a_row_is_left_alone_during_its_grace_and_swept_after_it(bench: Bench) -> None:
    """Nobody but its owner touches a fresh row; once its grace is over any sweeper takes it."""
    await append_rows(bench, row(1))

    assert await bench.relay.sweep() == 0
    bench.clock.advance(9.999)
    assert await bench.relay.sweep() == 0
    bench.clock.advance(0.001)
    assert await bench.relay.sweep() == 1
    assert numbers(bench.bus.published) == [1]
    assert await bench.relay.sweep() == 0
    assert await _ids(bench) == []


@pytest.mark.parametrize(
    ("receipt", "words"),
    [
        (Receipt.UNKNOWN, "not confirmed: the broker refused it, was away, or did not answer in time"),
        (Receipt.UNROUTABLE, "unroutable: no queue is bound for this routing key; start the service that handles it"),
    ],
)
async def test_what_is_not_confirmed_stays_and_is_tried_again_with_backoff(
    bench: Bench, receipt: Receipt, words: str
) -> None:
    """An unconfirmed row is kept with the reason, its waits doubling: 2 s, 4 s, 8 s."""
    bench.bus.says = lambda _message: receipt
    await bench.commit_rows([row(1)])

    waits = []
    for _ in range(3):
        assert await bench.relay.sweep() == 1
        kept = (await bench.rows(schema.outbox))[0]
        waits.append((kept.available_at - bench.clock.now()).total_seconds())
        assert kept.last_error == words
        bench.clock.advance(waits[-1] - 0.001)
        assert await bench.relay.sweep() == 0
        bench.clock.advance(0.001)

    assert waits == [2, 4, 8]
    assert kept.attempts == 3


async def test_a_failed_offer_is_left_to_the_sweeper(bench: Bench) -> None:
    """What the fast path could not get confirmed is sent by the sweeper when its grace is over."""
    bench.bus.says = lambda _message: Receipt.UNKNOWN
    bench.relay.offer(await append_rows(bench, row(1, "a")))
    await bench.flush()
    bench.bus.says = lambda _message: Receipt.CONFIRMED

    assert await bench.relay.sweep() == 0
    bench.clock.advance(10)
    assert await bench.relay.sweep() == 1
    assert numbers(bench.bus.published) == [1, 1]


async def test_an_unconfirmed_row_holds_back_its_own_key_and_no_other(bench: Bench) -> None:
    """Behind a row that fails its key waits, and every other key goes on; when it succeeds, its key follows."""
    bench.bus.says = _refusing(1)  # type: ignore[assignment]  # a function all the same
    await bench.commit_rows([row(1, "a"), row(2, "a"), row(3, "b"), row(4, None), row(5, "b")])

    await bench.relay.sweep()
    await bench.relay.sweep()

    assert sorted(numbers(bench.bus.published)) == [1, 3, 4, 5]
    assert await _ids(bench) == [1, 2]
    bench.bus.published.clear()
    bench.bus.says = lambda _message: Receipt.CONFIRMED
    bench.clock.advance(2)
    await bench.relay.sweep()
    await bench.relay.sweep()
    assert numbers(bench.bus.published) == [1, 2]


async def test_more_rows_behind_a_failed_one_than_a_claim_takes_do_not_stop_the_sweeper(bench: Bench) -> None:
    """A long queue behind a poisonous row neither hides that row from the sweeper nor starves the other keys."""
    bench.bus.says = _refusing(1)  # type: ignore[assignment]  # a function all the same
    await bench.commit_rows([row(1, "a")])
    await bench.relay.sweep()
    await bench.commit_rows([row(number, "a") for number in range(2, CLAIM + 100)])
    bench.clock.advance(1)
    await bench.commit_rows([row(5000, "b")])

    await bench.relay.sweep()
    assert numbers(bench.bus.published) == [1, 5000]
    bench.bus.says = lambda _message: Receipt.CONFIRMED
    bench.bus.published.clear()
    bench.clock.advance(1)
    for _ in range(4):
        await bench.relay.sweep()

    assert numbers(bench.bus.published) == list(range(1, CLAIM + 100))
    assert await _ids(bench) == []


async def test_rows_offered_behind_a_failed_one_wait_for_the_sweeper(bench: Bench) -> None:
    """A row whose predecessor was on its way when it was written, and failed, is not sent before it."""
    bench.bus.says = _refusing(1)  # type: ignore[assignment]  # a function all the same
    first = await append_rows(bench, row(1, "a"))
    bench.relay.offer(first)
    bench.relay.offer(await append_rows(bench, row(2, "a"), row(3, "b")))

    await bench.flush()

    assert numbers(bench.bus.published) == [1, 3]
    assert await _ids(bench) == [1, 2]


async def test_rows_offered_behind_a_failed_one_leave_once_that_has_been_answered(bench: Bench) -> None:
    """The broker had it, whatever it said: nothing is pending any more that they could overtake."""
    bench.bus.says = _refusing(1)  # type: ignore[assignment]  # a function all the same
    first = await append_rows(bench, row(1, "a"))
    bench.relay.offer(first)
    second = await append_rows(bench, row(2, "a"))
    await bench.flush()
    assert numbers(bench.bus.published) == [1]

    bench.relay.arrived([first[0].id])
    bench.relay.offer(second)
    await bench.flush()

    assert numbers(bench.bus.published) == [1, 2]
    assert await _ids(bench) == []


async def test_a_row_behind_a_strangers_is_not_offered(bench: Bench) -> None:
    """A row whose key has an older row that this process is not sending is left to the sweepers."""
    await bench.commit_rows([row(1, "a")], available_in=10)

    assert [each.row.message_id.int for each in await append_rows(bench, row(2, "a"), row(3, "b"))] == [3]
    assert [each.available_at - NOON for each in await bench.rows(schema.outbox)] == [
        timedelta(seconds=10),
        # nobody else will send it, so no sweeper need wait for anybody's grace
        timedelta(0),
        timedelta(seconds=10),
    ]


async def test_a_row_behind_a_strangers_that_has_arrived_is_offered(bench: Bench) -> None:
    """What was caused by a message cannot overtake it: its row was only not deleted yet. It is now."""
    await bench.commit_rows([row(1, "a"), row(2, "b")], available_in=10)

    async with bench.database.transaction() as connection:
        offered = await append(
            connection,
            [row(3, "a"), row(4, "b")],
            grace=timedelta(seconds=10),
            on_their_way=(),
            done=(),
            arrived={str(UUID(int=1))},
        )

    assert [each.row.message_id.int for each in offered] == [3]
    assert [each.message_id.int for each in await bench.rows(schema.outbox)] == [2, 3, 4]


async def test_a_row_that_is_deleted_while_it_is_looked_at_holds_nothing_up(bench: Bench) -> None:
    """It was sent before we looked: that its row is gone by now, and with it the memory of it, changes nothing."""
    done = set(await bench.commit_rows([row(1, "a")], available_in=10))

    class Deleted(Writes):
        async def run(self, connection: AsyncConnection, *, ahead: Ahead | None = None) -> None:
            await super().run(connection, ahead=ahead)
            done.clear()

    async with bench.database.transaction() as connection:
        offered = await append(
            connection, [row(2, "a")], grace=timedelta(seconds=10), on_their_way=(), done=done, beside=Deleted()
        )

    assert [each.row.message_id.int for each in offered] == [2]


async def test_a_row_that_its_sender_is_deleting_is_not_waited_for(bench: Bench) -> None:
    """It has arrived, and whoever deletes it may be waiting for what this transaction holds."""
    await bench.commit_rows([row(1, "a")], available_in=10)

    async with bench.database.transaction() as sender:
        await sender.execute(delete(schema.outbox))
        if bench.database.engine.dialect.name == "sqlite":
            return  # one writer: nobody appends meanwhile
        async with asyncio.timeout(PATIENCE), bench.database.transaction() as connection:
            offered = await append(
                connection,
                [row(3, "a")],
                grace=timedelta(seconds=10),
                on_their_way=(),
                done=(),
                arrived={str(UUID(int=1))},
            )

    assert [each.row.message_id.int for each in offered] == [3]


async def test_rows_written_outside_a_worker_wait_for_a_strangers_older_row(bench: Bench) -> None:
    """An `emit` cannot know what else is pending, so the relay looks before it sends."""
    await bench.commit_rows([row(1, "a")], available_in=10)
    ids = await bench.commit_rows([row(2, "a"), row(3, "b")], available_in=10)

    bench.relay.offer([Pending(ids[0], row(2, "a")), Pending(ids[1], row(3, "b"))])
    await bench.flush()

    assert numbers(bench.bus.published) == [3]


async def test_followers_of_a_row_that_was_not_sent_wait_too_in_a_later_slice(bench: Bench) -> None:
    """The order of a key holds across the slices in which a long offer is published."""
    await bench.commit_rows([row(1, "a")], available_in=10)
    held = (await bench.commit_rows([row(2, "a")], available_in=10))[0]
    others = await bench.commit_rows([row(100 + number) for number in range(SLICE)], available_in=10)
    behind = (await bench.commit_rows([row(3, "a")], available_in=10))[0]

    bench.relay.offer([Pending(held, row(2, "a"))])
    bench.relay.offer([Pending(each, row(100 + place), checked=True) for place, each in enumerate(others)])
    bench.relay.offer([Pending(behind, row(3, "a"), frozenset({held}), checked=True)])
    await bench.flush()

    assert numbers(bench.bus.published) == list(range(100, 100 + SLICE))


async def test_the_sweeper_does_not_overtake_what_is_still_on_its_way(bench: Bench) -> None:
    """While an offered row waits for its turn past its grace, no younger row of its key is swept."""
    bench.relay.offer(await append_rows(bench, row(1, "a")))
    await bench.commit_rows([row(2, "a"), row(3, "b")], available_in=10)
    bench.clock.advance(10)

    await bench.relay.sweep()

    assert numbers(bench.bus.published) == [3]


async def test_a_row_that_commits_late_with_a_lower_number_is_not_missed(fresh_postgres: object) -> None:
    """The sweeper has no cursor: a transaction that took its number early and commits last is swept like any other."""
    database = Database(fresh_postgres())  # type: ignore[operator]  # the fixture is a function
    async with database.transaction() as connection:
        await connection.run_sync(schema.metadata.create_all)
    bench = Bench(database)
    try:
        async with database.engine.connect() as slow:
            await append(slow, [row(1, "a")], grace=timedelta(0), on_their_way=(), done=())
            await bench.commit_rows([row(2, "b")])
            await bench.relay.sweep()
            assert numbers(bench.bus.published) == [2]
            await slow.commit()
        await bench.relay.sweep()
        assert numbers(bench.bus.published) == [2, 1]
    finally:
        await bench.close()


async def test_two_relays_share_a_backlog_and_keep_every_keys_order(postgres_url: str) -> None:
    """Two sweepers on one PostgreSQL send every row, each key in order, and nothing twice."""
    first, second = Database(postgres_url), Database(postgres_url)
    async with first.transaction() as connection:
        await connection.run_sync(schema.metadata.create_all)
    bench = Bench(first)
    other = Relay(second, bench.bus, bench.clock)
    await bench.commit_rows([row(number, f"key {number % 300}") for number in range(1, 2001)])

    async def drain(relay: Relay) -> None:
        async with asyncio.timeout(30):
            while (await _depth(bench)).rows > 0:
                await relay.sweep()

    try:
        await asyncio.gather(drain(bench.relay), drain(other))
    finally:
        await second.close()
        await bench.close()

    sent = numbers(bench.bus.published)
    assert sorted(sent) == list(range(1, 2001))
    for key in range(300):
        mine = [number for number in sent if number % 300 == key]
        assert mine == sorted(mine)


async def test_a_sweeper_does_not_take_a_row_behind_one_that_another_has_locked(postgres_url: str) -> None:
    """A row that is locked this instant is skipped, and what comes after it in its key waits."""
    first, second = Database(postgres_url), Database(postgres_url)
    async with first.transaction() as connection:
        await connection.run_sync(schema.metadata.create_all)
    bench = Bench(first)
    ids = await bench.commit_rows([row(1, "a"), row(2, "a"), row(3, "b")])
    try:
        async with second.transaction() as locking:
            await locking.execute(select(schema.outbox.c.id).where(schema.outbox.c.id == ids[0]).with_for_update())
            await bench.relay.sweep()
            assert numbers(bench.bus.published) == [3]
        await bench.relay.sweep()
        assert numbers(bench.bus.published) == [3, 1, 2]
    finally:
        await second.close()
        await bench.close()


async def test_what_is_claimed_between_looking_and_locking_is_not_claimed_twice(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweeper that saw rows as nobody's, and locked them just after another had committed its claim, sees it."""
    database = Database(postgres_url)
    async with database.transaction() as connection:
        await connection.run_sync(schema.metadata.create_all)
    bench = Bench(database)
    ids = await bench.commit_rows([row(1, "a"), row(2, "a"), row(3, "b"), row(4)])
    lease = NOON + timedelta(seconds=30)
    try:
        async with database.transaction() as connection:
            seen = await claims._look(connection, NOON, claims.BEGINNING)
        async with database.transaction() as connection:
            with monkeypatch.context() as patched:
                patched.setattr(claims, "CLAIM_BYTES", 1)
                first = await claims.claim(connection, NOON, lease, ())

        async def look(*_: object) -> object:
            return seen

        monkeypatch.setattr(claims, "_look", look)
        async with database.transaction() as connection:
            second = await claims.claim(connection, NOON, lease, ())
    finally:
        await bench.close()

    assert [each.id for each in first.rows] == ids[:1]
    assert [each.id for each in second.rows] == ids[2:]


async def test_rows_behind_a_strangers_claim_do_not_fill_ours(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another sweeper has the oldest row of a key in hand, its rest is passed over, and others are found."""
    monkeypatch.setattr(claims, "CLAIM_BYTES", 1)
    bench.bus.gate = asyncio.Event()
    await bench.commit_rows([row(1, "a")])
    slow = asyncio.create_task(bench.relay.sweep())
    await until(lambda: len(bench.bus.published) == 1, "the other sweeper has the key's first row")
    await bench.commit_rows([row(number, "a") for number in range(2, CLAIM + 100)])
    bench.clock.advance(1)
    await bench.commit_rows([row(5000, "b")])
    bus = ScriptedBus()

    assert await Relay(bench.database, bus, bench.clock).sweep() == 1

    assert numbers(bus.published) == [5000]
    bench.bus.gate.set()
    assert await slow == 1


async def test_claims_that_are_over_or_have_run_out_leave_nothing_behind(bench: Bench) -> None:
    """A claim goes with its rows; one whose sweeper has died goes when the next sweeper claims after its lease."""
    bench.bus.gate = asyncio.Event()
    await bench.commit_rows([row(1), row(2)])
    dead = asyncio.create_task(bench.relay.sweep())
    await until(lambda: len(bench.bus.published) == 2, "the first sweeper has them")
    dead.cancel()
    await asyncio.gather(dead, return_exceptions=True)
    assert len(await bench.rows(schema.outbox_claim)) == 1
    bench.clock.advance(30)
    other = Relay(bench.database, ScriptedBus(), bench.clock)

    assert await other.sweep() == 2
    assert len(await bench.rows(schema.outbox_claim)) == 1
    assert await other.sweep() == 0

    assert await bench.rows(schema.outbox_claim) == []
    assert await bench.rows(schema.outbox) == []


async def test_a_claim_holds_until_its_rows_are_deleted_for_sure(bench: Bench) -> None:
    """While a worker's transaction is still deleting what was swept, and may yet fail, nobody else sends it again."""
    await bench.commit_rows([row(1), row(2)])
    assert await bench.relay.sweep() == 2
    ids = bench.relay.delete_with(Writes())
    await bench.relay.forget_confirmed()
    other = Relay(bench.database, ScriptedBus(), bench.clock)
    assert await other.sweep() == 0

    bench.relay.kept(ids)
    await bench.relay.forget_confirmed()

    assert await bench.rows(schema.outbox) == []
    assert await bench.rows(schema.outbox_claim) == []


async def test_a_claim_holds_while_its_rows_went_into_another_transaction_in_the_meantime(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker takes them along to delete them while the sweeper waits for a connection, and may yet fail."""
    await bench.commit_rows([row(1), row(2)])
    assert await bench.relay.sweep() == 2
    transaction, taken = bench.database.transaction, set[int]()

    @asynccontextmanager
    async def late() -> AsyncIterator[AsyncConnection]:
        taken.update(bench.relay.delete_with(Writes()))
        async with transaction() as connection:
            yield connection

    with monkeypatch.context() as patched:
        patched.setattr(bench.database, "transaction", late)
        await bench.relay.forget_confirmed()
    assert len(taken) == 2
    assert await Relay(bench.database, ScriptedBus(), bench.clock).sweep() == 0

    bench.relay.kept(taken)
    await bench.relay.forget_confirmed()
    assert (await bench.rows(schema.outbox), await bench.rows(schema.outbox_claim)) == ([], [])


async def test_an_expired_lease_lets_another_sweeper_take_over(bench: Bench) -> None:
    """What a sweeper claimed before it died is claimed again when its lease has run out, and not before."""
    bench.bus.gate = asyncio.Event()
    await bench.commit_rows([row(1, "a")])
    dead = asyncio.create_task(bench.relay.sweep())
    await until(lambda: len(bench.bus.published) == 1, "the first sweeper has it")
    dead.cancel()
    await asyncio.gather(dead, return_exceptions=True)
    bus = ScriptedBus()
    other = Relay(bench.database, bus, bench.clock)

    bench.clock.advance(29)
    assert await other.sweep() == 0
    bench.clock.advance(1)
    assert await other.sweep() == 1
    assert numbers(bus.published) == [1]


async def test_a_sweeper_whose_lease_ran_out_leaves_the_row_as_it_is(bench: Bench) -> None:
    """A sweeper that was slower than its lease does not write over what the next one has decided."""
    bench.bus.gate = asyncio.Event()
    bench.bus.says = lambda _message: Receipt.UNKNOWN
    await bench.commit_rows([row(1, "a")])
    slow = asyncio.create_task(bench.relay.sweep())
    await until(lambda: len(bench.bus.published) == 1, "the slow sweeper has it")
    bus = ScriptedBus()
    bus.gate = asyncio.Event()
    other = Relay(bench.database, bus, bench.clock)
    bench.clock.advance(30)
    taking_over = asyncio.create_task(other.sweep())
    await until(lambda: len(bus.published) == 1, "the next sweeper has it")
    bench.bus.gate.set()
    await slow

    kept = (await bench.rows(schema.outbox))[0]
    assert (kept.available_at, kept.attempts) == (NOON, 0)
    bus.gate.set()
    await taking_over
    await other.forget_confirmed()
    assert await _ids(bench) == []


async def test_depth_counts_rows_and_the_age_of_the_oldest(bench: Bench) -> None:
    """The metric says how many rows wait, and for how many seconds the oldest has."""
    assert await _depth(bench) == OutboxDepth(0, 0.0)
    await bench.commit_rows([row(1), row(2)])
    bench.clock.advance(12.5)

    assert await _depth(bench) == OutboxDepth(2, 12.5)


async def test_a_long_backlog_drains_with_a_constant_number_of_statements_a_claim(bench: Bench) -> None:
    """Twenty thousand rows left lying leave in claims of 2,000, five statements each; on SQLite six."""
    for start in range(0, 20_000, 5_000):
        await bench.commit_rows([row(start + place, f"key {place}") for place in range(1, 5_001)])

    with statements(bench.database) as sent:
        sweeps = 0
        while await bench.relay.sweep():
            sweeps += 1

    assert sweeps == 10
    assert len(bench.bus.published) == 20_000
    assert len(sent) <= (5 if bench.database.dialect == "postgresql" else 6) * (sweeps + 1)
    assert await _ids(bench) == []


async def test_a_claim_ends_with_its_bytes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows a claim could take, no further one is taken once their bodies are as long as it may hold."""
    monkeypatch.setattr(claims, "CLAIM_BYTES", 3_000)
    large = [replace(row(number), body="ü" * 700) for number in range(1, 6)]
    await bench.commit_rows(large)

    assert [await bench.relay.sweep() for _ in range(3)] == [3, 2, 0]
    assert numbers(bench.bus.published) == [1, 2, 3, 4, 5]


async def test_a_running_relay_drains_what_is_more_than_a_claim_in_order(bench: Bench) -> None:
    """Claims follow one another without a pause, each made while the one before is on its way, and keys keep their
    order; a row that becomes available behind them is found too.
    """
    for start in range(0, 3 * CLAIM, CLAIM):
        await bench.commit_rows([row(start + place, f"key {place % 700}") for place in range(1, CLAIM + 1)])
    running = asyncio.create_task(bench.relay.run())

    await until(lambda: len(bench.bus.published) >= 3 * CLAIM, "the backlog is sent")
    await bench.commit_rows([row(3 * CLAIM + 1, "key 1")], available_in=-3600)
    await bench.pass_time(lambda: len(bench.bus.published) > 3 * CLAIM, "the late row is sent", step=1)

    sent = numbers(bench.bus.published)
    assert sorted(sent) == list(range(1, 3 * CLAIM + 2))
    for key in range(700):
        mine = [number for number in sent[:-1] if (number - 1) % CLAIM % 700 == key]
        assert mine == sorted(mine)
    await _end(bench, running)


async def test_what_is_committed_late_does_not_wait_for_the_end_of_a_backlog(bench: Bench) -> None:
    """Claims go on where the last one ended, but once a second from the beginning, where late commits lie."""
    for start in range(0, 4 * CLAIM, CLAIM):
        await bench.commit_rows([row(start + place) for place in range(1, CLAIM + 1)])
    late = 4 * CLAIM + 1
    bench.bus.gate = asyncio.Event()
    running = asyncio.create_task(bench.relay.run())
    await until(lambda: len(bench.relay.on_their_way) == 2 * CLAIM, "two claims are ours")
    await bench.commit_rows([row(late)], available_in=-3600)
    bench.clock.advance(1.5)
    bench.bus.gate.set()
    await until(lambda: len(bench.bus.published) == late, "all are sent")

    sent = numbers(bench.bus.published)
    assert sorted(sent) == list(range(1, late + 1))
    assert sent.index(late) < sent.index(4 * CLAIM)
    await _end(bench, running)


async def test_the_next_claim_is_made_while_the_last_one_is_unconfirmed(bench: Bench) -> None:
    """A broker that takes its time keeps nobody from the database: what is next is ours before it has answered."""
    await bench.commit_rows([row(number) for number in range(1, 2 * CLAIM + 1)])
    bench.bus.gate = asyncio.Event()
    running = asyncio.create_task(bench.relay.run())

    await until(lambda: len(bench.relay.on_their_way) == 2 * CLAIM, "both claims are ours")
    assert bench.relay.confirmed == set()
    bench.bus.gate.set()
    await until(lambda: len(bench.bus.published) == 2 * CLAIM, "both claims are sent")
    await _end(bench, running)


class HesitantBus(ScriptedBus):
    """It has the last slice of a full claim, and waits for the gate before it says so."""

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        self.published.extend(messages)
        self.calls.append([each.message_id for each in messages])
        if len(self.calls) == CLAIM // SLICE and self.gate is not None:
            await self.gate.wait()
        return [Receipt.CONFIRMED] * len(messages)


async def test_the_next_claim_leaves_while_the_end_of_the_last_one_is_unconfirmed(bench: Bench) -> None:
    """The broker need not run dry between two claims; rows are deleted once they are confirmed, and no sooner."""
    await bench.commit_rows([row(number) for number in range(1, 2 * CLAIM + 1)])
    bus = HesitantBus()
    bus.gate = asyncio.Event()
    relay = Relay(bench.database, bus, bench.clock)
    sweeping = asyncio.create_task(relay._sweeper.sweep_all())

    await until(lambda: len(bus.published) == 2 * CLAIM, "the second claim is sent")
    left = await _ids(bench)
    bus.gate.set()
    await sweeping
    await relay.forget_confirmed()

    assert numbers(bus.published) == list(range(1, 2 * CLAIM + 1))
    assert left == list(range(1, 2 * CLAIM + 1))
    assert await _ids(bench) == []


async def test_a_swept_row_says_what_was_written(bench: Bench) -> None:
    """To the microsecond, and also a type that is not the routing key; its key stands for a missing saga."""
    moment = NOON + timedelta(microseconds=123_457)
    await bench.commit_rows(
        [
            replace(row(1, "k"), routing_key="parcel.other", correlation_id="c", created_at=moment),
            replace(row(2, "k"), correlation_id="k"),
            replace(row(3, "l"), correlation_id=None),
            replace(row(4), correlation_id=None),
        ]
    )
    assert await bench.relay.sweep() == 4

    sent = {each.message_id: each for each in bench.bus.published}
    first, second, third, fourth = (sent[str(UUID(int=number))] for number in (1, 2, 3, 4))
    assert (first.type, first.routing_key, first.correlation_id) == ("parcel.packed", "parcel.other", "c")
    assert (first.timestamp, first.body) == (moment, row(1).body.encode())
    assert (second.correlation_id, third.correlation_id) == ("k", "l")
    assert (fourth.correlation_id, fourth.type) == (fourth.message_id, row(4).type)


async def test_offers_beyond_what_memory_should_hold_are_left_in_the_table(bench: Bench) -> None:
    """While the broker takes nothing, what is offered does not grow without end: the sweeper has the rest."""
    offered = 0
    while len(bench.relay._offered) < MOST_HELD:
        bench.relay.offer([Pending(offered + place, row(1), checked=True) for place in range(1000)])
        offered += 1000
    bench.relay.offer([Pending(offered, row(1), checked=True)])

    assert len(bench.relay._offered) == offered
    assert offered not in bench.relay.on_their_way


async def test_a_relay_whose_fast_path_breaks_ends_instead_of_limping(bench: Bench) -> None:
    """A defect in the fast path ends `run`, so that the process ends and is seen."""

    def broken(_message: Outgoing) -> Receipt:
        raise RuntimeError("an adapter with a defect")

    bench.bus.says = broken
    running = asyncio.create_task(bench.relay.run())
    bench.relay.offer(await append_rows(bench, row(1)))
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(RuntimeError, match="an adapter with a defect"):
            await running


async def test_a_running_relay_publishes_offers_and_sweeps(bench: Bench) -> None:
    """`run` does both, and `stop` ends it."""
    await bench.commit_rows([row(1, "a")])
    running = asyncio.create_task(bench.relay.run())
    await until(lambda: numbers(bench.bus.published) == [1], "the row is swept")
    bench.relay.offer(await append_rows(bench, row(2, "a")))
    await until(lambda: numbers(bench.bus.published) == [1, 2], "the row is published")
    bench.relay.stop()
    bench.clock.advance(60)
    async with asyncio.timeout(PATIENCE):
        await running


def test_an_offer_after_the_loop_has_ended_is_left_to_the_next_process() -> None:
    """An application that commits after its relay's loop has been closed is not told off for it."""
    relay = Relay(Database("sqlite://"), ScriptedBus(), StillClock())
    relay._loop = asyncio.new_event_loop()
    relay._loop.close()
    relay._thread = -1
    relay.offer([Pending(1, row(1))])

    assert relay.on_their_way == set()


async def test_a_claim_reads_no_more_than_it_takes_however_little_postgresql_knows(postgres_url: str) -> None:
    """A backlog that came up since PostgreSQL last counted is claimed from its old end, not fetched and sorted."""
    database = Database(postgres_url, by_index=True)
    async with database.transaction() as connection:
        await connection.run_sync(schema.metadata.create_all)
        await connection.exec_driver_sql("ALTER TABLE outbox SET (autovacuum_enabled = off)")
    bench = Bench(database)
    for start in range(0, 20 * CLAIM, CLAIM):
        await bench.commit_rows([row(start + number, f"key {number}") for number in range(1, CLAIM + 1)])
        bench.clock.advance(0.001)
    try:
        async with database.transaction() as connection:
            first = await claims.claim(connection, bench.clock.now(), bench.clock.now() + timedelta(seconds=30), ())
            query = "SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'outbox'"
            fetched = (await connection.exec_driver_sql(query)).scalar_one()
    finally:
        await bench.close()

    assert len(first.rows) == CLAIM
    assert fetched <= 4 * CLAIM
