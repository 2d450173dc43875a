"""Messages that come again after they had become dead letters: the service in which they died tries them again."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from contracts.message import Event
from messaging import pruning, schema
from messaging.bus import Delivery
from messaging.dead_letters import letter_id
from messaging.participant import Participant, RetryLater
from messaging.senders import Senders
from messaging.serving import ParticipantConsumer
from tests.contract.messaging.bench import Bench
from tests.contract.messaging.parcels import Ordered, Pack, Packed, Refused, done, note, packer

SEVEN = UUID(int=7)


class _Reader:
    """Notes every order it hears of, or fails at it as long as it is told to."""

    def __init__(self) -> None:
        self.says: Exception | None = ValueError("no shelf")
        self.participant = Participant("depot")

        @self.participant.on(Ordered)
        async def ordered(event: Ordered, db: AsyncSession) -> None:
            await note(db, event.parcel, "ordered")
            if self.says is not None:
                raise self.says


def _again(bench: Bench, delivery: Delivery, letter: UUID) -> Delivery:
    """The same message, sent again by a person."""
    body = delivery.body.replace(b"{", b'{"redrives":"%s",' % str(letter).encode(), 1)
    return replace(delivery, tag=bench.bus.tag(), body=body)


async def _letter(bench: Bench) -> UUID:
    (row,) = await bench.rows(schema.dead_letter)
    letter: UUID = row.letter_id
    return letter


async def _told(bench: Bench) -> list[tuple[str, str]]:
    """What was announced of which letter, in order."""
    await bench.flush()
    told = [each for each in bench.bus.published if each.exchange == "amends.dead-letters"]
    return [(each.routing_key, json.loads(each.body)["data"]["letter_id"]) for each in told]


async def test_an_event_that_failed_is_handled_when_it_is_sent_again(bench: Bench) -> None:
    """Once, however often that is delivered; its row goes, and both are announced of one letter."""
    reader = _Reader()
    await bench.serve(reader.participant)
    event = bench.delivery(Ordered(parcel="p1"), id=SEVEN)
    await bench.handle(event)
    letter = await _letter(bench)
    reader.says = None
    bench.clock.advance(1)

    await bench.handle(_again(bench, event, letter))
    await bench.handle(_again(bench, event, letter))

    assert await done(bench.database) == [("p1", "ordered")]
    assert await bench.letters() == []
    assert await bench.statuses() == {7: "done"}
    first, *rest = await _told(bench)
    assert first == ("depot.handler_failed", str(letter))
    assert set(rest) == {("depot.handled", str(letter))}


async def test_a_mere_repetition_of_an_event_that_failed_is_dropped(bench: Bench) -> None:
    """The broker's duplicate of a dead letter makes no second one, and runs no handler."""
    reader = _Reader()
    await bench.serve(reader.participant)
    event = bench.delivery(Ordered(parcel="p1"), id=SEVEN)
    await bench.handle(event)
    reader.says = None

    await bench.handle(replace(event, tag=bench.bus.tag(), redelivered=True))

    assert await done(bench.database) == []
    assert await bench.letters() == [("handler_failed", str(SEVEN))]
    assert [key for key, _ in await _told(bench)] == ["depot.handler_failed"]


async def test_a_redrive_meant_for_another_service_is_dropped_here(bench: Bench) -> None:
    """An event of which two services made a dead letter is tried again in the one whose letter was sent again."""
    reader = _Reader()
    await bench.serve(reader.participant)
    event = bench.delivery(Ordered(parcel="p1"), id=SEVEN)
    await bench.handle(event)
    reader.says = None

    await bench.handle(_again(bench, event, UUID(int=12345)))

    assert await done(bench.database) == []
    assert await bench.letters() == [("handler_failed", str(SEVEN))]


async def test_what_fails_again_is_the_same_letter(bench: Bench) -> None:
    """One row with the latest error, one letter id, and an announcement of each failure."""
    reader = _Reader()
    await bench.serve(reader.participant)
    event = bench.delivery(Ordered(parcel="p1"), id=SEVEN)
    await bench.handle(event)
    letter = await _letter(bench)
    reader.says = ValueError("no roof")
    bench.clock.advance(1)

    await bench.handle(_again(bench, event, letter))

    (row,) = await bench.rows(schema.dead_letter)
    assert (row.letter_id, "no roof" in row.error, row.state) == (letter, True, "open")
    assert await _told(bench) == [("depot.handler_failed", str(letter))] * 2
    assert len({each.message_id for each in bench.bus.published}) == 2


