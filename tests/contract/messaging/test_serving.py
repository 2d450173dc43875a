"""Running a participant on both databases: every command is acted on once, and always answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid5

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from contracts.message import Event
from messaging import outside, schema
from messaging.outbox import emit
from messaging.participant import Participant, RetryLater
from messaging.serving import ParticipantConsumer
from tests.contract.messaging.bench import NOON, Bench
from tests.contract.messaging.parcels import Ordered, Pack, Packed, Refused, Unpack, Unpacked, done, note, packer


def _id(number: int) -> UUID:
    return UUID(int=number)


def _moody(*moods: Exception | Event) -> tuple[Participant, list[str]]:
    """Packs, but first raises or answers these, one a call."""
    participant = Participant("depot")
    left = list(moods)
    calls: list[str] = []

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        calls.append(command.parcel)
        await note(db, command.parcel, "packed")
        mood = left.pop(0) if left else None
        if isinstance(mood, Exception):
            raise mood
        return mood if mood is not None else Packed(parcel=command.parcel)  # type: ignore[return-value]  # wrong on purpose

    @participant.handles(Unpack)
    async def unpack(command: Unpack, db: AsyncSession) -> Unpacked:
        calls.append(f"un{command.parcel}")
        return Unpacked(parcel=command.parcel)

    return participant, calls


async def test_a_command_is_answered_once_with_ids_derived_from_it(bench: Bench) -> None:
    """The answer carries the command's correlation, its cause and an id that a repetition would derive again."""
    await bench.serve(packer())
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7), correlation_id="saga-9"))
    await bench.relay.flush()

    (answer,) = bench.bus.published
    content = json.loads(answer.body)
    assert (answer.exchange, answer.routing_key) == ("amends.events", "parcel.packed")
    assert answer.message_id == str(uuid5(_id(7), "0"))
    assert content["causationid"] == str(_id(7))
    assert (content["correlationid"], content["partitionkey"], content["source"]) == ("saga-9", "p1", "depot")
    assert content["data"] == {"parcel": "p1"}
    assert await bench.statuses() == {7: "done"}


async def test_a_repeated_command_gets_the_stored_answer_without_running_its_handler(bench: Bench) -> None:
    """Byte by byte the same answer, and no second effect."""
    await bench.serve(packer())
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.relay.flush()
    bench.clock.advance(3600)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.relay.flush()

    first, second = bench.bus.published
    assert (first.message_id, first.body) == (second.message_id, second.body)
    assert (second.exchange, second.routing_key) == ("amends.events", "parcel.packed")
    assert await done(bench.database) == [("p1", "packed")]


async def test_an_event_handler_runs_once_and_answers_nothing(bench: Bench) -> None:
    """Events are reacted to once; what the handler emits names the event as its cause."""
    participant = Participant("depot")

    @participant.on(Ordered)
    async def ordered(event: Ordered, db: AsyncSession) -> None:
        await note(db, event.parcel, "ordered")
        emit(db, Packed(parcel=event.parcel))

    await bench.serve(participant)
    for _ in range(2):
        await bench.handle(bench.delivery(Ordered(parcel="p1"), id=_id(3)))
    await bench.relay.flush()

    assert await done(bench.database) == [("p1", "ordered")]
    (emitted,) = bench.bus.published
    content = json.loads(emitted.body)
    assert (content["causationid"], content["correlationid"], content["source"]) == (str(_id(3)), "saga-1", "depot")


