"""Commands whose handler calls the outside world: no transaction meanwhile, and one effect for each command."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from messaging import outside, schema
from messaging.participant import Participant, RetryLater
from messaging.serving import ParticipantConsumer
from tests.contract.messaging.bench import NOON, Bench
from tests.contract.messaging.parcels import Pack, Packed, Refused, Unpack, Unpacked, done, note


def _id(number: int) -> UUID:
    return UUID(int=number)


class Gateway:
    """The outside world: notes who calls with which key, and answers when it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, UUID]] = []
        self.open = asyncio.Event()
        self.now = 0
        self.most = 0
        self.moods: list[Exception] = []

    async def call(self, parcel: str, key: UUID) -> None:
        self.calls.append((parcel, key))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.open.wait()
            if self.moods:
                raise self.moods.pop(0)
        finally:
            self.now -= 1

    def participant(self, *, time_limit: float = 10, concurrency: int = 20) -> Participant:
        """Packs through the gateway, and records in the transaction of the answer."""
        participant = Participant("depot")

        async def record(command: Pack, answer: Packed | Refused, db: AsyncSession) -> None:
            await note(db, command.parcel, "recorded")
            if command.note == "bad":
                raise ValueError("cannot be recorded")

        @participant.handles_outside(
            Pack, time_limit=timedelta(seconds=time_limit), concurrency=concurrency, record=record
        )
        async def pack(command: Pack, key: UUID) -> Packed | Refused:
            await self.call(command.parcel, key)
            return Packed(parcel=command.parcel)

        @participant.handles_outside(Unpack, time_limit=timedelta(seconds=time_limit))
        async def unpack(command: Unpack, key: UUID) -> Unpacked:
            await self.call(f"un{command.parcel}", key)
            return Unpacked(parcel=command.parcel)

        return participant


async def test_a_call_outside_is_made_with_the_command_id_and_answered_with_its_record(bench: Bench) -> None:
    """The command waits as started while the call runs; answer, inbox and record then commit together."""
    gateway = Gateway()
    await bench.serve(gateway.participant())
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    assert await bench.statuses() == {7: "started"}
    assert await done(bench.database) == []

    gateway.open.set()
    await bench.until_status(7, "done")
    # Offered once the commit has returned, which who reads the row may notice before.
    await bench.until(lambda: bool(bench.relay.on_their_way), "the answer is offered")
    await bench.flush()

    assert gateway.calls == [("p1", _id(7))]
    assert await done(bench.database) == [("p1", "recorded")]
    assert [each.type for each in bench.bus.published] == ["parcel.packed"]
    assert await bench.rows(schema.deferred) == []


async def test_a_crash_between_call_and_commit_repeats_the_call_with_the_same_key(bench: Bench) -> None:
    """Another process finds the command when its lease has run out, and calls again with its id."""
    gateway = Gateway()
    await bench.serve(gateway.participant(time_limit=10))
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.until(lambda: len(gateway.calls) == 1, "the first call")
    # What a crash leaves behind: the rows, and nothing in memory.
    assert isinstance(bench.consumer, ParticipantConsumer)
    await bench.consumer.calls.close()

    await bench.pass_time(lambda: bench.clock.now() >= NOON + timedelta(seconds=39), "the lease holds", step=1)
    assert len(gateway.calls) == 1
    gateway.open.set()
    await bench.pass_time(lambda: len(gateway.calls) == 2, "the second call", step=1)
    await bench.until_status(7, "done")

    assert gateway.calls == [("p1", _id(7)), ("p1", _id(7))]
    assert await done(bench.database) == [("p1", "recorded")]


async def test_a_call_that_takes_too_long_is_put_off(bench: Bench) -> None:
    """The time limit ends the call; the command is tried again later."""
    gateway = Gateway()
    await bench.serve(gateway.participant(time_limit=0.02))
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.until_status(7, "deferred")

    (row,) = await bench.rows(schema.deferred)
    assert (row.last_error, row.attempts) == ("no answer from outside within 0.02 s", 1)
    assert gateway.now == 0


