"""The rows of the outbox, as they are written and as they are published."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from contracts.message import Command, Message
from contracts.value import value
from messaging.bus import Outgoing
from messaging.envelope import CONTENT_TYPE, Envelope, encode, text_of
from messaging.topology import COMMANDS, EVENTS

COLUMNS = (
    "key",
    "message_id",
    "exchange",
    "routing_key",
    "type",
    "source",
    "correlation_id",
    "body",
    "created_at",
    "available_at",
)


@value
class OutboxRow:
    """A message as it lies in the outbox, before it has a row number."""

    key: str | None
    message_id: UUID
    exchange: str
    routing_key: str
    type: str
    source: str
    correlation_id: str | None
    body: str
    created_at: datetime


@value
class Pending:
    """A committed row that this process may publish.

    `after` are older rows of its key on their way already; `checked` says that nobody else's are pending.
    """

    id: int
    row: OutboxRow
    after: frozenset[int] = frozenset()
    checked: bool = False


def outgoing(message: Message, envelope: Envelope, data: str | None = None) -> OutboxRow:
    """The row that carries `message`: events and commands each to their exchange, the type as routing key.

    `data` is the message's JSON, where the caller has written it already.
    """
    return OutboxRow(
        key=envelope.key,
        message_id=envelope.id,
        exchange=COMMANDS if isinstance(message, Command) else EVENTS,
        routing_key=envelope.type,
        type=envelope.type,
        source=envelope.source,
        correlation_id=envelope.correlation_id,
        body=encode(envelope, message, data),
        created_at=envelope.time,
    )


def waves(pending: Sequence[Pending]) -> list[list[Pending]]:
    """Rows in rounds, each key at most once a round, so that a failure holds back the rest of its key."""
    waves: list[list[Pending]] = []
    depth: dict[str, int] = {}
    for each in pending:
        place = 0 if each.row.key is None else depth.get(each.row.key, 0)
        if each.row.key is not None:
            depth[each.row.key] = place + 1
        if place == len(waves):
            waves.append([])
        waves[place].append(each)
    return waves


def as_message(row: OutboxRow) -> Outgoing:
    """The row as the broker gets it."""
    message = text_of(row.message_id)
    return Outgoing(
        exchange=row.exchange,
        routing_key=row.routing_key,
        message_id=message,
        body=row.body.encode(),
        type=row.type,
        timestamp=row.created_at,
        app_id=row.source,
        # By this property messages are spread over partitions: what belongs to no saga yet goes by its key.
        correlation_id=row.correlation_id or row.key or message,
        content_type=CONTENT_TYPE,
    )
