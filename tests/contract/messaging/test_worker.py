"""The loop on both databases: whatever comes is handled, put off or buried once each, and harms no neighbor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Column, String, Table
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import registry

from contracts.registry import Registry
from messaging import deferred, schema
from messaging.bus import Delivery
from messaging.consumer import Act, Batch
from messaging.deferred import DeferredRow
from messaging.envelope import CONTENT_TYPE, MAX_BODY
from messaging.participant import Participant, RetryLater
from messaging.received import Received, Tick, Unreadable, read
from messaging.work import Work
from tests.contract.messaging.away import Away
from tests.contract.messaging.bench import Bench, numbers, row, statements, until
from tests.contract.messaging.parcels import Ordered, Pack, Packed, Refused, Unpack, done, note, packer


def _breaking(*broken: int) -> Participant:
    """Packs every parcel but these, at which it raises."""
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        await note(db, command.parcel, "packed")
        if int(command.parcel) in broken:
            raise ValueError(f"parcel {command.parcel} leaks")
        return Packed(parcel=command.parcel)

    return participant


@pytest.mark.parametrize("broken", [(7,), (0,), (49,), (0, 1, 2), (3, 24, 25, 48), tuple(range(50))])
async def test_a_batch_is_taken_apart_until_the_culprits_stand_alone(bench: Bench, broken: tuple[int, ...]) -> None:
    """Of fifty commands exactly those that raise become dead letters; the effects of all others commit."""
    await bench.serve(_breaking(*broken))
    deliveries = [bench.delivery(Pack(parcel=str(number)), id=UUID(int=1000 + number)) for number in range(50)]

    await bench.handle(*deliveries)
    await bench.flush()

    good = [number for number in range(50) if number not in broken]
    assert sorted(int(parcel) for parcel, _ in await done(bench.database)) == good
    assert sorted(await bench.letters()) == [("handler_failed", str(UUID(int=1000 + number))) for number in broken]
    assert len(bench.bus.sent("parcel.packed")) == len(good)
    assert [each.routing_key for each in bench.bus.sent("amends.dead_lettered")] == ["depot.handler_failed"] * len(
        broken
    )
    assert len(bench.bus.settled) == 50


async def test_rows_that_fail_only_at_flush_are_found_too(bench: Bench) -> None:
    """A row that the database refuses when the session is flushed condemns its own message alone."""
    participant = Participant("depot")

    class Shelf:
        pass

    mapping = registry()
    shelves = Table("shelf", mapping.metadata, Column("parcel", String(40), primary_key=True))
    mapping.map_imperatively(Shelf, shelves)
    async with bench.database.transaction() as connection:
        await connection.run_sync(mapping.metadata.create_all)

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        shelf = Shelf()
        shelf.parcel = None if command.note == "nowhere" else command.parcel  # type: ignore[attr-defined]
        db.add(shelf)
        return Packed(parcel=command.parcel)

    await bench.serve(participant)
    deliveries = [
        bench.delivery(Pack(parcel=str(number), note="nowhere" if number == 23 else ""), id=UUID(int=100 + number))
        for number in range(50)
    ]
    await bench.handle(*deliveries)

    assert await bench.letters() == [("handler_failed", str(UUID(int=123)))]
    assert len(await bench.rows(shelves)) == 49


async def test_a_batch_in_which_every_message_fails_is_no_deeper_than_one(sqlite_bench: Bench) -> None:
    """Five hundred commands that all fail are each put off for their own reason, not for a lack of stack."""
    bench = sqlite_bench
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        raise RetryLater("the depot is closed")

    worker = await bench.serve(participant, batch_size=500)
    worker._lanes[0].sizing.now = 500
    bench.bus.hand_over([bench.delivery(Pack(parcel=str(number))) for number in range(500)])
    await bench.until(lambda: len(bench.bus.settled) == 500, "all are settled")

    assert await bench.letters() == []
    assert {row.last_error for row in await bench.rows(schema.deferred)} == {"the depot is closed"}
    assert len(await bench.rows(schema.deferred)) == 500


async def test_the_next_batch_commits_while_the_last_ones_answers_are_unconfirmed(bench: Bench) -> None:
    """Nobody waits for the broker's confirmations but the relay: the next batch is handled and acknowledged meanwhile,
    and its answers leave behind those of the last.
    """
    await bench.serve(packer())
    bench.bus.gate = asyncio.Event()
    publishing = asyncio.create_task(bench.relay.run())
    first, second = (bench.delivery(Pack(parcel=parcel), correlation_id=parcel) for parcel in ("one", "two"))
    await bench.handle(first)
    await bench.until(lambda: len(bench.bus.published) == 1, "the first answer is on its way")
    await bench.handle(second)

    assert bench.bus.settled == [first.tag, second.tag]
    assert len(bench.bus.published) == 1
    assert len(await bench.rows(schema.outbox)) == 2
    bench.bus.gate.set()
    await bench.until(lambda: len(bench.bus.published) == 2, "the second answer has left")
    assert [each.correlation_id for each in bench.bus.published] == ["one", "two"]
    bench.relay.stop()
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)


async def test_batches_grow_while_the_queue_fills_them(bench: Bench) -> None:
    """What lies in the queue leaves in ever larger transactions, up to the setting."""
    sizes: list[int] = []
    participant = Participant("depot")

    @participant.handles_batch(Pack)
    async def pack(commands: Sequence[Pack], db: AsyncSession) -> Sequence[Packed | Refused]:
        sizes.append(len(commands))
        return [Packed(parcel=each.parcel) for each in commands]

    await bench.serve(participant, batch_size=300)
    bench.bus.hand_over([bench.delivery(Pack(parcel=str(number))) for number in range(900)])
    await bench.until(lambda: len(bench.bus.settled) == 900, "all are settled")

    assert sizes == [100, 200, 300, 300]


_HOSTILE: list[tuple[str, bytes, dict[str, Any]]] = [
    ("malformed", b"\xff\xfe\x00", {}),
    ("malformed", b"{", {}),
    ("malformed", b'{"parcel":"\\u0000"}', {"message_id": "1"}),
    ("malformed", b'{"parcel":"1","parcel":"2"}', {"message_id": "2"}),
    ("malformed", b"[" * 40 + b"]" * 40, {"message_id": "3"}),
    ("malformed", b"{}", {"malformed": "the header frame is no UTF-8", "message_id": "a\ud800\x00"}),
    ("malformed", b'{"parcel":"1"}', {"message_id": "5", "correlation_id": "a\x00b"}),
    ("malformed", b'{"parcel":"1"}', {"message_id": "6", "headers": {"dataversion": "²"}}),
    ("oversized", b"x" * (MAX_BODY + 1), {"message_id": "7"}),
    ("oversized", b"{}", {"message_id": "8", "headers": {"x": "y" * 20_000}}),
    ("forbidden_header", b"{}", {"message_id": "9", "headers": {"CC": "order.paid"}}),
    ("unknown", b"{}", {"message_id": "10", "type": "parcel.burn"}),
    ("unknown", b'{"parcel":"1"}', {"message_id": "11", "headers": {"dataversion": 2}}),
    ("invalid", b'{"parcel":1}', {"message_id": "12"}),
    ("invalid", b"[]", {"message_id": "13"}),
    ("malformed", b"\x01" * 60_000, {"message_id": "14"}),
    ("malformed", b"x" * 100_000 + b"1", {}),
    ("malformed", b"x" * 100_000 + b"2", {}),
]


async def test_hostile_messages_become_dead_letters_once_each_and_harm_no_neighbor(bench: Bench) -> None:
    """Every kind of unreadable message is kept with its own reason, however often it is delivered; good ones pass."""
    await bench.serve(packer())
    hostile = [(body, properties) for _, body, properties in _HOSTILE]
    deliveries = [bench.raw(body, **properties) for body, properties in hostile]
    again = [bench.raw(body, redelivered=True, **properties) for body, properties in hostile]
    good = [bench.delivery(Pack(parcel=f"p{number}")) for number in range(20)]

    await bench.handle(*good[:10], *deliveries, *good[10:])
    await bench.handle(*again)
    await bench.flush()

    assert [reason for reason, _ in await bench.letters()] == [reason for reason, _, _ in _HOSTILE]
    assert [row.body for row in await bench.rows(schema.dead_letter)] == [body for _, body, _ in _HOSTILE]
    assert len(await done(bench.database)) == 20
    announced = [json.loads(each.body)["data"] for each in bench.bus.sent("amends.dead_lettered")]
    assert [each["reason"] for each in announced] == [reason for reason, _, _ in _HOSTILE]
    assert all(len(each.body) <= MAX_BODY for each in bench.bus.published)
    assert bench.bus.requeued == []


async def test_bare_data_of_the_largest_size_is_handled(bench: Bench) -> None:
    """What fits the limit is a message like any other, also when its envelope makes it longer."""
    await bench.serve(packer())
    body = b'{"parcel":"p1","note":"' + b"x" * (MAX_BODY - 25) + b'"}'
    assert len(body) == MAX_BODY

    await bench.handle(bench.raw(body, message_id="1"))

    assert await done(bench.database) == [("p1", "packed")]


async def test_one_message_delivered_three_times_in_a_batch_is_handled_once(bench: Bench) -> None:
    """Duplicates in one batch are one message."""
    await bench.serve(packer())
    delivery = bench.delivery(Pack(parcel="p1"), id=UUID(int=7))
    copies = [bench.delivery(Pack(parcel="p1"), id=UUID(int=7)) for _ in range(2)]

    await bench.handle(delivery, *copies)
    await bench.flush()

    assert await done(bench.database) == [("p1", "packed")]
    assert len(bench.bus.sent("parcel.packed")) == 1


@pytest.mark.parametrize("size", [2, 100])
async def test_a_batch_takes_the_same_number_of_statements_whatever_its_size(bench: Bench, size: int) -> None:
    """What was confirmed meanwhile and the claim; the inbox, older rows of the keys and the outbox: two round trips."""
    participant = Participant("depot")

    @participant.handles_batch(Pack)
    async def pack(commands: Sequence[Pack], db: AsyncSession) -> Sequence[Packed | Refused]:
        return [Packed(parcel=each.parcel) for each in commands]

    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="first")))
    await bench.relay._publish_offered()
    with statements(bench.database) as sent:
        await bench.handle(*[bench.delivery(Pack(parcel=str(number))) for number in range(size)])

    if bench.database.dialect == "postgresql":
        assert [each.split()[0] for each in sent] == ["WITH", "WITH"]
    else:
        assert [each.split()[0] for each in sent] == ["DELETE", "SELECT", "INSERT", "SELECT", "INSERT"]


async def test_while_the_database_is_away_a_batch_waits_in_memory(bench: Bench) -> None:
    """Nothing is requeued, nothing buried; readiness tells, and the batch commits when the database is back."""
    worker = await bench.serve(packer())
    away = Away(bench)
    delivery = bench.delivery(Pack(parcel="p1"))
    bench.bus.hand_over([delivery])
    await until(lambda: worker.waiting_for is not None, "the worker says what it waits for")
    assert (worker.moving, bench.bus.settled) == (False, [])

    for _ in range(5):
        tries = away.refused + 1
        await bench.pass_time(partial(lambda tries: away.refused >= tries, tries), "it tries again")
    away.away = False
    await bench.pass_time(lambda: bench.bus.settled == [delivery.tag], "it is done")

    # It says so when the acknowledgment has gone out.
    await bench.until(lambda: worker.waiting_for is None, "it waits for nothing any more")
    assert worker.moving
    assert await done(bench.database) == [("p1", "packed")]
    assert bench.bus.requeued == []
    assert await bench.letters() == []


async def test_a_database_that_goes_away_while_a_failure_is_settled_is_waited_for(bench: Bench) -> None:
    """The dead letter of a message that failed is written when the database is back."""
    participant = Participant("depot")
    away = Away(bench)
    away.away = False

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        away.away = True
        raise ValueError("leaks")

    worker = await bench.serve(participant)
    delivery = bench.delivery(Pack(parcel="p1"), id=UUID(int=7))
    bench.bus.hand_over([delivery])
    await bench.until(lambda: not worker.moving, "it waits")
    away.away = False
    await bench.pass_time(lambda: bench.bus.settled == [delivery.tag], "it is done")

    assert await bench.letters() == [("handler_failed", str(UUID(int=7)))]


async def test_a_handler_whose_own_statement_always_times_out_stops_nobody_else(bench: Bench) -> None:
    """What looks passing but fails each time is, after some tries, its own message's matter: it is put off."""
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        await note(db, command.parcel, "packed")
        if command.parcel == "slow":
            raise OperationalError("SELECT pg_sleep(60)", {}, ConnectionError("database is locked"))
        return Packed(parcel=command.parcel)

    await bench.serve(participant)
    deliveries = [bench.delivery(Pack(parcel=name)) for name in ("p1", "slow", "p2")]
    bench.bus.hand_over(deliveries)
    await bench.pass_time(lambda: len(bench.bus.settled) == 3, "all are settled", step=1)

    assert sorted(await done(bench.database)) == [("p1", "packed"), ("p2", "packed")]
    assert [row.type for row in await bench.rows(schema.deferred)] == ["parcel.pack"]
    assert await bench.letters() == []