async def test_what_a_call_outside_raises_is_decided_like_any_handlers_error(bench: Bench) -> None:
    """RetryLater waits, the network waits, anything else is a dead letter."""
    gateway = Gateway()
    gateway.open.set()
    gateway.moods = [RetryLater("busy"), ConnectionResetError("gone"), ValueError("no such card")]
    await bench.serve(gateway.participant(concurrency=1))
    await bench.handle(*[bench.delivery(Pack(parcel=f"p{number}"), id=_id(number)) for number in (1, 2, 3)])
    for number, status in ((1, "deferred"), (2, "deferred"), (3, "failed")):
        await bench.until_status(number, status)

    assert [row.last_error for row in await bench.rows(schema.deferred, schema.deferred.c.message_id)] == [
        "busy",
        "ConnectionResetError: gone",
    ]
    assert await bench.letters() == [("handler_failed", str(_id(3)))]


async def test_a_record_that_fails_undoes_the_answer_and_buries_the_command(bench: Bench) -> None:
    """Record and answer stand or fall together."""
    gateway = Gateway()
    gateway.open.set()
    await bench.serve(gateway.participant())
    await bench.handle(bench.delivery(Pack(parcel="p1", note="bad"), id=_id(7)))
    await bench.until_status(7, "failed")
    await bench.flush()

    assert await done(bench.database) == []
    assert [each.type for each in bench.bus.published] == ["amends.dead_lettered"]


async def test_calls_outside_run_side_by_side_up_to_their_bound(bench: Bench) -> None:
    """Thirty commands, three at a time."""
    gateway = Gateway()
    await bench.serve(gateway.participant(concurrency=3))
    await bench.handle(*[bench.delivery(Pack(parcel=f"p{number}")) for number in range(30)])
    await bench.until(lambda: gateway.now == 3, "three calls run")
    gateway.open.set()
    await bench.until(lambda: len(gateway.calls) == 30, "all have been called")

    assert gateway.most == 3


async def test_commands_that_wait_for_a_call_outside_are_bounded_in_memory(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past a bound, commands wait in the table and not in the process; all are called in the end, once each."""
    monkeypatch.setattr(outside, "MOST_HELD", 20)
    gateway = Gateway()
    await bench.serve(gateway.participant(concurrency=1))
    assert isinstance(bench.consumer, ParticipantConsumer)
    for start in range(0, 90, 30):
        await bench.handle(*[bench.delivery(Pack(parcel=f"p{start + place}")) for place in range(30)])
    assert len(bench.consumer.calls) == 20

    gateway.open.set()
    await bench.pass_time(lambda: len(gateway.calls) >= 90, "all have been called", step=1)
    assert len({parcel for parcel, _ in gateway.calls}) == 90
    assert len(gateway.calls) == 90


async def test_a_compensation_waits_for_a_command_that_is_under_way_outside(bench: Bench) -> None:
    """Nobody undoes what is just being done: first the call ends, then the compensation runs."""
    gateway = Gateway()
    await bench.serve(gateway.participant())
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.handle(bench.delivery(Unpack(parcel="p1"), id=_id(8), compensates=_id(7)))
    assert await bench.statuses() == {7: "started", 8: "deferred"}
    assert [parcel for parcel, _ in gateway.calls] == ["p1"]

    gateway.open.set()
    await bench.until_status(7, "done")
    await bench.pass_time(lambda: len(gateway.calls) == 2, "the compensation is called", step=1)
    await bench.until_status(8, "done")
    assert [parcel for parcel, _ in gateway.calls] == ["p1", "unp1"]


async def test_a_compensation_in_the_batch_of_its_outside_command_waits_for_it(bench: Bench) -> None:
    """Coming together is no licence to run side by side."""
    gateway = Gateway()
    await bench.serve(gateway.participant())
    await bench.handle(
        bench.delivery(Pack(parcel="p1"), id=_id(7)),
        bench.delivery(Unpack(parcel="p1"), id=_id(8), compensates=_id(7)),
    )
    await bench.until(lambda: len(gateway.calls) == 1, "the command is called")
    assert await bench.statuses() == {7: "started", 8: "deferred"}

    gateway.open.set()
    await bench.until_status(7, "done")
    await bench.pass_time(lambda: len(gateway.calls) == 2, "the compensation is called", step=1)
    assert [parcel for parcel, _ in gateway.calls] == ["p1", "unp1"]