async def test_a_batch_handler_gets_all_of_one_type_and_answers_in_order(bench: Bench) -> None:
    """One call a batch; each answer goes to the command in its place, and a RetryLater puts its command off."""
    participant = Participant("depot")
    calls: list[list[str]] = []

    @participant.handles_batch(Pack)
    async def pack(commands: Sequence[Pack], db: AsyncSession) -> Sequence[Packed | Refused | RetryLater]:
        calls.append([each.parcel for each in commands])
        return [RetryLater("not today") if each.parcel == "p2" else Packed(parcel=each.parcel) for each in commands]

    await bench.serve(participant)
    await bench.handle(*[bench.delivery(Pack(parcel=f"p{number}"), id=_id(number)) for number in (1, 2, 3)])
    await bench.relay.flush()

    assert calls == [["p1", "p2", "p3"]]
    assert [json.loads(each.body)["causationid"] for each in bench.bus.published] == [str(_id(1)), str(_id(3))]
    assert await bench.statuses() == {1: "done", 2: "deferred", 3: "done"}


async def test_a_batch_handler_with_too_few_answers_condemns_nobody_wrongly(bench: Bench) -> None:
    """The batch is taken apart, and each command that is answered alone is answered."""
    participant = Participant("depot")

    @participant.handles_batch(Pack)
    async def pack(commands: Sequence[Pack], db: AsyncSession) -> Sequence[Packed | Refused]:
        return [Packed(parcel=each.parcel) for each in commands if each.parcel != "p2"]

    await bench.serve(participant)
    await bench.handle(*[bench.delivery(Pack(parcel=f"p{number}"), id=_id(number)) for number in (1, 2, 3)])

    assert await bench.statuses() == {1: "done", 2: "failed", 3: "done"}


# -- not now -------------------------------------------------------------------------------------------------


async def test_retry_later_undoes_the_message_and_tries_again_with_backoff(bench: Bench) -> None:
    """Nothing of a try that was put off remains; the waits double from one second."""
    participant, calls = _moody(RetryLater("closed"), RetryLater("closed"), RetryLater("closed"))
    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))

    waits = []
    for attempt in (1, 2, 3):
        (row,) = await bench.rows(schema.deferred)
        assert (row.attempts, row.last_error, row.first_at) == (attempt, "closed", NOON)
        waits.append(round((row.due_at - bench.clock.now()).total_seconds()))
        assert await done(bench.database) == []
        again = partial(lambda tries: len(calls) > tries, len(calls))
        # To the moment at once, then by so little that the try after this one cannot become due meanwhile.
        bench.clock.advance(waits[-1])
        await bench.pass_time(again, "it is tried again", step=0.05)
        await _settled(bench, attempt)

    assert waits == [1, 2, 4]
    assert await done(bench.database) == [("p1", "packed")]
    assert await bench.rows(schema.deferred) == []
    assert await bench.statuses() == {7: "done"}


async def _settled(bench: Bench, attempt: int) -> None:
    """Wait until the try after this attempt has been committed."""
    async with asyncio.timeout(20):
        while (rows := await bench.rows(schema.deferred)) and rows[0].attempts == attempt:  # noqa: ASYNC110 - a row
            await asyncio.sleep(0.002)


async def test_retry_later_may_name_its_own_wait(bench: Bench) -> None:
    """`after` is heeded to the second."""
    participant, _ = _moody(RetryLater("on hold", after=timedelta(minutes=7)))
    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1")))

    (row,) = await bench.rows(schema.deferred)
    assert row.due_at == NOON + timedelta(minutes=7)


async def test_after_its_attempts_a_message_is_answered_otherwise(bench: Bench) -> None:
    """`otherwise` is the answer of the last try."""
    refusal = Refused(parcel="p1", reason="closed")
    mood = RetryLater("closed", attempts=2, otherwise=refusal)
    participant, calls = _moody(mood, mood)
    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.pass_time(lambda: len(calls) >= 2, "it is tried again", step=1)
    await _status(bench, 7, "done")
    await bench.relay.flush()

    assert [json.loads(each.body)["data"] for each in bench.bus.published] == [{"parcel": "p1", "reason": "closed"}]
    assert await bench.letters() == []