async def test_a_command_that_fails_each_time_has_one_row(bench: Bench) -> None:
    """Its saga sends it for ever; the table does not grow with that."""
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        raise ValueError("no shelf")

    await bench.serve(participant)
    command = bench.delivery(Pack(parcel="p1"), id=SEVEN)
    for _ in range(3):
        await bench.handle(replace(command, tag=bench.bus.tag()))
        bench.clock.advance(1)

    assert await bench.letters() == [("handler_failed", str(SEVEN))]
    assert [key for key, _ in await _told(bench)] == ["depot.handler_failed"] * 3


async def test_a_command_that_is_handled_at_last_leaves_no_letter(bench: Bench) -> None:
    """Also when its saga sent it again and no person did; the orchestrator is told."""
    participant = Participant("depot")
    broken = True

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        if broken:
            raise ValueError("no shelf")
        return Packed(parcel=command.parcel)

    await bench.serve(participant)
    command = bench.delivery(Pack(parcel="p1"), id=SEVEN)
    await bench.handle(command)
    broken = False
    bench.clock.advance(1)
    await bench.handle(replace(command, tag=bench.bus.tag()))

    assert await bench.letters() == []
    assert [key for key, _ in await _told(bench)] == ["depot.handler_failed", "depot.handled"]
    assert len(bench.bus.sent("parcel.packed")) == 1


async def test_a_letter_that_is_put_off_stays_until_it_is_handled(bench: Bench) -> None:
    """Tried again and not now is neither handled nor dead; from `deferred` it is handled, and then the row goes."""
    reader = _Reader()
    await bench.serve(reader.participant)
    event = bench.delivery(Ordered(parcel="p1"), id=SEVEN)
    await bench.handle(event)
    letter = await _letter(bench)
    reader.says = RetryLater("the depot is closed", after=timedelta(seconds=30))
    bench.clock.advance(1)
    await bench.handle(_again(bench, event, letter))
    assert await bench.statuses() == {7: "deferred"}
    assert await bench.letters() == [("handler_failed", str(SEVEN))]

    reader.says = None
    async with asyncio.timeout(30):
        while await bench.letters():
            bench.clock.advance(5)
            await asyncio.sleep(0.005)

    assert await done(bench.database) == [("p1", "ordered")]
    assert [key for key, _ in await _told(bench)] == ["depot.handler_failed", "depot.handled"]


class Burned(Event, type="parcel.burned"):
    parcel: str


@pytest.mark.parametrize("native", [False, True], ids=["structured", "plain"])
async def test_an_unknown_message_is_handled_once_its_reader_is_deployed(bench: Bench, native: bool) -> None:
    """Unreadable when it came, however it was written; sent again as a structured event, it is handled."""
    await bench.serve(packer())
    structured = bench.delivery(Burned(parcel="p1"), id=SEVEN, correlation_id=None)
    plain = bench.raw(
        b'{"parcel":"p1"}', message_id=str(SEVEN), type="parcel.burned", app_id="tester", content_type=None
    )
    await bench.handle(plain if native else structured)
    letter = await _letter(bench)
    assert await bench.letters() == [("unknown", str(SEVEN))]
    bench.clock.advance(1)
    await bench.handle(_again(bench, structured, letter))
    assert await bench.letters() == [("unknown", str(SEVEN))]
    assert await _told(bench) == [("depot.unknown", str(letter))] * 2
    await bench.retire()

    reader = packer()

    @reader.on(Burned)
    async def burned(event: Burned, db: AsyncSession) -> None:
        await note(db, event.parcel, "burned")

    await bench.serve(reader)
    bench.clock.advance(1)
    await bench.handle(_again(bench, structured, letter))

    assert await done(bench.database) == [("p1", "burned")]
    assert await bench.letters() == []
    assert (await _told(bench))[-1] == ("depot.handled", str(letter))


async def test_a_correction_takes_the_place_of_what_died(bench: Bench) -> None:
    """A new message that names the letter: handled, the old row goes; failing, it is the same letter with its text."""
    reader = _Reader()
    await bench.serve(reader.participant)
    await bench.handle(bench.delivery(Ordered(parcel="p1"), id=SEVEN))
    letter = await _letter(bench)
    corrected = bench.delivery(Ordered(parcel="p2"), id=UUID(int=8))
    bench.clock.advance(1)
    await bench.handle(_again(bench, corrected, letter))

    (row,) = await bench.rows(schema.dead_letter)
    assert (row.letter_id, row.message_id, b'"p2"' in row.body) == (letter, str(UUID(int=8)), True)
    reader.says = None
    bench.clock.advance(1)
    await bench.handle(_again(bench, corrected, letter))

    assert await done(bench.database) == [("p2", "ordered")]
    assert await bench.letters() == []
    assert await bench.statuses() == {7: "failed", 8: "done"}


