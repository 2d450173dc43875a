"""The tables every service keeps beside its own: inbox, outbox, outbox_claim, deferred, dead_letter.

Each index names the query it serves. Bodies are kept as text exactly as sent; a dead letter's body is bytes,
because what nobody could read need not be text.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Stable constraint names, so that a migration can drop what another one made."""


class UTCDateTime(TypeDecorator[datetime]):
    """A moment, aware and in UTC on the way in and on the way out, on both databases.

    Raises ValueError for a naive datetime: its zone would be a guess.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; pass an aware datetime")
        utc = value.astimezone(UTC)
        # SQLite keeps the text; without an offset it sorts as it should.
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], Any] | None:
        """SQLAlchemy's hook; a batch writes its few moments again and again, and as texts they are dear."""
        found = super().bind_processor(dialect)
        return lru_cache(maxsize=256)(found) if dialect.name == "sqlite" and found is not None else found


SerialId = BigInteger().with_variant(Integer, "sqlite")
"""A growing row number; SQLite numbers only columns of the type INTEGER by itself."""

metadata = MetaData(naming_convention=NAMING)


def _moment(name: str, **options: Any) -> Column[datetime]:
    return Column(name, UTCDateTime(), **options)


outbox = Table(
    "outbox",
    metadata,
    Column("id", SerialId, primary_key=True, autoincrement=True),
    Column("key", Text),
    Column("message_id", Uuid, nullable=False),
    Column("exchange", Text, nullable=False),
    Column("routing_key", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("correlation_id", Text),
    Column("body", Text, nullable=False),
    _moment("created_at", nullable=False),
    # No sweeper takes a row before this: the grace of the process that wrote it, or the wait after it failed.
    _moment("available_at", nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    CheckConstraint("attempts >= 0", name="attempts"),
    # "is an older row of this key still pending?"
    Index("ix_outbox_key_id", "key", "id"),
    # the sweeper: "which rows may I take, oldest first?"
    Index("ix_outbox_available_at_id", "available_at", "id"),
    # A relay remembers by its number what is confirmed and still to be deleted. SQLite would give the highest number
    # out again as soon as it is free, and a commit that succeeds but is reported as failed would then cost a message.
    sqlite_autoincrement=True,
)

outbox_claim = Table(
    "outbox_claim",
    metadata,
    Column("id", SerialId, primary_key=True, autoincrement=True),
    # Until then the rows are this sweeper's; afterwards they are anybody's, as if the claim were not there.
    _moment("ends_at", nullable=False),
    # The rows stay as they are: leasing each would write it once more, body, indexes and all.
    Column("ids", ARRAY(BigInteger).with_variant(Text, "sqlite"), nullable=False),
    # the sweeper: "which claims hold?"
    Index("ix_outbox_claim_ends_at", "ends_at"),
    # A claim is known by its number, also by a sweeper that is late; no other may ever have it.
    sqlite_autoincrement=True,
)

inbox = Table(
    "inbox",
    metadata,
    Column("message_id", Uuid, primary_key=True),
    Column("consumer", String(120), primary_key=True),
    Column("status", String(9), nullable=False),
    _moment("received_at", nullable=False),
    # the answer as it was sent, to be sent again when the command is repeated
    Column("answer_id", Uuid),
    Column("answer_type", Text),
    Column("answer_body", Text),
    CheckConstraint("status IN ('done', 'deferred', 'started', 'tombstone', 'failed')", name="status"),
    # prune: "what is older than the retention?"
    Index("ix_inbox_received_at", "received_at"),
)

deferred = Table(
    "deferred",
    metadata,
    Column("id", SerialId, primary_key=True, autoincrement=True),
    Column("consumer", String(120), nullable=False),
    Column("message_id", Uuid, nullable=False),
    Column("queue", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("correlation_id", Text),
    Column("body", Text, nullable=False),
    _moment("first_at", nullable=False),
    _moment("due_at", nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text, nullable=False),
    # "is this command waiting here?", when its compensation overtakes it
    Index("uq_deferred_message_id_consumer", "message_id", "consumer", unique=True),
    # "what is due?"
    Index("ix_deferred_consumer_due_at", "consumer", "due_at"),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", SerialId, primary_key=True, autoincrement=True),
    Column("service", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("reason", String(40), nullable=False),
    Column("error", Text, nullable=False),
    Column("message_id", Text),
    Column("type", Text),
    Column("correlation_id", Text),
    Column("exchange", Text, nullable=False),
    Column("routing_key", Text, nullable=False),
    Column("properties", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    _moment("at", nullable=False),
    # one message that one service could not handle, however often it fails there; a letter has one row
    Column("letter_id", Uuid, nullable=False),
    Column("state", String(9), nullable=False, server_default="open"),
    # what a person has decided: when, who, why, and the message id under which it was sent again
    _moment("decided_at"),
    Column("decided_by", Text),
    Column("decided_why", Text),
    Column("redriven_as", Uuid),
    CheckConstraint("state IN ('open', 'redriven', 'discarded')", name="state"),
    # listings: "the newest, of one reason"
    Index("ix_dead_letter_reason_at", "reason", "at"),
    Index("ix_dead_letter_correlation_id", "correlation_id"),
    # "is what is handled here one of these?"
    Index("ix_dead_letter_letter_id", "letter_id"),
)