async def test_after_its_attempts_a_message_without_otherwise_is_a_dead_letter(bench: Bench) -> None:
    """With the number of tries and the last reason, announced on the broker."""
    participant, _ = _moody(RetryLater("closed", attempts=1))
    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.relay.flush()

    (letter,) = await bench.rows(schema.dead_letter)
    assert (letter.reason, letter.message_id, letter.queue) == ("retries_exhausted", str(_id(7)), "depot.in")
    assert letter.error == "tried 1 times since 2026-03-01T12:00:00+00:00; the last time: closed"
    (announced,) = bench.bus.published
    assert (announced.exchange, announced.routing_key) == ("amends.dead-letters", "depot.retries_exhausted")
    assert json.loads(json.loads(announced.body)["data"]["body"])["data"] == {"parcel": "p1", "note": ""}


async def test_an_otherwise_that_the_contract_does_not_name_is_a_dead_letter(bench: Bench) -> None:
    """No answer leaves that nobody awaits."""
    participant, _ = _moody(RetryLater("closed", attempts=1, otherwise=Ordered(parcel="p1")))
    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.relay.flush()

    assert [each.exchange for each in bench.bus.published] == ["amends.dead-letters"]
    assert await bench.statuses() == {7: "failed"}


async def test_a_network_error_puts_a_message_off_whatever_it_quotes(bench: Bench) -> None:
    """An OSError is retried; its text may hold what the database does not."""
    participant, _ = _moody(ConnectionResetError("peer said \x00\ud800"))
    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))

    (row,) = await bench.rows(schema.deferred)
    assert row.last_error == "ConnectionResetError: peer said \ufffd?"
    assert await bench.statuses() == {7: "deferred"}


async def test_an_error_of_the_handlers_own_is_a_dead_letter_with_its_traceback(bench: Bench) -> None:
    """What will not pass is buried at once, and repeating the message changes nothing."""
    participant, calls = _moody(KeyError("shelf \x00\ud800"))
    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    tries = len(calls)
    await bench.relay.flush()

    (letter,) = await bench.rows(schema.dead_letter)
    assert letter.reason == "handler_failed"
    assert "in pack" in letter.error
    assert tries == 1
    assert len(bench.bus.published) == 1


@pytest.mark.parametrize("wrong", [Ordered(parcel="p1"), Unpacked(parcel="p1")])
async def test_an_answer_the_contract_does_not_name_is_a_dead_letter(bench: Bench, wrong: Event) -> None:
    """The handler's mistake does not reach the saga."""
    participant, _ = _moody(wrong, wrong)
    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.relay.flush()

    (letter,) = await bench.rows(schema.dead_letter)
    assert "its contract names Packed or Refused" in letter.error
    assert bench.bus.sent("parcel.ordered") == []
    assert await done(bench.database) == []


# -- a compensation may overtake its command --------------------------------------------------------------------


async def test_a_command_that_comes_after_its_compensation_is_dropped(bench: Bench) -> None:
    """The compensation is answered and leaves a tombstone; the command then has no effect and no answer."""
    await bench.serve(packer())
    await bench.handle(bench.delivery(Unpack(parcel="p1"), id=_id(8), compensates=_id(7)))
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.relay.flush()

    assert await done(bench.database) == [("p1", "unpacked")]
    assert [each.type for each in bench.bus.published] == ["parcel.unpacked"]
    assert await bench.statuses() == {7: "tombstone", 8: "done"}


async def test_a_command_in_one_batch_behind_its_compensation_is_dropped(bench: Bench) -> None:
    """The order in the batch decides, and both orders end with nothing held."""
    await bench.serve(packer())
    await bench.handle(
        bench.delivery(Unpack(parcel="p1"), id=_id(8), compensates=_id(7)),
        bench.delivery(Pack(parcel="p1"), id=_id(7)),
        bench.delivery(Pack(parcel="p2"), id=_id(9)),
        bench.delivery(Unpack(parcel="p2"), id=_id(10), compensates=_id(9)),
    )

    assert await done(bench.database) == [("p1", "unpacked"), ("p2", "packed"), ("p2", "unpacked")]
    assert await bench.statuses() == {7: "tombstone", 8: "done", 9: "done", 10: "done"}