async def test_stopping_finishes_the_batch_in_hand_and_acknowledges_it(bench: Bench) -> None:
    """A batch that was begun is committed and acknowledged; what was not begun goes back, before that one has ended."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        begun.set()
        await go_on.wait()
        await note(db, command.parcel, "packed")
        return Packed(parcel=command.parcel)

    worker = await bench.serve(participant, batch_size=2)
    deliveries = [bench.delivery(Pack(parcel=f"p{number}")) for number in range(4)]
    bench.bus.hand_over(deliveries)
    await begun.wait()
    await worker.stop()
    assert bench.bus.settled == []
    assert bench.bus.requeued == [deliveries[2].tag, deliveries[3].tag]
    go_on.set()
    await asyncio.gather(*bench._running)

    assert bench.bus.settled == [deliveries[0].tag, deliveries[1].tag]
    assert len(bench.bus.requeued) == 2
    assert await done(bench.database) == [("p0", "packed"), ("p1", "packed")]


async def test_who_finishes_handles_all_that_it_has_in_hand_before_it_ends(bench: Bench) -> None:
    """Nothing goes back, which would count towards the queue's delivery limit."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        begun.set()
        await go_on.wait()
        await note(db, command.parcel, "packed")
        return Packed(parcel=command.parcel)

    worker = await bench.serve(participant, batch_size=2, finishes=True)
    deliveries = [bench.delivery(Pack(parcel=f"p{number}")) for number in range(5)]
    bench.bus.hand_over(deliveries)
    await begun.wait()
    await worker.stop()
    go_on.set()
    await asyncio.gather(*bench._running)

    assert bench.bus.settled == [each.tag for each in deliveries]
    assert bench.bus.requeued == []
    assert len(await done(bench.database)) == 5


