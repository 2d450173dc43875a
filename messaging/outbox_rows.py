"""The rows of the outbox, as they are written and as they are published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from contracts.message import Command, Message
from contracts.value import value
from messaging.bus import Outgoing
from messaging.envelope import CONTENT_TYPE, Envelope, encode, text_of
from messaging.topology import COMMANDS, EVENTS

OF_MESSAGE = (
    "key",
    "message_id",
    "exchange",
    "routing_key",
    "type",
    "source",
    "correlation_id",
    "body",
    "created_at",
)
"""What a row says of its message: the columns of an `OutboxRow`, in the order of its fields."""
COLUMNS = (*OF_MESSAGE, "available_at")
"""What is written of a row that is new."""


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
    text: str = field(default="", init=False, compare=False, repr=False)
    """The message's id as it stands in the body, where its envelope knows that; never in what `replace` makes."""


_set_text: Callable[[OutboxRow, str], None] = vars(OutboxRow)["text"].__set__


@value
class Pending:
    """A committed row that this process may publish.

    `after` are older rows of its key on their way already; `checked` says that nobody else's are pending.
    """

    id: int
    row: OutboxRow
    after: frozenset[int] = frozenset()
    checked: bool = False

    @property
    def key(self) -> str | None:
        """What it keeps its order with."""
        return self.row.key


class Keyed(Protocol):
    """A row that has a key, or none."""

    @property
    def key(self) -> str | None:
        """What it keeps its order with."""


K = TypeVar("K", bound=Keyed)


def outgoing(message: Message, envelope: Envelope, data: str | None = None) -> OutboxRow:
    """The row that carries `message`: events and commands each to their exchange, the type as routing key.

    `data` is the message's JSON, where the caller has written it already.
    """
    # In the order of its fields: there are as many as messages, and by their names they would take twice as much.
    row = OutboxRow(
        envelope.key,
        envelope.id,
        COMMANDS if isinstance(message, Command) else EVENTS,
        envelope.type,
        envelope.type,
        envelope.source,
        envelope.correlation_id,
        encode(envelope, message, data),
        envelope.time,
    )
    _set_text(row, envelope.text)
    return row


def waves(rows: Sequence[K]) -> list[Sequence[K]]:
    """Rows in rounds, each key at most once a round, so that a failure holds back the rest of its key."""
    if not rows:
        return []
    keys = [each.key for each in rows if each.key is not None]
    if len(set(keys)) == len(keys):
        return [rows]
    waves: list[list[K]] = []
    depth: dict[str, int] = {}
    for each in rows:
        place = 0 if each.key is None else depth.get(each.key, 0)
        if each.key is not None:
            depth[each.key] = place + 1
        if place == len(waves):
            waves.append([])
        waves[place].append(each)
    return list(waves)


def as_message(row: OutboxRow) -> Outgoing:
    """The row as the broker gets it."""
    return message_of(
        row.key,
        row.message_id,
        row.exchange,
        row.routing_key,
        row.type,
        row.source,
        row.correlation_id,
        row.body,
        row.created_at,
        row.text,
    )


def message_of(
    key: str | None,
    message_id: UUID,
    exchange: str,
    routing_key: str,
    wire_type: str,
    source: str,
    correlation_id: str | None,
    body: str,
    created_at: datetime,
    text: str = "",
) -> Outgoing:
    """A row with these fields, in the order of OutboxRow, as the broker gets it."""
    message = text or text_of(message_id)
    # By the correlation id messages are spread over partitions: what belongs to no saga yet goes by its key.
    belongs_to = correlation_id or key or message
    return Outgoing(
        exchange, routing_key, message, body.encode(), wire_type, created_at, source, belongs_to, CONTENT_TYPE
    )
