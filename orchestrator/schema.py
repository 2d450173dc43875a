"""The orchestrator's tables: saga, saga_history, saga_attribute, saga_search, parked_event, saga_definition,
saga_shard, collected_letter. Each index names the query it serves.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Computed,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.ext.compiler import compiles

from messaging.privileges import APPENDED
from messaging.schema import NAMING, SerialId, UTCDateTime

SPAN = 10
"""Seconds of a span: an instance is indexed by that in which its deadline lies."""
SPANS_ON_POSTGRESQL = f"floor(date_part('epoch', deadline AT TIME ZONE 'UTC') / {SPAN})"
SPANS_ON_SQLITE = f"CAST(strftime('%s', deadline) AS INTEGER) / {SPAN}"
RESTING = "CASE WHEN status IN ('running', 'compensating') THEN NULL ELSE updated_at END"
"""When an instance that nothing moves by itself any more was moved last; NULL for one under way."""


class _SpanOfDeadline(ColumnElement[int]):
    """The number of the span, counted from 1970, in which an instance's deadline lies."""

    inherit_cache = True


@compiles(_SpanOfDeadline, "postgresql")
def _span_on_postgresql(_element: _SpanOfDeadline, _compiler: Any, **_options: Any) -> str:
    return SPANS_ON_POSTGRESQL


@compiles(_SpanOfDeadline, "sqlite")
def _span_on_sqlite(_element: _SpanOfDeadline, _compiler: Any, **_options: Any) -> str:
    return SPANS_ON_SQLITE


metadata = MetaData(naming_convention=NAMING)

saga = Table(
    "saga",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", String(80), nullable=False),
    Column("version", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("status", String(12), nullable=False),
    # the steps it is waiting for, for people
    Column("step", Text, nullable=False),
    Column("reason", Text, nullable=False),
    # the saga's own data, as JSON
    Column("data", Text, nullable=False),
    # every step reached and its status, as JSON
    Column("progress", Text, nullable=False),
    # how many transitions its history has; a writer proves with it that nobody came between
    Column("revision", Integer, nullable=False),
    Column("deadline", UTCDateTime()),
    Column("started_at", UTCDateTime(), nullable=False),
    Column("updated_at", UTCDateTime(), nullable=False),
    # where its trace began (W3C Trace Context); it stays as it was written with the row
    Column("traceparent", String(55)),
    # The database works these two out. What an ordinary transition changes is in no index, only in them, and they
    # seldom change with it: then PostgreSQL writes the row's new version beside the old one and touches no index (HOT).
    Column("due_span", BigInteger, Computed(_SpanOfDeadline(), persisted=True)),
    Column("rested_at", UTCDateTime(), Computed(RESTING, persisted=True)),
    CheckConstraint(
        "status IN ('running', 'compensating', 'completed', 'compensated', 'stuck', 'abandoned')", name="status"
    ),
    CheckConstraint("revision > 0", name="revision"),
    # timers: "whose deadline has passed?", to be sorted within a span
    Index(
        "ix_saga_due_span",
        "due_span",
        postgresql_where=text("due_span IS NOT NULL"),
        sqlite_where=text("due_span IS NOT NULL"),
    ),
    # list and prune: "the latest, or the oldest, of one status", and "which are under way?"
    Index("ix_saga_status_rested_at", "status", "rested_at"),
    # start: "which versions of this saga are in flight?"
    Index("ix_saga_name_version_status", "name", "version", "status"),
    # find: "which instance has this key?"; a hash, because a key is of any length and a B-tree's entry is not
    Index("ix_saga_key", "key", postgresql_using="hash"),
    # A batch moves all rows of a page at once, and their old versions lie there until it has committed.
    postgresql_with={"fillfactor": 50},
)

saga_history = Table(
    "saga_history",
    metadata,
    Column("saga_id", Uuid, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", UTCDateTime(), nullable=False),
    Column("input", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("commands", Text, nullable=False),
    CheckConstraint("seq > 0", name="seq"),
    info=APPENDED,
)

saga_attribute = Table(
    "saga_attribute",
    metadata,
    Column("saga_id", Uuid, primary_key=True),
    Column("name", String(120), primary_key=True),
    # the value as text, its beginning where it is long
    Column("value", String(200), nullable=False),
    # list --where: "whose attribute has this value?"
    Index("ix_saga_attribute_name_value_saga_id", "name", "value", "saga_id"),
)

saga_search = Table(
    "saga_search",
    metadata,
    Column("saga", String(80), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("attribute", String(120), primary_key=True),
    # when every instance was indexed by it; NULL while those of before it was declared are not
    Column("indexed_at", UTCDateTime()),
)

parked_event = Table(
    "parked_event",
    metadata,
    Column("id", SerialId, primary_key=True, autoincrement=True),
    Column("saga_id", Uuid, nullable=False),
    Column("message_id", Uuid, nullable=False),
    Column("name", String(80), nullable=False),
    Column("type", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("parked_at", UTCDateTime(), nullable=False),
    Column("retry_at", UTCDateTime(), nullable=False),
    # "what is parked for these instances?"
    Index("uq_parked_event_saga_id_message_id", "saga_id", "message_id", unique=True),
    # timers: "which have been parked for long enough to look again?"
    Index("ix_parked_event_retry_at", "retry_at"),
)

saga_definition = Table(
    "saga_definition",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    # the definition in words, so that a refusal can say what has changed
    Column("description", Text, nullable=False),
    # when a process last started with it, or a person let it in; by this, prune knows what nobody runs any more
    Column("seen_at", UTCDateTime(), nullable=False),
)

saga_shard = Table(
    "saga_shard",
    metadata,
    # one row: which shard this database is, and of how many
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("shards", Integer, nullable=False),
)

collected_letter = Table(
    "collected_letter",
    metadata,
    # one message that one service could not handle, however often it fails there
    Column("id", Uuid, primary_key=True),
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
    # as it was sent, or NULL where only the service's own database has it whole
    Column("body", Text),
    # how `body` is written: text, or base64 for bytes that are no text
    Column("encoding", String(6)),
    # of the message's body, in bytes
    Column("size", Integer, nullable=False),
    # how often it was tried and put off, the last time
    Column("attempts", Integer, nullable=False),
    # how often it has become a dead letter
    Column("failures", Integer, nullable=False),
    Column("first_at", UTCDateTime(), nullable=False),
    # of its latest failure, by the clock of its service
    Column("at", UTCDateTime(), nullable=False),
    Column("state", String(9), nullable=False),
    # what a person has decided: when, who, why, and the message id under which it was sent again
    Column("decided_at", UTCDateTime()),
    Column("decided_by", Text),
    Column("decided_why", Text),
    Column("redriven_as", Uuid),
    # when its service said that it has handled it at last
    Column("handled_at", UTCDateTime()),
    CheckConstraint("state IN ('open', 'redriven', 'handled', 'discarded')", name="state"),
    CheckConstraint("encoding IN ('text', 'base64')", name="encoding"),
    # list: "the latest of one state"
    Index("ix_collected_letter_state_at", "state", "at"),
    # show and why: "which letters belong to this saga?"
    Index("ix_collected_letter_correlation_id", "correlation_id"),
    # show: "which letters are of this message?"; a hash, because a stranger's message id is of any length
    Index("ix_collected_letter_message_id", "message_id", postgresql_using="hash"),
)