async def test_who_finishes_handles_what_comes_until_the_broker_has_heard_that_it_leaves(bench: Bench) -> None:
    """What the broker has sent before it hears so is in hand as well, also where nothing was."""
    leaving, heard = asyncio.Event(), asyncio.Event()

    async def cancel() -> None:
        leaving.set()
        await heard.wait()

    worker = await bench.serve(packer(), finishes=True)
    bench.bus.cancel = cancel  # type: ignore[method-assign]
    stopping = asyncio.create_task(worker.stop())
    await leaving.wait()
    await bench.handle(bench.delivery(Pack(parcel="p1")))
    await asyncio.sleep(0)
    late = bench.delivery(Pack(parcel="p2"))
    bench.bus.hand_over([late])
    heard.set()
    await stopping
    await asyncio.gather(*bench._running)

    assert late.tag in bench.bus.settled
    assert bench.bus.requeued == []
    assert await done(bench.database) == [("p1", "packed"), ("p2", "packed")]


async def test_who_finishes_ends_where_the_database_is_away(bench: Bench) -> None:
    """What it cannot store stays on the queue, and only the first batch is tried."""
    worker = await bench.serve(packer(), batch_size=2, finishes=True)
    away = Away(bench)
    bench.bus.hand_over([bench.delivery(Pack(parcel=f"p{number}")) for number in range(5)])
    await until(lambda: not worker.moving, "a batch waits")
    await worker.stop()
    refused = away.refused
    await bench.pass_time(lambda: all(each.done() for each in bench._running), "it ends")

    assert away.refused - refused <= 1
    assert bench.bus.settled == bench.bus.requeued == []
    away.away = False


