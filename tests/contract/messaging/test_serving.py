"""Running a participant on both databases: every command is acted on once, and always answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid5

import pytest
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession

from contracts.message import Event
from messaging import schema
from messaging.outbox import emit
from messaging.participant import Participant, RetryLater
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
    await bench.flush()

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
    await bench.flush()
    bench.clock.advance(3600)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.flush()

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
    await bench.flush()

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
    await bench.flush()

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


async def test_a_command_nobody_here_handles_is_a_dead_letter(bench: Bench) -> None:
    """A message that is known to the registry but has no handler is not lost."""
    participant = packer()
    participant.registry.add(Ordered)
    await bench.serve(participant)
    await bench.handle(bench.delivery(Ordered(parcel="p1"), id=_id(7)))

    assert await bench.letters() == [("unhandled", str(_id(7)))]


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
    async with asyncio.timeout(30):
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
    await bench.until_status(7, "done")
    await bench.flush()

    assert [json.loads(each.body)["data"] for each in bench.bus.published] == [{"parcel": "p1", "reason": "closed"}]
    assert await bench.letters() == []


async def test_after_its_attempts_a_message_without_otherwise_is_a_dead_letter(bench: Bench) -> None:
    """With the number of tries and the last reason, announced on the broker."""
    participant, _ = _moody(RetryLater("closed", attempts=1))
    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.flush()

    (letter,) = await bench.rows(schema.dead_letter)
    assert (letter.reason, letter.message_id, letter.queue) == ("retries_exhausted", str(_id(7)), "depot.in")
    assert letter.error == "tried once since 2026-03-01T12:00:00+00:00; the last time: closed"
    (announced,) = bench.bus.published
    assert (announced.exchange, announced.routing_key) == ("amends.dead-letters", "depot.retries_exhausted")
    assert json.loads(json.loads(announced.body)["data"]["body"])["data"] == {"parcel": "p1", "note": ""}


async def test_an_otherwise_that_the_contract_does_not_name_is_a_dead_letter(bench: Bench) -> None:
    """No answer leaves that nobody awaits."""
    participant, _ = _moody(RetryLater("closed", attempts=1, otherwise=Ordered(parcel="p1")))
    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.flush()

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
    await bench.flush()

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
    await bench.flush()

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
    await bench.flush()

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


async def test_whoever_keeps_a_batchs_session_can_do_nothing_with_it(bench: Bench) -> None:
    """The connection that it was on is another batch's by then."""
    kept: list[AsyncSession] = []
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        kept.append(db)
        return Packed(parcel=command.parcel)

    await bench.serve(participant)
    await bench.handle(bench.delivery(Pack(parcel="p1")))
    with pytest.raises(InvalidRequestError, match="closed"):
        await note(kept[0], "p1", "late")
    await bench.handle(bench.delivery(Pack(parcel="p2")))
    assert (await done(bench.database), await bench.letters()) == ([], [])
