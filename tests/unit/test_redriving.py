"""A dead letter as a message again: the same bytes but for one attribute, or a corrected one that names its cause."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from contracts.message import Event
from contracts.registry import InvalidMessage, Registry
from messaging.senders import Senders
from messaging.strict_json import loads
from orchestrator.letters import Letter, State
from orchestrator.redriving import Undeliverable, again, corrected, data_of, editable

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
LETTER = "018e0000-0000-7000-8000-0000000000aa"
MESSAGE = "018e0000-0000-7000-8000-000000000001"
STRUCTURED = "application/cloudevents+json"

EVENT = (
    '{ "specversion":"1.0", "id":"018e0000-0000-7000-8000-000000000001","source":"order","type":"order.painted",'
    '"time":"2026-03-01T11:00:00Z","dataversion":1,"correlationid":"saga-1","partitionkey":"7","shop":"north",'
    '"data":{"number":7,"price":1.10,"color":"r\u00f8d"}}'
)


class Painted(Event, type="order.painted", key="number"):
    number: int
    color: str


def _letter(body: str | bytes | None = EVENT, **changed: Any) -> Letter:
    raw = body.encode() if isinstance(body, str) else body
    told = Letter(
        id=UUID(LETTER),
        service="payment",
        queue="payment.events",
        reason="handler_failed",
        error="ValueError: no brush",
        message_id=MESSAGE,
        type="order.painted",
        correlation_id="saga-1",
        exchange="",
        routing_key="order.painted",
        properties={"content_type": STRUCTURED},
        size=len(raw or b"") or 100_000,
        attempts=0,
        failures=1,
        first_at=NOON,
        at=NOON,
        state=State.OPEN,
        decided_at=None,
        decided_by=None,
        decided_why=None,
        redriven_as=None,
        handled_at=None,
        body=raw,
    )
    return replace(told, **changed)


def test_a_redriven_message_is_the_same_but_for_the_name_of_its_letter() -> None:
    """Id, data, foreign attributes and the very digits stay; the exchange is that of its queue."""
    row = again(_letter(), LATER)

    assert row.body == EVENT.replace("{", f'{{"redrives":"{LETTER}",', 1)
    assert (str(row.message_id), row.exchange, row.routing_key) == (MESSAGE, "amends.events", "order.painted")
    assert (row.source, row.correlation_id, row.key, row.created_at) == ("order", "saga-1", "7", LATER)
    assert loads(row.body.encode())["shop"] == "north"


def test_a_command_goes_to_the_exchange_of_commands() -> None:
    """The queue in which it died tells."""
    assert again(_letter(queue="payment.commands"), LATER).exchange == "amends.commands"


def test_what_died_on_the_way_between_shards_goes_to_its_subscribers_again() -> None:
    """A shard's number is no routing key of the exchange of events: nobody would get it."""
    row = again(_letter(queue="orchestrator.shard.1", exchange="orchestrator.shards", routing_key="1"), LATER)

    assert (row.exchange, row.routing_key) == ("amends.events", "order.painted")


def test_what_was_redriven_before_is_redriven_under_its_present_letter() -> None:
    """The same letter again: the same text. A letter of another service of the same event: its own name."""
    once = again(_letter(), LATER).body
    other = UUID(int=5)

    assert again(_letter(once), LATER).body == once
    assert json.loads(again(_letter(once, id=other), LATER).body)["redrives"] == "00000000-0000-0000-0000-000000000005"


def test_a_plain_message_becomes_a_structured_one() -> None:
    """Bare data with AMQP properties beside it, as any client sends it, keeps its id, type and data."""
    plain = {"content_type": "application/json", "app_id": "script", "message_id": MESSAGE, "headers": {}}
    row = again(_letter('{"number":7}', reason="unknown", properties=plain), LATER)

    said = json.loads(row.body)
    assert (said["id"], said["type"], said["source"]) == (MESSAGE, "order.painted", "script")
    assert (said["data"], said["redrives"]) == ({"number": 7}, LETTER)


_IMPOSSIBLE: list[tuple[Letter, str]] = [
    (_letter(None), "only payment's own database has its 100000 bytes whole.*set DATABASE_URL to payment's"),
    (_letter("{", reason="malformed"), "no reader will ever read it .*--edit"),
    (_letter(b"\xff\x00", reason="malformed"), "no reader will ever read it .*not UTF-8"),
    (_letter("x" * 262_145, reason="oversized"), "no reader will ever read it .*262145 bytes"),
    (_letter(reason="forbidden_header"), "a header that routes past permissions.*--edit"),
    (_letter(queue="somewhere"), "nothing tells on which exchange"),
    (
        _letter(EVENT[:-2] + ',"x":"' + "y" * (262_144 - len(EVENT.encode()) - 7) + '"}}'),
        "too large to name its letter",
    ),
]


@pytest.mark.parametrize(
    ("letter", "why"),
    _IMPOSSIBLE,
    ids=["not_here", "no_json", "no_text", "oversized", "forbidden", "no_exchange", "no_room"],
)
def test_what_cannot_be_sent_again_says_why_and_what_can_be_done(letter: Letter, why: str) -> None:
    """Nothing is sent that no reader would read."""
    with pytest.raises(Undeliverable, match=why):
        again(letter, LATER)


