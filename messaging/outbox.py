"""The outbox: messages that leave if and only if the transaction that wrote them commits.

Two doors in. Domain code calls `emit(session, event)` in its own SQLAlchemy session, sync or async; the worker
appends a whole batch's rows with `append`. One door out: `messaging.relay`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.engine import Connection, Transaction
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Mapper, Session, SessionTransaction, object_session, registry, sessionmaker
from sqlalchemy.util.concurrency import await_only, in_greenlet

from contracts.message import Event
from contracts.places import sealed_for
from messaging import schema
from messaging.appending import append
from messaging.bulk import Writes
from messaging.clock import Clock, Entropy, SystemClock, SystemEntropy
from messaging.envelope import Envelope, encode
from messaging.outbox_rows import OF_MESSAGE, OutboxRow, Pending, outgoing
from messaging.telemetry import traceparent

if TYPE_CHECKING:
    from messaging.relay import Relay
    from messaging.sealing import Sealing

INFO = "amends"
"""Where a session's `info` holds its `Emitting`."""
_WRITTEN = "amends.written"
_RECORDERS = "amends.recorders"
_KEYS = "AMENDS_SUBJECT_KEYS"
NOT_YET = "{}"
"""The data of a message that is sealed later in its transaction."""


@dataclass(frozen=True, slots=True)
class Emitting:
    """How a session's `emit` gets its time, its ids and its way out.

    Without a `relay`, rows are open to every sweeper at once; with one, they are left to it for `grace`. With
    `sealing`, what contracts mark as sensitive is sealed.
    """

    clock: Clock = field(default_factory=SystemClock)
    entropy: Entropy = field(default_factory=SystemEntropy)
    source: str | None = None
    relay: Relay | None = None
    grace: timedelta = timedelta(0)
    cause: Envelope | None = None
    sealing: Sealing | None = None

    def caused_by(self, cause: Envelope | None) -> Emitting:
        """The same for what a message leads to; `replace` takes four times as long, and each handler's call has one."""
        return Emitting(self.clock, self.entropy, self.source, self.relay, self.grace, cause, self.sealing)

    def committed(self, pending: Sequence[Pending]) -> None:
        """What `emit_all` has written is committed: let it leave at once, where there is a relay."""
        if self.relay is not None:
            self.relay.offer(pending)


_mapping = registry(metadata=schema.metadata)


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A message whose keys are fetched for all of a flush, when the session is written."""

    message: Event
    envelope: Envelope
    sealing: Sealing


@_mapping.mapped
class OutboxMessage:
    """The outbox row as an object, so that the caller's own session writes it."""

    __table__ = schema.outbox

    if TYPE_CHECKING:
        id: int
        key: str | None
        message_id: UUID
        exchange: str
        routing_key: str
        type: str
        source: str
        correlation_id: str | None
        body: str
        created_at: datetime
        available_at: datetime

        unsealed: Unsealed | None
        """What its body is made of when it is written; None where it has one."""

        def __init__(self, **columns: Any) -> None: ...

    else:
        unsealed = None


def emit(
    session: Session | AsyncSession,
    event: Event,
    *,
    key: str | None = None,
    message_id: UUID | None = None,
) -> UUID:
    """Publish `event` if and only if the session's transaction commits; returns its message id.

    An ordinary function that adds a row to the caller's own session, so it works the same in sync and async code.
    `key` orders messages (default: the contract's `key` field). Where the caller is in an OpenTelemetry span, what the
    event leads to belongs to its trace. Raises MessageTooLarge, and TypeError for a class without a wire type; where
    the session seals, UnusableSubject, and its flush raises KeysUnavailable and MessageTooLarge.
    """
    plain = session.sync_session if isinstance(session, AsyncSession) else session
    emitting: Emitting = plain.info.get(INFO) or _default()
    envelope = _envelope(event, emitting, key, message_id)
    unsealed = _unsealed(event, envelope, emitting)
    row = outgoing(event, envelope, None if unsealed is None else NOT_YET)
    message = OutboxMessage(
        key=row.key,
        message_id=row.message_id,
        exchange=row.exchange,
        routing_key=row.routing_key,
        type=row.type,
        source=row.source,
        correlation_id=row.correlation_id,
        body=row.body,
        created_at=row.created_at,
        available_at=row.created_at + emitting.grace,
    )
    message.unsealed = unsealed
    plain.add(message)
    return row.message_id


