"""Collecting the dead letters of every service, so that they can be looked at and sent again from one place.

Two kinds come on `amends.dead-letters`: what a service announces of its own `dead_letter` table, and what the broker
itself gave up (rejected, or delivered too often): the message as it was, with headers that say where it died.

Nothing here becomes a dead letter in its turn: whatever cannot be read is collected as it is, and what cannot be
written is rejected, logged as `given_up`, and lies for a while in the queue `amends.dead-letters`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.registry import Registry
from messaging import bulk
from messaging.bus import Delivery
from messaging.consumer import Act, Batch
from messaging.database import Conflict
from messaging.dead_letters import (
    DeadLettered,
    DeadLetterHandled,
    letter_id,
    of_unreadable,
    properties_of,
    short,
    unreadable_id,
    written,
)
from messaging.envelope import Envelope, MalformedMessage, decode
from messaging.received import Received, Tick, Unreadable, read
from messaging.senders import FORBIDDEN_SENDER, Objection, Senders
from messaging.topology import COLLECTED_QUEUE, COMMANDS, exchange_of, service_of
from messaging.work import Work
from orchestrator.schema import collected_letter

STRAY = "stray"
"""The reason of what lies on the dead-letter exchange without a word of where it died."""


class GivenUp(DeadLettered):
    """What the broker gave up, as a letter of the service whose queue it was; `redrives` is the letter it names."""

    redrives: UUID | None


class Collector:
    """The consumer that keeps every service's dead letters."""

    def __init__(self, senders: Senders | None = None) -> None:
        self._registry = Registry([DeadLettered, DeadLetterHandled])
        self._senders = senders

    @property
    def name(self) -> str:
        return COLLECTED_QUEUE

    @property
    def registry(self) -> Registry:
        return self._registry

    def read(self, delivery: Delivery) -> Received | Unreadable:
        """An announcement, or anything else as a letter in itself."""
        found = read(delivery, self._registry)
        if isinstance(found, Received) and "x-first-death-queue" not in delivery.headers:
            why = self._may_not_tell(found, delivery)
            return found if why is None else _letter(delivery, forbidden=why)
        return _letter(delivery, senders=self._senders)

    def _may_not_tell(self, found: Received, delivery: Delivery) -> Objection | None:
        """Why this sender may not speak of that service's letters; None where it may, or nobody looks."""
        event = found.message
        if self._senders is None or not isinstance(event, (DeadLettered, DeadLetterHandled)):
            return None
        service = short(event.service)
        found_fault = self._senders.objection(delivery, service)
        if found_fault is not None:
            return replace(found_fault, why=f"it tells of a dead letter of {service}: {found_fault.why}")
        if isinstance(event, DeadLetterHandled) or service_of(event.queue) in (None, service):
            return None
        # Sent again it would go where that queue is bound, as if it had died there.
        return Objection(
            FORBIDDEN_SENDER,
            f"it tells of a dead letter of {service} in the queue {short(event.queue)} of {service_of(event.queue)}",
        )

    def concerns(self, received: Received) -> Sequence[str]:
        """Nothing: letters are collected each by itself."""
        return ()

    async def due(
        self, connection: AsyncConnection, now: datetime, limit: int
    ) -> tuple[Sequence[Tick], datetime | None]:
        """Nothing comes due here."""
        return (), None

    def begin(self, work: Work, messages: Sequence[Received], ticks: Sequence[Tick]) -> Act:
        return self.handle

    async def handle(self, work: Work, batch: Batch) -> None:
        """Fold what is told over the letters it is about. Raises Conflict where another process came between."""
        named = {letter for each in batch.fresh for letter in _named(each)}
        shelf = _Shelf(work.now)
        await shelf.load(work.connection, named)
        for received in batch.fresh:
            shelf.take(received)
        await shelf.write(work.connection)

    async def fail(self, work: Work, received: Received, error: Exception) -> None:
        """There is no further table to bury it in."""
        raise error


