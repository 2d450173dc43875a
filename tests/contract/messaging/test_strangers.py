"""Messages that nobody meant well, or that somebody's own contract chokes on: no service stops for them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from pydantic import field_validator
from sqlalchemy.ext.asyncio import AsyncSession

from contracts.message import Event
from contracts.registry import Registry, Upcaster
from messaging import emit, schema
from messaging.envelope import MAX_ATTRIBUTE, MessageTooLarge
from messaging.participant import Participant, RetryLater
from tests.contract.messaging.bench import Bench
from tests.contract.messaging.parcels import Ordered, Pack, Packed, Refused, Unpack, Unpacked, done, note


def _id(number: int) -> UUID:
    return UUID(int=number)


async def test_what_could_not_be_read_back_is_not_put_off_but_buried(bench: Bench) -> None:
    """Bare data nested as deep as allowed is one deeper in its envelope; the worker that meets it goes on."""
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        raise RetryLater("closed")

    await bench.serve(participant)
    deep: Any = 1
    for _ in range(31):
        deep = [deep]
    body = json.dumps({"parcel": "p1", "ignored": deep}).encode()
    await bench.handle(
        bench.raw(body, content_type="application/json", message_id=str(_id(7)), type="parcel.pack", app_id="plain"),
        bench.delivery(Pack(parcel="p2"), id=_id(8)),
    )

    assert await bench.letters() == [("malformed", str(_id(7)))]
    assert [row.message_id for row in await bench.rows(schema.deferred)] == [_id(8)]


class Weighed(Event, type="parcel.weighed"):
    """Its validator knows one unit, and raises what it likes for others."""

    unit: str

    @field_validator("unit")
    @classmethod
    def _known(cls, value: str) -> str:
        return {"kg": "kilogram"}[value]


class Marked(Event, type="parcel.marked"):
    mark: str


class MarkedAnew(Event, type="parcel.marked", version=2):
    mark: int


@pytest.mark.parametrize(
    ("event", "told"), [("parcel.weighed", "KeyError: 'stone'"), ("parcel.marked", "invalid literal for int()")]
)
async def test_what_a_contract_raises_is_the_messages_fault(bench: Bench, event: str, told: str) -> None:
    """A validator or an upcaster that raises makes a dead letter, and harms nobody else in the batch."""
    seen: list[str] = []
    upcasters = [Upcaster(Marked, MarkedAnew, lambda old: MarkedAnew(mark=int(old.mark)))]
    participant = Participant("depot", Registry(upcasters=upcasters))

    @participant.on(Weighed)
    async def weighed(event: Weighed, db: AsyncSession) -> None:
        seen.append(event.unit)

    @participant.on(MarkedAnew)
    async def marked(event: MarkedAnew, db: AsyncSession) -> None:
        seen.append(str(event.mark))

    await bench.serve(participant)
    data = {"unit": "stone", "mark": "red"}
    bad = {"specversion": "1.0", "id": str(_id(7)), "source": "s", "type": event, "data": data}
    good = bad | {"id": str(_id(8)), "data": {"unit": "kg", "mark": "3"}}
    structured = "application/cloudevents+json"
    await bench.handle(
        bench.raw(json.dumps(bad).encode(), content_type=structured, message_id=str(_id(7))),
        bench.raw(json.dumps(good).encode(), content_type=structured, message_id=str(_id(8))),
    )

    (letter,) = await bench.rows(schema.dead_letter)
    assert (letter.reason, letter.message_id) == ("invalid", str(_id(7)))
    assert told in letter.error
    assert len(seen) == 1


def _mended_after(failures: int) -> Participant:
    participant = Participant("depot")
    left = [failures]

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        if left[0]:
            left[0] -= 1
            raise ZeroDivisionError("a bug")
        await note(db, command.parcel, "packed")
        return Packed(parcel=command.parcel)

    @participant.handles(Unpack)
    async def unpack(command: Unpack, db: AsyncSession) -> Unpacked:
        await note(db, command.parcel, "unpacked")
        return Unpacked(parcel=command.parcel)

    return participant


async def test_a_command_that_was_buried_is_tried_again_when_it_is_sent_again(bench: Bench) -> None:
    """Whoever repeats it still waits for its answer, and the bug may have been mended meanwhile."""
    await bench.serve(_mended_after(1))
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    assert await bench.letters() == [("handler_failed", str(_id(7)))]
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.flush()

    assert await done(bench.database) == [("p1", "packed")]
    assert [each.type for each in bench.bus.sent("parcel.packed")] == ["parcel.packed"]
    assert await bench.statuses() == {7: "done"}


async def test_a_command_that_was_buried_and_undone_is_never_tried_again(bench: Bench) -> None:
    """A copy that comes after the compensation has no effect."""
    await bench.serve(_mended_after(1))
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))
    await bench.handle(bench.delivery(Unpack(parcel="p1"), id=_id(8), compensates=_id(7)))
    await bench.handle(bench.delivery(Pack(parcel="p1"), id=_id(7)))

    assert await done(bench.database) == [("p1", "unpacked")]
    assert await bench.statuses() == {7: "tombstone", 8: "done"}


async def test_what_no_reader_would_take_is_refused_where_it_is_emitted(bench: Bench) -> None:
    """A key too long for AMQP is told to whoever wrote it, not to whoever should have read it."""
    async with bench.database.session() as session:
        with pytest.raises(MessageTooLarge, match="its key has 256 bytes, more than 255"):
            emit(session, Ordered(parcel="é" * 128))
        emit(session, Ordered(parcel="x" * MAX_ATTRIBUTE))
    assert len(await bench.rows(schema.outbox)) == 1


@pytest.mark.parametrize(
    "long", ["\ufffd" * 255, "".join(sha256(bytes([each % 256, each // 256])).hexdigest() for each in range(1600))]
)
@pytest.mark.parametrize("readable", [True, False])
async def test_a_message_whose_outside_is_too_long_is_buried_and_announced(
    bench: Bench, long: str, readable: bool
) -> None:
    """Bytes that are no text take three each once they are one, and no index entry of PostgreSQL holds 100 kB."""
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        return Packed(parcel=command.parcel)

    await bench.serve(participant)
    body = json.dumps({"parcel": "p1"}).encode() if readable else b"\xff"
    outside = {"message_id": long, "type": long, "correlation_id": long, "app_id": long, "headers": {"x": long}}
    await bench.handle(bench.raw(body, content_type="application/json", **outside), bench.delivery(Pack(parcel="p2")))

    (letter,) = await bench.rows(schema.dead_letter)
    assert letter.reason in ("malformed", "oversized")
    assert max(len(each.encode()) for each in (letter.message_id, letter.type, letter.correlation_id)) <= 255
    assert letter.correlation_id == long[: len(letter.correlation_id)] != ""
    await bench.flush()
    assert "parcel.packed" in [each.type for each in bench.bus.published]
    assert "amends.dead_lettered" in [each.type for each in bench.bus.published]


_BINARY = {"ce-specversion": "1.0", "ce-id": "A", "ce-type": "parcel.weighed", "ce-source": "s", "ce-time": "yesterday"}
_OUTSIDE: dict[str, Any] = {
    "exchange": "amends.events",
    "routing_key": "parcel.weighed",
    "message_id": "1",
    "type": "parcel.weighed",
    "content_type": "application/json",
    "correlation_id": "saga-1",
    "app_id": "scales",
    "user_id": "ann",
    "timestamp": datetime(2026, 3, 1, tzinfo=UTC),
    "headers": _BINARY,
}


@pytest.mark.parametrize(
    "other",
    [
        *({"headers": _BINARY | {name: "B"}} for name in ("ce-id", "ce-type", "ce-source", "ce-time", "x-request-id")),
        {"headers": _BINARY | {"weight": 1}},
        {"exchange": "amends.commands"},
        {"routing_key": "parcel.marked"},
        {"message_id": "2"},
        {"message_id": None},
        {"type": "parcel.marked"},
        {"content_type": None},
        {"correlation_id": "saga-2"},
        {"app_id": "crane"},
        {"user_id": "bea"},
        {"timestamp": datetime(2026, 3, 2, tzinfo=UTC)},
        {"malformed": "the header frame is no UTF-8"},
        {"body": b'{"unit":"g"}'},
    ],
)
async def test_two_messages_that_nobody_can_read_are_two_letters(bench: Bench, other: dict[str, Any]) -> None:
    """Whatever tells them apart, inside or outside: neither is taken for the other and dropped."""
    await bench.serve(Participant("depot"))
    one = {"body": b'{"unit":"kg"}'} | _OUTSIDE
    await bench.handle(bench.raw(**one))
    await bench.handle(bench.raw(**(one | other)), bench.raw(**one))

    assert [reason for reason, _ in await bench.letters()] == ["malformed", "malformed"]


@pytest.mark.parametrize(
    "broker",
    [
        {"x-delivery-count": 3},
        {"x-acquired-count": 4},
        {"x-death": [{"queue": "depot.in", "reason": "rejected", "count": 1}]},
        {"x-first-death-queue": "depot.in", "x-first-death-reason": "rejected", "x-first-death-exchange": ""},
        {"x-last-death-queue": "depot.in", "x-last-death-reason": "rejected", "x-last-death-exchange": ""},
    ],
    ids=lambda broker: next(iter(broker)),
)
async def test_what_nobody_can_read_stays_one_letter_when_it_is_delivered_again(
    bench: Bench, broker: dict[str, Any]
) -> None:
    """What the broker itself adds on the way round does not make another message of it."""
    await bench.serve(Participant("depot"))
    await bench.handle(bench.raw(b'{"unit":"kg"}', **_OUTSIDE))
    turned = dict(reversed(_BINARY.items()))
    await bench.handle(bench.raw(b'{"unit":"kg"}', redelivered=True, **_OUTSIDE | {"headers": turned | broker}))

    assert len(await bench.rows(schema.dead_letter)) == 1