async def test_messages_of_one_key_are_handled_in_the_order_in_which_they_came(bench: Bench) -> None:
    """Grouping a batch by type never swaps two messages of one key."""
    await bench.serve(packer())
    kinds = [Pack, Unpack, Pack, Pack, Unpack]
    await bench.handle(*[bench.delivery(kind(parcel="p1"), correlation_id=None) for kind in kinds])
    await bench.flush()

    assert [what for _, what in await done(bench.database)] == ["packed", "unpacked", "packed", "packed", "unpacked"]
    assert [each.type for each in bench.bus.published] == [
        "parcel.packed",
        "parcel.unpacked",
        "parcel.packed",
        "parcel.packed",
        "parcel.unpacked",
    ]


async def test_a_deferred_row_that_older_code_cannot_read_hides_no_other(bench: Bench) -> None:
    """More unreadable rows than one look takes do not keep a readable one from its time."""

    def waiting(number: int, body: str, due: datetime) -> DeferredRow:
        return DeferredRow(UUID(int=number), "depot.in", "parcel.pack", None, body, due, due, 1, "later")

    start = bench.clock.now()
    stranger = '{"specversion":"1.0","id":"1","source":"s","type":"parcel.teleport","data":{}}'
    known = f'{{"specversion":"1.0","id":"{UUID(int=999)}","source":"s","type":"parcel.pack","data":{{"parcel":"p1"}}}}'
    async with bench.database.transaction() as connection:
        rows = [waiting(number, stranger, start - timedelta(seconds=10)) for number in range(1, 31)]
        await deferred.put_off(connection, "depot", [*rows, waiting(999, known, start)])
    await bench.serve(packer(), batch_size=10)

    async with asyncio.timeout(30):
        while not await done(bench.database):
            bench.clock.advance(1)
            await asyncio.sleep(0.005)

    assert len(await bench.rows(schema.deferred)) == 30