@dataclass(slots=True)
class _Shelf:
    """The letters that a batch is about, as they will be written."""

    now: datetime
    letters: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    known: set[UUID] = field(default_factory=set)
    changed: set[UUID] = field(default_factory=set)

    async def load(self, connection: AsyncConnection, ids: set[UUID]) -> None:
        table = collected_letter
        rows = await bulk.select(connection, tuple(table.c), table.c.id, sorted(ids), "ORDER BY id FOR UPDATE")
        self.letters = {row.id: row._asdict() for row in rows}
        self.known = set(self.letters)

    def take(self, received: Received) -> None:
        """What one message tells."""
        event = received.message
        if isinstance(event, DeadLetterHandled):
            self._handled(event, received.envelope.time)
        elif isinstance(event, GivenUp):
            # Sent again by a person and given up again: the same letter, if it is from the same queue.
            named = None if event.redrives is None else self.letters.get(event.redrives)
            same = named is not None and named["queue"] == short(event.queue)
            letter = event.redrives if same and event.redrives is not None else event.letter_id
            self._died(letter, event, self.now)
        elif isinstance(event, DeadLettered):
            self._died(event.letter_id, event, received.envelope.time)

    def _died(self, letter: UUID, event: DeadLettered, at: datetime) -> None:
        known = self.letters.get(letter)
        if known is not None and known["service"] != short(event.service):
            # One service's word does not change what another has told, nor is it lost.
            letter = _apart(letter, event)
        told = _as_told(letter, event, at)
        row = self.letters.get(letter)
        if row is None:
            self.letters[letter] = told | dict(_UNDECIDED) | {"failures": 1, "first_at": at}
        else:
            row["failures"] += 1
            late = at <= row["at"] or (row["handled_at"] is not None and at <= row["handled_at"])
            if not late:
                row |= told | {"state": "open"}
        self.changed.add(letter)

    def _handled(self, event: DeadLetterHandled, at: datetime) -> None:
        letter = event.letter_id
        row = self.letters.get(letter)
        if row is not None and row["service"] != short(event.service):
            return
        # Between a person's redrive and its outcome clocks need not agree; otherwise an older word changes nothing.
        if row is not None and (row["state"] == "redriven" or at >= row["at"]):
            row |= {"state": "handled", "handled_at": at}
            self.changed.add(letter)

    async def write(self, connection: AsyncConnection) -> None:
        names = tuple(column.name for column in collected_letter.c)
        fresh = [self.letters[letter] for letter in sorted(self.changed - self.known)]
        inserted = await bulk.insert(connection, collected_letter, names, fresh, ignore_conflicts=True, returning="id")
        if len(inserted) != len(fresh):
            raise Conflict("another process has collected a letter of this batch")
        before = [self.letters[letter] for letter in sorted(self.changed & self.known)]
        await bulk.update(connection, collected_letter, ("id",), names[1:], before)


_UNDECIDED: Mapping[str, Any] = {
    "state": "open",
    "decided_at": None,
    "decided_by": None,
    "decided_why": None,
    "redriven_as": None,
    "handled_at": None,
}


def _as_told(letter: UUID, event: DeadLettered, at: datetime) -> dict[str, Any]:
    return {
        "id": letter,
        "service": short(event.service),
        "queue": short(event.queue),
        "reason": event.reason[:_LONGEST_REASON],
        "error": event.error,
        "message_id": None if event.message_id is None else short(event.message_id),
        "type": None if event.message_type is None else short(event.message_type),
        "correlation_id": None if event.correlation_id is None else short(event.correlation_id),
        "exchange": short(event.exchange),
        "routing_key": short(event.routing_key),
        "properties": event.properties,
        "body": event.body,
        "encoding": event.encoding,
        "size": event.size,
        "attempts": event.attempts,
        "at": at,
    }


def _named(received: Received) -> list[UUID]:
    event = received.message
    if isinstance(event, DeadLetterHandled):
        return [event.letter_id]
    if not isinstance(event, DeadLettered):
        return []
    named = [event.letter_id]
    if isinstance(event, GivenUp) and event.redrives is not None:
        named.append(event.redrives)
    return [*named, *(_apart(each, event) for each in named)]


