"""Dead letters: what nobody here could handle, kept with the reason, and announced on the broker.

Kept whole up to 256 KiB, the most any message may have; of anything larger, the beginning and its size.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID, uuid5

from pydantic_core import to_json
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.message import Event
from messaging import schema
from messaging.bus import Delivery
from messaging.envelope import Envelope, encode, stamp
from messaging.outbox import OutboxRow
from messaging.received import Received
from messaging.strict_json import storable
from messaging.topology import DEAD_LETTERS

_ANNOUNCEMENT = UUID("5a5f3a1e-0a41-5a9a-9a5e-6c1d1f2b7d10")
MAX_QUOTED = 64 * 1024


class DeadLettered(Event, type="amends.dead_lettered"):
    """A service could not handle a message; it lies in that service's `dead_letter` table.

    `body` quotes the message where it fits, as JSON text, into 64 KiB.
    """

    service: str
    queue: str
    reason: str
    error: str
    message_id: str | None
    message_type: str | None
    correlation_id: str | None
    body: str | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message that ended here: `reason` is a word for programs, `error` the whole story."""

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


def of_delivery(service: str, delivery: Delivery, reason: str, error: str, at: datetime) -> DeadLetter:
    """A dead letter from bytes we could not read."""
    properties = {
        "content_type": delivery.content_type,
        "app_id": delivery.app_id,
        "user_id": delivery.user_id,
        "timestamp": stamp(delivery.timestamp) if delivery.timestamp else None,
        "headers": {name: str(value)[:1000] for name, value in delivery.headers.items()},
    }
    return DeadLetter(
        service,
        delivery.queue,
        reason,
        storable(error),
        _short(delivery.message_id),
        _short(delivery.type or delivery.routing_key),
        _short(delivery.correlation_id),
        storable(delivery.exchange),
        storable(delivery.routing_key),
        storable(json.dumps(properties)[:16_000]),
        delivery.body,
        0,
        at,
    )


def of_received(service: str, received: Received, reason: str, error: str, at: datetime) -> DeadLetter:
    """A dead letter from a message we could read but not handle."""
    envelope = received.envelope
    return DeadLetter(
        service,
        received.queue,
        reason,
        storable(error),
        str(envelope.id),
        envelope.type,
        envelope.correlation_id,
        "",
        envelope.type,
        json.dumps({"app_id": envelope.source}),
        received.body.encode(),
        received.attempts,
        at,
    )


async def bury(connection: AsyncConnection, letters: Sequence[DeadLetter]) -> None:
    """Store them, in the caller's transaction."""
    if not letters:
        return
    records = [{name: getattr(letter, name) for name in DeadLetter.__dataclass_fields__} for letter in letters]

    def insert(sync: Connection) -> None:
        sync.execute(schema.dead_letter.insert(), records)

    await connection.run_sync(insert)


def announcement(letter: DeadLetter, identity: UUID) -> OutboxRow:
    """What tells the broker's own tools, and the orchestrator, of a dead letter."""
    quoted: str | None = None
    if len(letter.body) <= MAX_QUOTED:
        quoted = storable(letter.body.decode("utf-8", errors="replace"))
        # One byte can take six as JSON text, and an announcement too large to send would bury nothing.
        quoted = quoted if len(to_json(quoted)) <= MAX_QUOTED else None
    event = DeadLettered(
        service=letter.service,
        queue=letter.queue,
        reason=letter.reason,
        error=letter.error[:4000],
        message_id=letter.message_id,
        message_type=letter.type,
        correlation_id=letter.correlation_id,
        body=quoted,
    )
    envelope = Envelope(
        id=identity,
        type=event.wire_type,
        version=event.wire_version,
        source=letter.service,
        time=letter.at,
        correlation_id=letter.correlation_id,
    )
    return OutboxRow(
        key=None,
        message_id=identity,
        exchange=DEAD_LETTERS,
        routing_key=f"{letter.service}.{letter.reason}",
        type=event.wire_type,
        source=letter.service,
        correlation_id=letter.correlation_id,
        body=encode(envelope, event),
        created_at=letter.at,
    )


def announcement_id(message_id: str, service: str) -> UUID:
    """One announcement for one message in one service, however often it is tried."""
    return uuid5(_ANNOUNCEMENT, f"{service}\n{message_id}")


def unreadable_id(delivery: Delivery, service: str) -> UUID:
    """The same for bytes that have no id one could trust."""
    return announcement_id(
        f"{_short(delivery.message_id)}\n{sha256(delivery.body).hexdigest()}{delivery.malformed}", service
    )


def _short(text: str | None) -> str | None:
    return None if text is None else storable(text)[:255]