async def _forgotten(bench: Bench) -> None:
    """Let everything be pruned that may be."""
    bench.clock.advance(timedelta(days=40).total_seconds())
    await pruning.prune(bench.database, pruning.cutoff(timedelta(days=7), bench.clock.now()))
    assert await bench.statuses() == {}


async def test_another_services_redrive_is_dropped_where_the_event_was_handled_and_forgotten(bench: Bench) -> None:
    """Its inbox entry is gone, so that only the letter's name tells that it is meant for somebody else."""
    reader = _Reader()
    reader.says = None
    await bench.serve(reader.participant)
    event = bench.delivery(Ordered(parcel="p1"), id=SEVEN)
    await bench.handle(event)
    await _forgotten(bench)

    await bench.handle(_again(bench, event, letter_id(str(SEVEN), "billing")))

    assert await done(bench.database) == [("p1", "ordered")]
    assert await bench.statuses() == {}


async def test_another_services_redrive_makes_no_dead_letter_of_what_cannot_be_read(bench: Bench) -> None:
    """Whoever does not speak its type does not complain of it a second time."""
    await bench.serve(packer())
    event = bench.delivery(Burned(parcel="p1"), id=SEVEN)

    await bench.handle(_again(bench, event, letter_id(str(SEVEN), "billing")))

    assert await bench.letters() == []
    assert await _told(bench) == []


@pytest.mark.parametrize("reason", ["unknown", "handler_failed"])
async def test_a_redrive_is_handled_where_its_letter_has_been_pruned(bench: Bench, reason: str) -> None:
    """The name that this service gave it says whose letter it is, whatever it died of."""
    reader = packer() if reason == "unknown" else _Reader().participant
    await bench.serve(reader)
    event = bench.delivery(Burned(parcel="p1") if reason == "unknown" else Ordered(parcel="p1"), id=SEVEN)
    await bench.handle(event)
    assert await bench.letters() == [(reason, str(SEVEN))]
    letter = await _letter(bench)
    await _forgotten(bench)
    await bench.retire()
    mended = packer()

    @mended.on(Burned)
    async def burned(event: Burned, db: AsyncSession) -> None:
        await note(db, event.parcel, "mended")

    @mended.on(Ordered)
    async def ordered(event: Ordered, db: AsyncSession) -> None:
        await note(db, event.parcel, "mended")

    await bench.serve(mended)
    await bench.handle(_again(bench, event, letter))

    assert await done(bench.database) == [("p1", "mended")]
    assert (await _told(bench))[-1] == ("depot.handled", str(letter))


async def test_another_services_corrected_event_is_a_new_message_for_everybody(bench: Bench) -> None:
    """It names that service's letter, and its own id follows from that and from what it says."""
    reader = _Reader()
    reader.says = None
    await bench.serve(reader.participant)
    letter = letter_id(str(SEVEN), "billing")
    # UUID version 5 of the letter and the SHA-256 of {"note": "", "parcel": "p2"}
    corrected = bench.delivery(Ordered(parcel="p2"), id=UUID("1feb6e51-94e0-5fec-878a-c82291561b13"))

    await bench.handle(_again(bench, corrected, letter))
    await bench.handle(_again(bench, corrected, letter))

    assert await done(bench.database) == [("p2", "ordered")]


async def test_who_may_not_say_it_takes_no_letters_place(bench: Bench) -> None:
    """A forged message that names a letter is one of its own beside it; that one is handled when it is sent again."""
    reader = _Reader()
    senders = Senders()
    await bench.serve(
        ParticipantConsumer(reader.participant, clock=bench.clock, entropy=bench.entropy, senders=senders)
    )
    event = replace(bench.delivery(Ordered(parcel="p1"), id=SEVEN), exchange="amends.events", user_id="parcel")
    await bench.handle(event)
    letter = await _letter(bench)
    reader.says = None

    changed = replace(event, body=event.body.replace(b"p1", b"p2"), user_id="payment")
    unknown = _again(bench, replace(event, body=event.body.replace(b"p1", b"p3"), user_id="payment"), UUID(int=12345))
    await bench.handle(_again(bench, changed, letter), unknown)

    rows = {row.letter_id: (row.reason, row.body) for row in await bench.rows(schema.dead_letter)}
    assert rows.pop(letter) == ("handler_failed", event.body)
    assert [reason for reason, _ in rows.values()] == ["forbidden_sender"] * 2
    await bench.handle(_again(bench, replace(event, user_id="orchestrator"), letter))
    assert await done(bench.database) == [("p1", "ordered")]
    assert await bench.letters() == [("forbidden_sender", str(SEVEN))] * 2