def _apart(letter: UUID, event: DeadLettered) -> UUID:
    """The letter in the place of one that is another service's."""
    return uuid5(letter, short(event.service))


# -- what the broker gave up ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Death:
    """Where, why and when a message died, as the broker wrote it on its outside."""

    queue: str
    reason: str
    exchange: str
    count: int
    time: str


def _letter(delivery: Delivery, *, senders: Senders | None = None, forbidden: Objection | None = None) -> Received:
    """Anything as a letter in itself: what the broker gave up, or what its sender may not say, for the reason given."""
    death = _death(delivery)
    # As it was published, and not as the broker handed it on.
    delivery = replace(delivery, exchange=death.exchange)
    service = short(service_of(death.queue) or death.queue.rpartition(".")[0] or delivery.app_id or "unknown")
    if forbidden is not None:
        # What it says of itself is what is not believed.
        service = short(delivery.user_id or "unknown")
    envelope = None
    data: Any = None
    try:
        envelope, data = decode(delivery)
    except MalformedMessage as malformed:
        told = f"; besides, {malformed}"
    else:
        told = ""
        if senders is not None and forbidden is None:
            # The headers that say where it died may be anybody's.
            command = death.exchange == COMMANDS or exchange_of(death.queue) == COMMANDS
            forbidden = senders.objection(delivery, envelope.type, command=command)
    reason = death.reason if forbidden is None else forbidden.reason
    told = told if forbidden is None else f"; {forbidden.why}"
    unreadable = Unreadable(delivery, reason, f"{_sentence(death)}{told}", envelope, data)
    # Of what is not believed the id is not believed either: it might be that of a letter that is somebody else's.
    believed = envelope if forbidden is None else None
    own = unreadable_id(unreadable, service) if believed is None else letter_id(str(believed.id), service)
    letter = of_unreadable(service, unreadable, own, delivery.timestamp or _EPOCH)
    body, encoding = written(delivery.body)
    event = GivenUp(
        letter_id=own,
        service=service,
        queue=death.queue,
        reason=reason,
        error=letter.error,
        message_id=letter.message_id,
        message_type=letter.type,
        correlation_id=letter.correlation_id,
        exchange=letter.exchange,
        routing_key=letter.routing_key,
        properties=properties_of(delivery),
        attempts=death.count,
        size=len(delivery.body),
        body=body,
        encoding=encoding,
        redrives=None if believed is None else believed.redrives,
    )
    # The broker may say it twice. What was sent again by a person has another time on its outside.
    occurrence = uuid5(own, f"{death}\n{delivery.timestamp}")
    outside = Envelope(occurrence, event.wire_type, 1, service, letter.at, letter.correlation_id)
    return Received(outside, event, None, "", delivery.queue)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_REASON = 40


def _death(delivery: Delivery) -> _Death:
    headers = delivery.headers
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths else None
    found: Mapping[str, object] = last if isinstance(last, dict) else {}
    count = found.get("count")
    return _Death(
        queue=_word(found.get("queue") or headers.get("x-first-death-queue")),
        reason=_word(found.get("reason") or headers.get("x-first-death-reason"))[:_LONGEST_REASON] or STRAY,
        exchange=_word(found.get("exchange") or headers.get("x-first-death-exchange")),
        count=count if isinstance(count, int) and 0 <= count < 1_000_000 else 0,
        time=_word(found.get("time")),
    )


def _word(value: object) -> str:
    return "" if value is None else short(str(value))


_SENTENCES = {
    "delivery_limit": "its consumer died or gave it back too often, and the broker gave it up",
    "rejected": "its consumer could neither handle nor bury it, and gave it up; see `given_up` in that service's log",
    "expired": "it waited in the queue for longer than the broker was told to keep it",
    "maxlen": "the queue was full",
    STRAY: "it was published to the dead-letter exchange itself; nothing says where it died",
}


def _sentence(death: _Death) -> str:
    words = _SENTENCES.get(death.reason, f"the broker gave it up: {death.reason}")
    return f"{death.queue}: {words}" if death.queue else words