def test_a_correction_is_a_new_message_that_names_what_it_stands_for() -> None:
    """Its id follows from letter and data; type, source and saga stay; the contract vouches for it."""
    data = {"number": 8, "color": "red"}
    row, vouched = corrected(_letter(), data, Registry([Painted]), LATER)
    same, _ = corrected(_letter(), {"color": "red", "number": 8}, Registry([Painted]), NOON)
    other, _ = corrected(_letter(), {"color": "blue", "number": 8}, Registry([Painted]), LATER)

    said = json.loads(row.body)
    assert vouched
    assert said["data"] == {"number": 8, "color": "red"}
    assert (said["causationid"], said["redrives"]) == (MESSAGE, LETTER)
    assert (said["type"], said["source"], said["correlationid"]) == ("order.painted", "order", "saga-1")
    assert (said["time"], row.key) == ("2026-03-02T12:00:00Z", "8")
    assert said["id"] == str(row.message_id) != MESSAGE
    assert (same.message_id == row.message_id, other.message_id == row.message_id) == (True, False)


def test_a_corrected_answer_is_still_the_answer_to_its_command() -> None:
    """A saga knows an answer by the command that caused it."""
    answer = EVENT.replace('"shop"', '"causationid":"018e0000-0000-7000-8000-00000000cccc","shop"')
    row, _ = corrected(_letter(answer), {"number": 7, "color": "red"}, Registry([Painted]), LATER)

    assert json.loads(row.body)["causationid"] == "018e0000-0000-7000-8000-00000000cccc"


def test_a_correction_that_breaks_its_contract_is_refused() -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidMessage, match=r"order\.painted v1: number: "):
        corrected(_letter(), {"number": "seven", "color": "red"}, Registry([Painted]), LATER)


def test_nothing_vouches_for_a_type_that_this_checkout_does_not_know() -> None:
    """It can be sent all the same, and is told apart."""
    _, vouched = corrected(_letter(), {"anything": 1}, Registry(), LATER)

    assert not vouched


@pytest.mark.parametrize("data", [{"number": float("nan")}, {"color": "\x00"}], ids=["NaN", "NUL"])
def test_a_correction_that_no_reader_would_read_is_refused(data: object) -> None:
    """What strict JSON refuses never leaves."""
    with pytest.raises(Undeliverable, match="what is to be sent cannot be read: "):
        corrected(_letter(), data, Registry(), LATER)


def test_a_correction_has_an_end() -> None:
    """256 KiB, as every message."""
    with pytest.raises(Undeliverable, match="more than 262144"):
        corrected(_letter(), {"color": "x" * 262_144}, Registry(), LATER)


def test_a_correction_may_not_be_of_a_key_that_no_reader_takes() -> None:
    """Its key orders it in the outbox, too, whose index holds no text of any length."""

    class Named(Event, type="order.painted", key="name"):
        name: str

    with pytest.raises(Undeliverable, match=r"its key would have 300 bytes, more than 255"):
        corrected(_letter(), {"name": "ü" * 150}, Registry([Named]), LATER)


def test_a_command_cannot_be_edited() -> None:
    """Its saga would not know the answer; the sentence names the ways that are open."""
    with pytest.raises(Undeliverable, match=r"a command cannot be edited.*`amends retry`.*`amends skip`"):
        editable(_letter(queue="payment.commands"))
    with pytest.raises(Undeliverable, match="a command cannot be edited"):
        corrected(_letter(queue="payment.commands"), {}, Registry(), LATER)


def test_bytes_that_were_no_message_can_be_replaced_by_one() -> None:
    """What stood on their outside tells the type; without one nobody can."""
    garbage = _letter(b"\xff", reason="malformed", message_id=None, properties={"app_id": "script"})
    row, _ = corrected(garbage, {"number": 7, "color": "red"}, Registry([Painted]), LATER)

    said = json.loads(row.body)
    assert (said["type"], said["source"], said["causationid"]) == ("order.painted", "script", LETTER)
    with pytest.raises(Undeliverable, match="nothing tells of which type it was"):
        corrected(replace(garbage, type=None), {}, Registry(), LATER)


def test_the_data_of_a_letter_is_what_it_says() -> None:
    """For an editor to begin with; of bytes that cannot be read there is none."""
    assert data_of(_letter()) == {"number": 7, "price": 1.1, "color": "r\u00f8d"}
    with pytest.raises(Undeliverable, match="give the whole of it, with --edit @FILE"):
        data_of(_letter(b"\xff"))


def test_what_was_refused_for_its_sender_is_sent_again_only_where_it_may_say_it_by_now() -> None:
    """It would leave as the orchestrator's: a table that has been mended lets it through, nothing else does."""
    refused = _letter(reason="forbidden_sender", properties={"content_type": STRUCTURED, "user_id": "shop"})
    for senders, words in (
        (None, "its sender might not say it; where that was a mistake, set AMENDS_CHECK_SENDERS"),
        (Senders(), "user 'shop' may not say order.painted; that is for 'order' (AMENDS_SENDERS)"),
    ):
        with pytest.raises(Undeliverable, match=re.escape(words)):
            again(refused, LATER, senders)

    assert str(again(refused, LATER, Senders.parse(["order=shop"])).message_id) == MESSAGE


def test_a_command_that_was_refused_for_its_sender_stays_refused() -> None:
    """No table makes a service's command the orchestrator's."""
    refused = _letter(
        reason="forbidden_sender",
        queue="payment.commands",
        properties={"content_type": STRUCTURED, "user_id": "order"},
    )
    with pytest.raises(Undeliverable, match="commands come from the orchestrator only"):
        again(refused, LATER, Senders())
