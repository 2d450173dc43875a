"""The envelope: what we write, and the three ways in which others may write to us."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.message import Event
from contracts.registry import Registry, Upcaster
from messaging.bus import Delivery
from messaging.envelope import (
    CONTENT_TYPE,
    MAX_BODY,
    Envelope,
    MalformedMessage,
    MessageTooLarge,
    decode,
    decode_stored,
    encode,
    frame,
)
from messaging.outbox_rows import as_message, outgoing
from messaging.received import Received, Unreadable, read, read_stored

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Painted(Event, type="fence.painted", key="fence"):
    fence: str
    color: str = "white"


class PaintedTwice(Event, type="fence.painted", version=2, key="fence"):
    fence: str
    coats: list[str]


def _delivery(body: bytes, **properties: Any) -> Delivery:
    return Delivery(queue="q", tag=1, body=body, exchange="amends.events", routing_key="fence.painted", **properties)


def _event(**attributes: str) -> dict[str, str]:
    return {"specversion": "1.0", "source": "shop", "type": "fence.painted", "id": "1"} | attributes


def _structured(body: str | bytes) -> Delivery:
    return _delivery(body if isinstance(body, bytes) else body.encode(), content_type=CONTENT_TYPE)


FULL = Envelope(
    id=UUID("018e0000-0000-7000-8000-000000000001"),
    type="fence.painted",
    version=1,
    source="painter",
    time=NOON,
    correlation_id="order-1",
    causation_id="cause-1",
    key='the "north" fence',
    compensates=UUID("018e0000-0000-7000-8000-000000000002"),
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
FULL_BYTES = (
    b'{"specversion":"1.0","id":"018e0000-0000-7000-8000-000000000001","source":"painter",'
    b'"type":"fence.painted","time":"2026-03-01T12:00:00Z","datacontenttype":"application/json","dataversion":1,'
    b'"correlationid":"order-1","causationid":"cause-1","partitionkey":"the \\"north\\" fence",'
    b'"compensates":"018e0000-0000-7000-8000-000000000002",'
    b'"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",'
    b'"data":{"fence":"north","color":"gr\xc3\xbcn"}}'
)


def test_the_bytes_of_one_event() -> None:
    """This is what leaves: CloudEvents 1.0 in structured JSON, UTF-8, no spaces."""
    assert encode(FULL, Painted(fence="north", color="grün")).encode() == FULL_BYTES


def test_the_bytes_of_one_event_are_read_back() -> None:
    """Every attribute and the data come back from the bytes."""
    assert decode(_structured(FULL_BYTES)) == (FULL, {"fence": "north", "color": "grün"})


def test_attributes_nobody_gave_are_left_out() -> None:
    """No nulls on the wire."""
    envelope = Envelope(
        UUID(int=1), "fence.painted", 1, "painter", datetime(2026, 3, 1, 13, 0, 0, 5, timezone(timedelta(hours=1)))
    )

    assert encode(envelope, Painted(fence="n")) == (
        '{"specversion":"1.0","id":"00000000-0000-0000-0000-000000000001","source":"painter",'
        '"type":"fence.painted","time":"2026-03-01T12:00:00.000005Z","datacontenttype":"application/json",'
        '"dataversion":1,"data":{"fence":"n","color":"white"}}'
    )


@pytest.mark.parametrize(
    "content_type", [CONTENT_TYPE, "application/cloudevents+json; charset=utf-8", "Application/CloudEvents+JSON"]
)
def test_the_structured_content_type_is_known_in_all_its_spellings(content_type: str) -> None:
    """A parameter or another case makes no difference."""
    assert decode(_delivery(FULL_BYTES, content_type=content_type))[0] == FULL


@pytest.mark.parametrize("prefix", ["cloudEvents:", "cloudEvents_", "ce-", "ce_"])
def test_binary_events_are_read_with_every_prefix_in_use(prefix: str) -> None:
    """Attributes as headers, the data as body."""
    headers = {
        prefix + name: value
        for name, value in {
            "specversion": "1.0",
            "id": "018e0000-0000-7000-8000-000000000001",
            "type": "fence.painted",
            "source": "painter",
            "time": "2026-03-01T13:00:00+01:00",
            "dataversion": "2",
            "correlationid": "order-1",
            "partitionkey": "north",
        }.items()
    }
    envelope, data = decode(_delivery(b'{"fence":"north"}', headers=headers, content_type="application/json"))

    assert (envelope.id, envelope.version, envelope.time) == (FULL.id, 2, NOON)
    assert (envelope.source, envelope.correlation_id, envelope.key) == ("painter", "order-1", "north")
    assert data == {"fence": "north"}


def test_plain_amqp_messages_are_read_from_their_properties() -> None:
    """A client that knows nothing of CloudEvents sets message_id, and type or a routing key."""
    envelope, data = decode(
        _delivery(
            b'{"fence":"north"}',
            message_id="018e0000-0000-7000-8000-000000000001",
            correlation_id="order-1",
            app_id="pika",
            timestamp=NOON,
            headers={"dataversion": 3},
        )
    )

    assert envelope == Envelope(FULL.id, "fence.painted", 3, "pika", NOON, correlation_id="order-1")
    assert data == {"fence": "north"}


def test_an_id_that_is_no_uuid_becomes_one_of_its_source() -> None:
    """The same foreign id of the same source is the same message; of another source it is another."""
    ids = [
        decode(_delivery(b"{}", message_id="order 7", app_id=source))[0].id for source in ("shop", "shop", "warehouse")
    ]

    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("018e0000-0000-7000-8000-00000000abcd", "018e0000-0000-7000-8000-00000000abcd"),
        ("018E0000-0000-7000-8000-00000000ABCD", "018e0000-0000-7000-8000-00000000abcd"),
        ("018e00000000700080000000----0000abcd", "018e0000-0000-7000-8000-00000000abcd"),
        ("\n18e0000-0000-7000-8000-00000000abcd", "018e0000-0000-7000-8000-00000000abcd"),
        ("order-7-was-painted-on-2026-03-01-at", "5d2cfe5f-9c35-5d02-8857-a3fb08e42e2d"),
        ('order-7","source":"somebody-else-too', "a26741b4-635c-5224-9233-5445a92da934"),
    ],
    ids=["ours", "capitals", "hyphens elsewhere", "a line break", "foreign", "with quotes"],
)
def test_an_id_as_long_as_a_uuid_is_written_as_the_uuid_it_is(said: str, written: str) -> None:
    """Whatever others write there: it goes into JSON, and whoever reads that must find the same id."""
    body = json.dumps(
        {"specversion": "1.0", "id": said, "source": "shop", "type": "fence.painted", "data": {"fence": "north"}}
    )
    envelope, _ = decode(_structured(body))

    again = json.loads(frame(envelope, "{}"))
    assert (again["id"], again["source"], str(envelope.id)) == (written, "shop", written)
    assert decode_stored(frame(envelope, "{}"))[0].id == envelope.id


def test_an_envelope_with_another_id_does_not_know_the_first_ones_text() -> None:
    """Nor does the row that carries it."""
    envelope, _ = decode(_structured(json.dumps(_event(id="018e0000-0000-7000-8000-00000000000a"))))
    other = replace(envelope, id=UUID("018e0000-0000-7000-8000-00000000000b"))
    row = replace(outgoing(Painted(fence="n"), envelope), message_id=other.id)

    assert envelope.text == "018e0000-0000-7000-8000-00000000000a"
    assert json.loads(frame(other, "{}"))["id"] == "018e0000-0000-7000-8000-00000000000b"
    assert as_message(row).message_id == "018e0000-0000-7000-8000-00000000000b"


_NEEDS = "a message needs an id, a type and a source"
_NO_EVENT = "specversion is not 1.0: this is no CloudEvent we know"
_NO_TEXT = "is no text of at most 255 bytes"
_NOT_STORABLE = "contains NUL or a lone surrogate"
_OK = '{"specversion":"1.0","id":"1","source":"s","type":"fence.painted"'


@pytest.mark.parametrize(
    ("delivery", "reason", "words"),
    [
        (_delivery(b" " * (MAX_BODY + 1)), "oversized", "the body has 262145 bytes, more than 262144"),
        (
            _delivery(b"{}", headers={"x": "y" * 16_384}),
            "oversized",
            "the headers have 16385 characters, more than 16384",
        ),
        (
            _delivery(b"{}", message_id="1", headers={"CC": "order.paid"}),
            "forbidden_header",
            "the header CC is refused",
        ),
        (_delivery(b"{}", message_id="1", headers={"bcc": ["x"]}), "forbidden_header", "the header bcc is refused"),
        (_delivery(b"{}", malformed="the header frame is no UTF-8"), "malformed", "the header frame is no UTF-8"),
        (_structured(b"\xff"), "malformed", "not UTF-8 at byte 0 (in the body)"),
        (_structured('{"a":1,"a":2}'), "malformed", "the key 'a' stands twice in one object (in the body)"),
        (_structured(r'{"a":"\u0000"}'), "malformed", "a text contains NUL (in the body)"),
        (_structured('{"a":NaN}'), "malformed", "NaN is no JSON number (in the body)"),
        (_structured("[]"), "malformed", "a structured CloudEvent is a JSON object"),
        (_structured("{}"), "malformed", _NO_EVENT),
        (_structured('{"specversion":"0.3"}'), "malformed", _NO_EVENT),
        (_structured('{"specversion":"1.0","source":"s","type":"t.t"}'), "malformed", _NEEDS),
        (_structured('{"specversion":"1.0","id":"1","type":"t.t"}'), "malformed", _NEEDS),
        (_delivery(b"{}"), "malformed", _NEEDS),
        (_structured(_OK + ',"dataversion":true}'), "malformed", "dataversion is not a number"),
        (_structured(_OK + ',"dataversion":"1e3"}'), "malformed", "dataversion is not a number"),
        (_structured(_OK + ',"dataversion":"²"}'), "malformed", "dataversion is not a number"),
        (_structured(_OK + ',"correlationid":7}'), "malformed", "the attribute correlationid " + _NO_TEXT),
        (
            _structured(_OK + ',"partitionkey":"' + "k" * 256 + '"}'),
            "malformed",
            "the attribute partitionkey " + _NO_TEXT,
        ),
        (_structured(_OK + ',"time":"yesterday"}'), "malformed", "time 'yesterday' is no RFC 3339 moment"),
        (
            _structured(_OK + ',"time":"0001-01-01T00:00:00+05:00"}'),
            "malformed",
            "time '0001-01-01T00:00:00+05:00' is no RFC 3339 moment",
        ),
        (
            _structured(_OK + ',"time":"9999-12-31T23:59:59-05:00"}'),
            "malformed",
            "time '9999-12-31T23:59:59-05:00' is no RFC 3339 moment",
        ),
        (
            _delivery(b"{}", message_id="1", correlation_id="a\x00b"),
            "malformed",
            "the attribute correlationid " + _NOT_STORABLE,
        ),
        (_delivery(b"{}", message_id="a\ud800"), "malformed", "the attribute id " + _NOT_STORABLE),
    ],
)
def test_what_is_no_message_is_refused_with_a_word_and_a_sentence(delivery: Delivery, reason: str, words: str) -> None:
    """Nothing gets past the envelope that the database or a reader would choke on."""
    with pytest.raises(MalformedMessage) as refused:
        decode(delivery)
    assert (refused.value.reason, str(refused.value)) == (reason, words)


def test_a_message_of_ours_that_no_reader_would_take_is_refused() -> None:
    """256 KiB is the end, counted in bytes and not in characters."""
    overhead = len(encode(FULL, Painted(fence="", color="")).encode())
    encode(FULL, Painted(fence="", color="x" * (MAX_BODY - overhead)))

    with pytest.raises(MessageTooLarge, match="bytes, more than 262144; store the bulk"):
        encode(FULL, Painted(fence="", color="ü" * ((MAX_BODY - overhead) // 2 + 1)))


_WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=40)


@settings(deadline=None)
@given(
    id=st.uuids(),
    source=_WORDS,
    time=st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds the zone
    version=st.integers(1, 99_999),
    texts=st.tuples(*[st.none() | _WORDS] * 4),
    compensates=st.none() | st.uuids(),
    fence=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
)
def test_what_is_written_is_read_back(
    id: UUID,
    source: str,
    time: datetime,
    version: int,
    texts: tuple[str | None, ...],
    compensates: UUID | None,
    fence: str,
) -> None:
    """Writing and reading are inverse, from the wire and from our own tables."""
    correlation, causation, key, trace = texts
    envelope = Envelope(id, "fence.painted", version, source, time, correlation, causation, key, compensates, trace)
    body = encode(envelope, Painted(fence=fence))

    assert decode(_structured(body)) == (envelope, {"fence": fence, "color": "white"})
    assert decode_stored(body) == (envelope, {"fence": fence, "color": "white"})


# -- reading, and reading again what was stored ----------------------------------------------------------------------


def _stored_again(received: Received | Unreadable, registry: Registry) -> Received:
    assert isinstance(received, Received)
    return read_stored(received.body, registry, queue="q", attempts=0, first_at=NOON)


def test_a_structured_message_is_stored_as_it_came() -> None:
    """What was sent is kept byte by byte."""
    received = read(_structured(FULL_BYTES), Registry([Painted]))

    assert isinstance(received, Received)
    assert received.body.encode() == FULL_BYTES
    assert received.message == Painted(fence="north", color="grün")


def test_bare_data_is_stored_with_its_envelope() -> None:
    """A plain AMQP message can be read again from our tables, its data byte by byte as it came."""
    registry = Registry([Painted])
    body = b'{ "fence" : "a \\"specversion\\" fence", "later" : 1 }'
    received = read(_delivery(body, message_id="1", app_id="pika", timestamp=NOON), registry)
    again = _stored_again(received, registry)

    assert isinstance(received, Received)
    assert again.envelope == received.envelope
    assert again.message == received.message == Painted(fence='a "specversion" fence')
    assert again.data == {"fence": 'a "specversion" fence', "later": 1}


def test_bare_data_of_an_older_version_is_stored_in_that_version() -> None:
    """Reading again converts again: what is stored says truly which version it is."""
    registry = Registry(
        upcasters=[Upcaster(Painted, PaintedTwice, lambda old: PaintedTwice(fence=old.fence, coats=[old.color]))]
    )
    received = read(_delivery(b'{"fence":"n","color":"red"}', message_id="1"), registry)

    assert _stored_again(received, registry).message == PaintedTwice(fence="n", coats=["red"])


def test_bare_data_as_large_as_is_allowed_is_read() -> None:
    """The envelope we store round it does not count."""
    body = b'{"fence":"' + b"x" * (MAX_BODY - 12) + b'"}'

    assert isinstance(read(_delivery(body, message_id="1"), Registry([Painted])), Received)


@pytest.mark.parametrize(
    ("body", "type", "reason"),
    [(b"{}", "fence.painted", "invalid"), (b"{}", "fence.burned", "unknown"), (b"{", "fence.painted", "malformed")],
)
def test_what_cannot_be_read_says_why_in_a_word(body: bytes, type: str, reason: str) -> None:
    """Bytes, type and version, schema: each has its own reason."""
    unreadable = read(_delivery(body, message_id="1", type=type), Registry([Painted]))

    assert isinstance(unreadable, Unreadable)
    assert unreadable.reason == reason