async def emit_all(
    connection: AsyncConnection, events: Sequence[Event], emitting: Emitting, *, beside: Writes | None = None
) -> list[Pending]:
    """`emit` for code that has no session but SQLAlchemy Core's connection, in its transaction: all in one statement.

    What lies in `beside` is written in the same round trip. Hand what it returns to `emitting.committed` once that
    transaction has committed; what is not handed over is left to the sweepers. Raises what `emit` raises.
    """
    envelopes = [_envelope(event, emitting) for event in events]
    if emitting.sealing is None:
        for event in events:
            _check_forgotten(event)
        rows = [outgoing(event, envelope) for event, envelope in zip(events, envelopes, strict=True)]
    else:
        said = await emitting.sealing.written(events)
        rows = [outgoing(*each) for each in zip(events, envelopes, said, strict=True)]
    relay = emitting.relay
    return await append(
        connection,
        rows,
        grace=emitting.grace,
        on_their_way=relay.on_their_way if relay is not None else (),
        done=relay.confirmed if relay is not None else (),
        beside=beside,
    )


def _envelope(event: Event, emitting: Emitting, key: str | None = None, message_id: UUID | None = None) -> Envelope:
    if not event.wire_type:
        raise TypeError(f"{type(event).__name__} names no wire type: class X(Event, type='...')")
    now = emitting.clock.now()
    cause = emitting.cause
    return Envelope(
        id=message_id or emitting.entropy.message_id(now),
        type=event.wire_type,
        version=event.wire_version,
        source=emitting.source or _source_of(event),
        time=now,
        correlation_id=cause.correlation_id if cause else None,
        causation_id=str(cause.id) if cause else None,
        key=key or event.ordering_key,
        traceparent=traceparent.current() or (cause.traceparent if cause else None),
    )


def _unsealed(event: Event, envelope: Envelope, emitting: Emitting) -> Unsealed | None:
    """What is left to be sealed, where something of this event is and the session does that."""
    if emitting.sealing is None:
        _check_forgotten(event)
        return None
    if event.subject_field is None:
        return None
    emitting.sealing.check(event)
    return Unsealed(event, envelope, emitting.sealing)


class Recorder(Protocol):
    """An aggregate that records what happened to it."""

    pending_events: list[Event]


