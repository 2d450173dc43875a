"""Dead letters: what nobody here could handle, kept with the reason, and announced on the broker.

A letter is one message that one service could not handle. It keeps its id however often it fails there, and has one row
in that service's `dead_letter` table: the row goes when the message is handled at last, and both are announced.

Kept whole up to 256 KiB, the most any message may have; of anything larger, the beginning and its size.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Literal
from uuid import UUID, uuid5

from pydantic import Field
from pydantic_core import to_json
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.message import Event
from messaging import bulk, schema
from messaging.bus import Delivery
from messaging.envelope import CONTENT_TYPE, MAX_ATTRIBUTE, Envelope, encode, stamp
from messaging.outbox_rows import OutboxRow
from messaging.received import Received, Unreadable
from messaging.strict_json import storable
from messaging.topology import DEAD_LETTERS

_LETTER = UUID("5a5f3a1e-0a41-5a9a-9a5e-6c1d1f2b7d10")
MAX_QUOTED = 64 * 1024
LONGEST_QUOTED_ERROR = 4_000
LONGEST_PROPERTIES = 16_000
_BROKERS_HEADERS = {
    *("x-delivery-count", "x-acquired-count", "x-death"),
    *(f"x-{which}-death-{what}" for which in ("first", "last") for what in ("queue", "reason", "exchange")),
}
"""What RabbitMQ notes on a message that it delivers again, or has given up."""

Encoding = Literal["text", "base64"]
Count = Annotated[int, Field(ge=0, lt=1 << 31)]
"""What an integer column takes on every database."""


class DeadLettered(Event, type="amends.dead_lettered"):
    """A service could not handle a message; it lies in that service's `dead_letter` table.

    `body` is the message exactly as it came, where that fits into 64 KiB of JSON; `encoding` says how it is written.
    `size` is that of the body in bytes.
    """

    letter_id: UUID
    service: str
    queue: str
    reason: str
    error: str
    message_id: str | None
    message_type: str | None
    correlation_id: str | None
    exchange: str
    routing_key: str
    properties: str
    attempts: Count
    size: Count
    body: str | None
    encoding: Encoding | None


class DeadLetterHandled(Event, type="amends.dead_letter_handled"):
    """What was a dead letter of this service has been handled at last, and its row is gone."""

    letter_id: UUID
    service: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that ended here: `reason` is a word for programs, `error` the whole story."""

    letter_id: UUID
    service: str
    queue: str
    reason: str
    error: str
    message_id: str | None
    type: str | None
    correlation_id: str | None
    exchange: str
    routing_key: str
    properties: str
    body: bytes
    attempts: int
    at: datetime


def of_unreadable(service: str, unreadable: Unreadable, letter: UUID, at: datetime) -> DeadLetter:
    """A dead letter from bytes we could not read."""
    delivery, envelope = unreadable.delivery, unreadable.envelope
    return DeadLetter(
        letter,
        service,
        delivery.queue,
        unreadable.reason,
        storable(unreadable.error),
        _short(delivery.message_id) if envelope is None else str(envelope.id),
        _short(delivery.type or delivery.routing_key) if envelope is None else envelope.type,
        _short(delivery.correlation_id) if envelope is None else envelope.correlation_id,
        short(delivery.exchange),
        short(delivery.routing_key),
        properties_of(delivery),
        delivery.body,
        0,
        at,
    )


def of_received(service: str, received: Received, letter: UUID, reason: str, error: str, at: datetime) -> DeadLetter:
    """A dead letter from a message we could read but not handle."""
    envelope = received.envelope
    return DeadLetter(
        letter,
        service,
        received.queue,
        reason,
        storable(error),
        str(envelope.id),
        envelope.type,
        envelope.correlation_id,
        "",
        envelope.type,
        json.dumps({"content_type": CONTENT_TYPE, "app_id": envelope.source}),
        received.body.encode(),
        received.attempts,
        at,
    )


def properties_of(delivery: Delivery) -> str:
    """What stood on a message's outside, as JSON that is safe to store and short enough to show."""
    outside = {
        "message_id": delivery.message_id,
        "content_type": delivery.content_type,
        "app_id": delivery.app_id,
        "user_id": delivery.user_id,
        "timestamp": stamp(delivery.timestamp) if delivery.timestamp else None,
    }
    headers = {name: str(value)[:1000] for name, value in delivery.headers.items()}
    # ASCII only, so nothing in it is unstorable; whole headers are left out, so that it stays JSON.
    while len(text := json.dumps(outside | {"headers": headers})) > LONGEST_PROPERTIES and headers:
        headers.popitem()
    return text


async def bury(connection: AsyncConnection, letters: Sequence[DeadLetter]) -> None:
    """Store them, in the caller's transaction, each in the place of what was there of it before."""
    if not letters:
        return
    await forget(connection, [letter.letter_id for letter in letters])
    records = [{name: getattr(letter, name) for name in DeadLetter.__dataclass_fields__} for letter in letters]

    def insert(sync: Connection) -> None:
        sync.execute(schema.dead_letter.insert(), records)

    await connection.run_sync(insert)