async def test_a_command_that_waits_is_dropped_by_its_compensation(bench: Bench) -> None:
    """A deferred command is never tried again once it is undone."""
    participant, calls = _moody(RetryLater("closed"), RetryLater("closed"))
    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.handle(bench.delivery(Unpack(parcel="p1"), id=_id(8), compensates=_id(7)))
    assert await bench.rows(schema.deferred) == []
    await bench.pass_time(lambda: bench.clock.now() > NOON + timedelta(hours=1), "an hour has passed")

    assert await bench.statuses() == {7: "tombstone", 8: "done"}
    assert calls == ["p1", "unp1"]


async def test_a_command_put_off_in_the_batch_of_its_compensation_is_dropped(bench: Bench) -> None:
    """A batch handler's RetryLater does not let a command outlive its compensation."""
    participant = Participant("depot")
    calls: list[str] = []

    @participant.handles_batch(Pack)
    async def pack(commands: Sequence[Pack], db: AsyncSession) -> Sequence[Packed | Refused | RetryLater]:
        calls.extend(each.parcel for each in commands)
        return [RetryLater("not today") for _ in commands]

    @participant.handles_batch(Unpack)
    async def unpack(commands: Sequence[Unpack], db: AsyncSession) -> Sequence[Unpacked]:
        return [Unpacked(parcel=each.parcel) for each in commands]

    await bench.serve(participant)
    await bench.handle(
        bench.delivery(Pack(parcel="p1"), id=_id(7)),
        bench.delivery(Unpack(parcel="p1"), id=_id(8), compensates=_id(7)),
    )

    assert await bench.statuses() == {7: "tombstone", 8: "done"}
    assert await bench.rows(schema.deferred) == []


# -- outside -------------------------------------------------------------------------------------------------------


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


async def _status(bench: Bench, number: int, status: str) -> None:
    async with asyncio.timeout(20):
        while (await bench.statuses()).get(number) != status:
            for task in bench._running:
                if task.done():
                    task.result()
            await asyncio.sleep(0.002)


async def test_a_call_outside_is_made_with_the_command_id_and_answered_with_its_record(bench: Bench) -> None:
    """The command waits as started while the call runs; answer, inbox and record then commit together."""
    gateway = Gateway()
    await bench.serve(gateway.participant())
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    assert await bench.statuses() == {7: "started"}
    assert await done(bench.database) == []

    gateway.open.set()
    await _status(bench, 7, "done")
    await bench.relay.flush()

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
    await _status(bench, 7, "done")

    assert gateway.calls == [("p1", _id(7)), ("p1", _id(7))]
    assert await done(bench.database) == [("p1", "recorded")]


async def test_a_call_that_takes_too_long_is_put_off(bench: Bench) -> None:
    """The time limit ends the call; the command is tried again later."""
    gateway = Gateway()
    await bench.serve(gateway.participant(time_limit=0.02))
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await _status(bench, 7, "deferred")

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
        await _status(bench, number, status)

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
    await _status(bench, 7, "failed")
    await bench.relay.flush()

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
    await _status(bench, 7, "done")
    await bench.pass_time(lambda: len(gateway.calls) == 2, "the compensation is called", step=1)
    await _status(bench, 8, "done")
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
    await _status(bench, 7, "done")
    await bench.pass_time(lambda: len(gateway.calls) == 2, "the compensation is called", step=1)
    assert [parcel for parcel, _ in gateway.calls] == ["p1", "unp1"]


async def test_a_command_nobody_here_handles_is_a_dead_letter(bench: Bench) -> None:
    """A message that is known to the registry but has no handler is not lost."""
    participant = packer()
    participant.registry.add(Ordered)
    await bench.serve(participant)
    await bench.handle(bench.delivery(Ordered(parcel="p1"), id=_id(7)))

    assert await bench.letters() == [("unhandled", str(_id(7)))]