def collect(sessions: sessionmaker[Any] | async_sessionmaker[Any] | type[Session]) -> None:
    """Make these sessions emit, at flush, what their aggregates have recorded in `pending_events`.

    The alternative to calling `emit`: domain code appends to a list and knows nothing of sessions. Each event
    is emitted once; the lists are emptied.
    """
    target: Any = sessions
    if isinstance(sessions, async_sessionmaker):
        own = sessions.kw.get("sync_session_class") or sessions.class_.sync_session_class
        target = sessions.kw["sync_session_class"] = type("CollectingSession", (own,), {})

    def hold(session: Session, instance: Any) -> None:
        # A session holds what it has loaded weakly: an aggregate that nobody else refers to any more, and whose
        # columns did not change, would be gone before the commit, and its events with it.
        if _records(type(instance)) or hasattr(instance, "pending_events"):
            session.info.setdefault(_RECORDERS, {})[id(instance)] = instance

    def let_go(session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            session.info.pop(_RECORDERS, None)

    def harvest(session: Session, *_: Any) -> None:
        for each in (*session.new, *session.identity_map.values()):
            recorded: list[Event] | None = getattr(each, "pending_events", None)
            while recorded:
                emit(session, recorded.pop(0))

    sqlalchemy_event.listen(target, "loaded_as_persistent", hold)
    sqlalchemy_event.listen(target, "after_transaction_end", let_go)
    sqlalchemy_event.listen(target, "before_flush", harvest)
    # An aggregate whose columns did not change flushes nothing; its events still count.
    sqlalchemy_event.listen(target, "before_commit", harvest)


def _records(kind: type) -> bool:
    """Whether instances of this class have `pending_events`, by annotation or as a class attribute."""
    return any(
        "pending_events" in vars(each) or "pending_events" in vars(each).get("__annotations__", ())
        for each in kind.__mro__
    )


def written(session: Session | AsyncSession) -> list[Pending]:
    """Take the rows this session has flushed so far; for a caller who commits the session's connection itself."""
    taken: _Written | None = session.info.pop(_WRITTEN, None)
    return taken.rows if taken is not None else []


@dataclass(frozen=True, slots=True)
class _Written:
    """Rows a session has flushed, and the transaction with which they stand or fall."""

    connection: Connection
    transaction: Transaction | None
    rows: list[Pending] = field(default_factory=list)


@sqlalchemy_event.listens_for(OutboxMessage, "before_insert")
def _seal(_mapper: Mapper[Any], _connection: Connection, row: OutboxMessage) -> None:
    session = object_session(row)
    if row.unsealed is None or session is None:
        return
    # One look for keys for all that this flush writes.
    rows = [each for each in session.new if isinstance(each, OutboxMessage) and each.unsealed is not None]
    waiting = [each.unsealed for each in rows if each.unsealed is not None]
    doing = row.unsealed.sealing.written([each.message for each in waiting])
    said = await_only(doing) if in_greenlet() else row.unsealed.sealing.wait(doing)
    for each, of, data in zip(rows, waiting, said, strict=True):
        each.body, each.unsealed = encode(of.envelope, of.message, data), None


@sqlalchemy_event.listens_for(OutboxMessage, "after_insert")
def _remember(_mapper: Mapper[Any], connection: Connection, row: OutboxMessage) -> None:
    session = object_session(row)
    if session is None:
        return
    copy = OutboxRow(**{name: getattr(row, name) for name in OF_MESSAGE})
    held: _Written = session.info.setdefault(_WRITTEN, _Written(connection, connection.get_transaction()))
    held.rows.append(Pending(row.id, copy))


@sqlalchemy_event.listens_for(Session, "after_begin")
def _begin(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    held: _Written | None = session.info.get(_WRITTEN)
    if held is not None and connection is held.connection and connection.get_transaction() is not held.transaction:
        # They were written in somebody else's transaction, and only he knows what became of it.
        session.info.pop(_WRITTEN)


def only_we_hear_of_beginnings(session: Session) -> bool:
    """Whether nobody else is told when this session begins a transaction, or joins one."""
    told = session.dispatch
    return not told.after_transaction_create and [*told.after_begin] == [_begin]


@sqlalchemy_event.listens_for(Session, "after_commit")
def _hand_over(session: Session) -> None:
    held: _Written | None = session.info.get(_WRITTEN)
    # A session that has joined somebody else's transaction says "committed" long before it is.
    if held is None or session.in_nested_transaction() or held.connection.in_transaction():
        return
    session.info.pop(_WRITTEN)
    emitting: Emitting | None = session.info.get(INFO)
    if emitting is not None and emitting.relay is not None:
        emitting.relay.offer(held.rows)


@sqlalchemy_event.listens_for(Session, "after_soft_rollback")
def _forget(session: Session, _previous: SessionTransaction) -> None:
    # Some of them may survive a rolled-back savepoint; which, only the database knows, so the sweeper sends them.
    session.info.pop(_WRITTEN, None)


def _default() -> Emitting:
    return Emitting(source=os.environ.get("AMENDS_SOURCE"))


def _check_forgotten(event: Event) -> None:
    """Raise TypeError where this process has keys, and somebody has forgotten to give them to the session."""
    if event.subject_field is None:
        return
    named = [each for each in (_KEYS, f"{_KEYS}_FILE") if os.environ.get(each)]
    if named and sealed_for(type(event)):
        raise TypeError(
            f"{event.wire_type} would be written in plain text, and {named[0]} is set: give the session what seals, "
            f"info={{INFO: Emitting(sealing=...)}}, or unset {named[0]}"
        )


def _source_of(event: Event) -> str:
    return event.wire_type.partition(".")[0]