@dataclass(frozen=True)
class _Due:
    """Something of this correlation id is due."""

    correlation_id: str

    def __str__(self) -> str:
        return self.correlation_id


class _Ticking:
    """A consumer with a poller of its own whose ticks cannot be handled."""

    name = "depot"

    def __init__(self, *bad: str) -> None:
        self.registry = Registry([Ordered])
        self.bad = bad
        self.waiting = [_Due("one"), _Due("two"), _Due("three")]
        self.handled: list[Tick] = []

    def read(self, delivery: Delivery) -> Received | Unreadable:
        return read(delivery, self.registry)

    def begin(self, work: Work, messages: Sequence[Received], ticks: Sequence[Tick]) -> Act:
        return self.handle

    async def handle(self, work: Work, batch: Batch) -> None:
        for tick in batch.ticks:
            if tick.correlation_id in self.bad:
                raise ValueError(f"{tick} cannot be read")
        self.handled.extend(batch.ticks)

    async def fail(self, work: Work, received: Received, error: Exception) -> None:
        raise AssertionError("no message fails here")

    def concerns(self, received: Received) -> Sequence[str]:
        return ()

    async def due(
        self, connection: AsyncConnection, now: datetime, limit: int
    ) -> tuple[Sequence[Tick], datetime | None]:
        return [each for each in self.waiting if each not in self.handled], None


async def test_a_tick_that_cannot_be_handled_stops_no_other(bench: Bench) -> None:
    """A row that breaks its own deadline is left alone for a while, and everybody else's is heeded."""
    consumer = _Ticking("two")
    await bench.serve(consumer)

    await bench.until(lambda: len(consumer.handled) == 2, "the others are handled")
    assert consumer.handled == [_Due("one"), _Due("three")]
    consumer.bad = ()
    async with asyncio.timeout(30):
        while len(consumer.handled) < 3:
            bench.clock.advance(60)
            await asyncio.sleep(0.002)
    assert consumer.handled == [_Due("one"), _Due("three"), _Due("two")]


async def test_a_message_whose_dead_letter_cannot_be_written_goes_back_to_the_broker(bench: Bench) -> None:
    """The last resort for what breaks even its burial: the broker's own dead-lettering, and the worker lives."""

    class Broken(_Ticking):
        async def handle(self, work: Work, batch: Batch) -> None:
            if batch.fresh and batch.fresh[0].message == Ordered(parcel="bad"):
                raise ValueError("broken")

        async def fail(self, work: Work, received: Received, error: Exception) -> None:
            raise ValueError("broken twice")

    await bench.serve(Broken())
    bad, good = bench.delivery(Ordered(parcel="bad")), bench.delivery(Ordered(parcel="good"))
    bench.bus.hand_over([bad])
    await bench.until(lambda: bench.bus.rejected == [bad.tag], "it is rejected")
    await bench.handle(good)

    assert bench.bus.settled == [good.tag]
    assert numbers(bench.bus.published) == []


async def test_structured_events_with_a_wrong_type_property_are_read_by_their_envelope(bench: Bench) -> None:
    """The envelope inside the body decides, not what stands on its outside."""
    await bench.serve(packer())
    delivery = bench.delivery(Pack(parcel="p1"), id=UUID(int=5))
    liar = bench.raw(delivery.body, content_type=CONTENT_TYPE, message_id=str(UUID(int=6)), type="parcel.unpack")

    await bench.handle(liar)

    assert await done(bench.database) == [("p1", "packed")]
    assert await bench.statuses() == {5: "done"}


async def test_only_a_message_that_is_acted_upon_proves_that_its_cause_has_arrived(bench: Bench) -> None:
    """A repetition that names another cause than its first deletes no row that was never sent."""
    await bench.serve(packer())
    await bench.commit_rows([row(1001, "p"), row(1002, "q")], available_in=10)
    first = UUID(int=1)
    await bench.handle(bench.delivery(Pack(parcel="p"), id=first))

    again = bench.delivery(Pack(parcel="p"), id=first, causation_id=UUID(int=1001))
    fresh = bench.delivery(Pack(parcel="q"), id=UUID(int=2), causation_id=UUID(int=1002))
    await bench.handle(again, fresh)

    left = {each.message_id for each in await bench.rows(schema.outbox)}
    assert UUID(int=1001) in left
    assert UUID(int=1002) not in left