async def forget(connection: AsyncConnection, letters: Collection[UUID]) -> None:
    """Delete the rows of these letters: their messages have been taken up again."""
    await bulk.delete(connection, schema.dead_letter.c.letter_id, sorted(letters))


def announcement(letter: DeadLetter) -> OutboxRow:
    """What tells the broker's own tools, and the orchestrator, of a dead letter."""
    body, encoding = written(letter.body)
    # One byte can take six as JSON text, and an announcement too large to send would bury nothing.
    quotable = len(to_json(body)) <= MAX_QUOTED
    event = DeadLettered(
        letter_id=letter.letter_id,
        service=letter.service,
        queue=letter.queue,
        reason=letter.reason,
        error=letter.error[-LONGEST_QUOTED_ERROR:],
        message_id=letter.message_id,
        message_type=letter.type,
        correlation_id=letter.correlation_id,
        exchange=letter.exchange,
        routing_key=letter.routing_key,
        properties=letter.properties,
        attempts=letter.attempts,
        size=len(letter.body),
        body=body if quotable else None,
        encoding=encoding if quotable else None,
    )
    return _announce(event, letter.letter_id, letter.service, letter.reason, letter.correlation_id, letter.at)


def resolution(letter: UUID, service: str, at: datetime) -> OutboxRow:
    """What tells the orchestrator that a dead letter's message was handled at last."""
    return _announce(DeadLetterHandled(letter_id=letter, service=service), letter, service, "handled", None, at)


def _announce(
    event: DeadLettered | DeadLetterHandled,
    letter: UUID,
    service: str,
    word: str,
    correlation_id: str | None,
    at: datetime,
) -> OutboxRow:
    # Each failure is told once, however often it is sent; what is told of one letter keeps its order.
    identity = uuid5(letter, f"{word}\n{stamp(at)}")
    envelope = Envelope(
        id=identity,
        type=event.wire_type,
        version=event.wire_version,
        source=service,
        time=at,
        correlation_id=correlation_id,
        key=str(letter),
    )
    return OutboxRow(
        key=envelope.key,
        message_id=identity,
        exchange=DEAD_LETTERS,
        routing_key=f"{service}.{word}",
        type=event.wire_type,
        source=service,
        correlation_id=correlation_id,
        body=encode(envelope, event),
        created_at=at,
    )


def written(body: bytes) -> tuple[str, Encoding]:
    """A body as text that every database and JSON keep exactly, and how it is written."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return b64encode(body).decode(), "base64"
    return (b64encode(body).decode(), "base64") if "\x00" in text else (text, "text")


def letter_id(message_id: str, service: str) -> UUID:
    """The letter that this message is in this service, however often it fails there."""
    return uuid5(_LETTER, f"{service}\n{message_id}")


def unreadable_id(unreadable: Unreadable, service: str) -> UUID:
    """The same for what could not be read: its id alone is not to be trusted, so what it says counts too.

    Of a message whose envelope could be read, it is the data that counts, in whichever of the three ways it came.
    """
    delivery, envelope = unreadable.delivery, unreadable.envelope
    if envelope is not None:
        return said_id(envelope, unreadable.data, service)
    return letter_id(sha256(_all_of(delivery)).hexdigest(), service)


def _all_of(delivery: Delivery) -> bytes:
    """Everything by which one message may differ from another, and nothing that a further delivery of it changes.

    Why it could not be read follows from these, so it is not among them.
    """
    own = sorted((name, value) for name, value in delivery.headers.items() if name not in _BROKERS_HEADERS)
    outside = (
        delivery.exchange,
        delivery.routing_key,
        delivery.message_id,
        delivery.type,
        delivery.content_type,
        delivery.correlation_id,
        delivery.app_id,
        delivery.user_id,
        delivery.timestamp,
        delivery.malformed,
        own,
    )
    # As Python writes them, one kind of value never looks like another; ASCII, because a text may be unstorable.
    return ascii(outside).encode() + b"\n" + delivery.body


def said_id(envelope: Envelope, data: object, service: str) -> UUID:
    """The letter that a message with this envelope and this data is where its type is unknown or its data invalid."""
    told = sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    return letter_id(f"{envelope.id}\n{envelope.type}\n{envelope.version}\n{told}", service)


def short(text: str) -> str:
    """The beginning of what a stranger says, storable: as much as an envelope takes and an index entry holds.

    In bytes: of a text that is no UTF-8 each byte has become three.
    """
    return storable(text[:MAX_ATTRIBUTE]).encode()[:MAX_ATTRIBUTE].decode(errors="ignore")


def _short(text: str | None) -> str | None:
    return None if text is None else short(text)
