"""One lane of a worker: batch after batch, each in one transaction, from what was taken to what is acknowledged.

A batch that fails is taken apart until the message that did it stands alone. What passes by itself (the
database is gone, a deadlock) is tried again here, in memory, never requeued. What takes the database too long may be
too much at once: after some tries it is taken apart too. What belongs to the message is the consumer's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import DBAPIError

from messaging import claiming
from messaging.bisecting import HandlerFailed, apart
from messaging.bus import Subscription
from messaging.clock import Checkpoint, Clock, Entropy
from messaging.consumer import Act, Batch, CannotGoOn, Consumer
from messaging.database import (
    DATABASE_ERRORS,
    Conflict,
    Database,
    Unforeseen,
    collided,
    in_words,
    is_transient,
    may_not,
    there_already,
    took_too_long,
)
from messaging.hand import Hand
from messaging.lone import Lone
from messaging.outbox_rows import Pending
from messaging.polling import Poller
from messaging.received import Arrival, Received, Tick, Unreadable
from messaging.relay import Relay
from messaging.sealing import hiding
from messaging.settling import Settling
from messaging.sizing import Sizing
from messaging.slowness import Slow
from messaging.subject_keys import KeysUnavailable
from messaging.work import Work

LONGEST_RETRY = 10.0
STALLED = timedelta(minutes=2)
"""A batch in hand for longer than this is told as an obstacle by `/readyz`."""
HANDLER_TRIES = 5
"""How often a batch waits for a database error in a handler to pass; one that fails for ever must stop nobody else."""
SLOW_TRIES = 2
"""How often a batch is tried again that took the database too long, before it is taken apart, and a message before it
is given to its consumer; what is between the two is tried once. Each try may take a statement's whole time."""


@dataclass(slots=True)
class Station:
    """What the lanes of one worker share."""

    consumer: Consumer
    service: str
    database: Database
    relay: Relay
    clock: Clock
    entropy: Entropy
    grace: timedelta
    checkpoint: Checkpoint
    hand: Hand
    poller: Poller
    subscriptions: dict[str, Subscription]
    settling: Settling
    finishes: bool
    """Whether what is in hand is handled before the end, instead of going back to its queue, as long as it can be."""
    slow: Slow = field(default_factory=Slow)
    lone: Lone = field(default_factory=Lone)
    busy: set[str] = field(default_factory=set)
    """Queues of which something was handled."""
    stopping: bool = False
    batches: int = 0
    """Transactions that were committed."""
    conflicts: int = 0
    """Transactions that were begun anew because another one was in the way."""


class Lane:
    """Handles one batch at a time."""

    def __init__(self, station: Station, batch_size: int) -> None:
        self._station = station
        self.sizing = Sizing(batch_size)
        self.waiting_for: str | None = None
        self.in_hand_since: datetime | None = None
        """When the batch in hand was begun; None while there is none."""
        self._reached = False
        self._opened: list[str] = []
        """What the last transaction has opened for handlers: its error may quote it."""
        self._turn = 0

    @property
    def moving(self) -> bool:
        """Whether work that was taken is being done: false while a batch waits for the database, or hangs."""
        since = self.in_hand_since
        if self.waiting_for is None and since is not None and self._station.clock.now() - since > STALLED:
            self.waiting_for = f"nothing has come of it since {since.isoformat(timespec='seconds')}"
        return self.waiting_for is None

    async def handle(self, arrivals: list[Arrival]) -> None:
        """Handle what was taken to the end, and say so; the next batch's size follows from how long that took."""
        settling = self._station.settling
        began = self._station.clock.monotonic()
        self._turn = settling.begin()
        try:
            await self._process(arrivals)
        finally:
            settling.end(self._turn)
            self._opened = []
        self._station.hand.done(arrivals)
        self.sizing.took(len(arrivals), self._station.clock.monotonic() - began)
        await settling.catch_up()

    async def _process(self, arrivals: list[Arrival]) -> None:
        """Handle arrivals to the end: committed, put off or buried; on a lost database, wait and try again."""
        self.in_hand_since = self._station.clock.now()
        whole, slow = self._station.slow.apart(arrivals)
        parts = [*([each] for each in slow), *([whole] if whole else [])]
        while parts:
            part = parts.pop()
            fresh = part is whole or (len(part) == 1 and part[0] not in self._station.slow)
            error = await self._persist(part, self._station.consumer.begin, slow_tries=SLOW_TRIES if fresh else 0)
            if error is None:
                self._station.slow.forget(part)
            elif len(part) == 1:
                await self._settle_alone(part[0], error)
            else:
                parts.extend(reversed(apart(part, error)))
        self.in_hand_since = None

    async def _persist(
        self, arrivals: list[Arrival], begin: Begin, *, slow_tries: int = SLOW_TRIES
    ) -> Exception | None:
        """One transaction, tried again while what fails passes by itself; returns what does not."""
        failures = 0
        station = self._station
        alone = len(arrivals) == 1 and station.lone.may(arrivals[0], station.clock.monotonic())
        # What comes again may have been handled.
        careful = any(each.delivery is not None and each.delivery.redelivered for each in arrivals)
        try:
            while True:
                self._reached = False
                try:
                    await self._transact(arrivals, begin, alone=alone and not failures, careful=careful)
                except CannotGoOn:
                    raise
                except Exception as error:  # noqa: BLE001 - the one boundary: whatever fails, is one message's fault or passes
                    if alone and isinstance(error, Unforeseen):
                        # No conflict yet: mostly a row of its key that another process has sent and not deleted.
                        station.lone.met(arrivals[0], station.clock.monotonic())
                        alone = False
                        continue
                    if not careful and there_already(error):
                        careful = True
                        self._station.conflicts += 1
                        continue
                    away = isinstance(error, DATABASE_ERRORS) and not self._reached
                    bound = None if away else _tries(error, slow_tries)
                    if bound is not None and failures >= bound:
                        return error
                    failures += 1
                    self._station.conflicts += collided(_cause(error))
                    self.waiting_for = in_words(_cause(error))
                    structlog.get_logger().warning(
                        "batch_waits", consumer=self._station.consumer.name, failures=failures, error=self.waiting_for
                    )
                    if self._station.stopping and not (self._station.finishes and isinstance(_cause(error), Conflict)):
                        # Unacknowledged: the broker hands them to somebody else when we close.
                        self._station.poller.release(arrivals)
                        self._station.finishes = False
                        return None
                    # Whoever was in the way has committed by then: the same again finds what that left.
                    if failures > 1 or not isinstance(_cause(error), Conflict):
                        await self._station.clock.sleep(
                            min(0.05 * 2 ** min(failures, 10), LONGEST_RETRY) * (0.5 + self._station.entropy.jitter())
                        )
                else:
                    return None
        finally:
            self.waiting_for = None

    async def _settle_alone(self, arrival: Arrival, error: Exception) -> None:
        cause = _cause(error)
        if took_too_long(cause) and not _is_foreign(error):
            self._station.slow.note(arrival)
        received = self._station.hand.content(arrival)
        if not isinstance(received, Received):
            await self._give_up(arrival, error)
            return
        structlog.get_logger().warning(
            "message_failed",
            consumer=self._station.consumer.name,
            type=received.envelope.type,
            message_id=str(received.envelope.id),
            correlation_id=received.envelope.correlation_id,
            attempts=received.attempts + 1,
            error=hiding(f"{type(cause).__name__}: {cause}", self._opened),
        )

        async def settle(work: Work, batch: Batch) -> None:
            for each in batch.fresh:
                await self._station.consumer.fail(work, each, cause)

        unsettled = await self._persist([arrival], lambda *_: settle)
        if unsettled is not None:
            await self._give_up(arrival, unsettled)

    async def _give_up(self, arrival: Arrival, error: Exception) -> None:
        """The last resort for what breaks even its own burial: whatever it is, it stops nobody else.

        What took too long even there (somebody holds its rows) rests, unacknowledged: the broker would bury it.
        """
        structlog.get_logger().error(
            "given_up", consumer=self._station.consumer.name, tick=repr(arrival.tick), exc_info=error
        )
        if arrival.delivery is None or took_too_long(_cause(error)):
            self._station.poller.rest(arrival)
        else:
            await self._station.subscriptions[arrival.delivery.queue].reject([arrival.delivery], requeue=False)

    async def _transact(self, arrivals: list[Arrival], begin: Begin, *, alone: bool, careful: bool) -> None:
        station, relay = self._station, self._station.relay
        ticks, readable, unreadable = self._sorted(arrivals)
        sent: set[int] = set()
        pending: list[Pending] = []
        committed = False
        try:
            async with station.database.transaction() as connection:
                self._reached = True
                work = Work(connection, station.clock.now(), station.service, station.consumer.name, careful=careful)
                self._opened = work.opened
                if not all(each.deferred for each in readable):
                    # Deleted before a handler locks anything, or not with this batch. They may be another process's,
                    # which deletes them as well: whoever does so first must not wait behind them for the other's locks.
                    sent = relay.delete_with(work.writes)
                try:
                    await claiming.bury(work, unreadable)
                    claim = await claiming.claim(work, readable)
                    act = begin(work, claim.messages, ticks)
                    fresh, repeated = await claim.made()
                    await act(work, Batch(fresh, repeated, ticks))
                    pending = await work.write(relay, station.grace, alone=alone)
                    # From the commit on, another lane may find these rows, and must know that they leave by themselves.
                    # What is alone is committed already: who met its rows meanwhile leaves what follows to the
                    # sweepers.
                    relay.expect(pending)
                    if not connection.in_transaction():
                        # Others wait for what leaves; nobody for this connection.
                        committed = True
                        written = self._committed(sent, pending)
                finally:
                    await work.close()
        except BaseException:
            if not committed:
                relay.kept(sent)
                relay.withdraw(pending)
            raise
        if not committed:
            written = self._committed(sent, pending)
        if not written:
            # What others wait for goes first: the relay's turn of the loop, and then the broker's disk.
            await asyncio.sleep(0)
        for act_now in work.after_commit:
            act_now()
        station.poller.release(arrivals)
        station.poller.hint(work.wake_at)
        await self._settle(arrivals)
        station.checkpoint("acknowledged")

    def _committed(self, sent: set[int], pending: Sequence[Pending]) -> bool:
        """A transaction has: what it wrote leaves. Returns whether it is on its way already."""
        station = self._station
        station.batches += 1
        station.relay.deleted(sent)
        station.checkpoint("committed")
        return station.relay.offer(pending)

    def _sorted(self, arrivals: Sequence[Arrival]) -> tuple[list[Tick], list[Received], list[Unreadable]]:
        """What a batch is made of."""
        ticks: list[Tick] = []
        readable: list[Received] = []
        unreadable: list[Unreadable] = []
        for arrival in arrivals:
            if arrival.tick is not None:
                ticks.append(arrival.tick)
                continue
            found = self._station.hand.content(arrival)
            if isinstance(found, Received):
                readable.append(found)
            elif found is not None:
                unreadable.append(found)
        return ticks, readable, unreadable

    async def _settle(self, arrivals: Sequence[Arrival]) -> None:
        deliveries = [each.delivery for each in arrivals if each.delivery is not None]
        self._station.busy.update(each.queue for each in deliveries)
        if deliveries:
            await self._station.settling.ack(self._turn, deliveries)


Begin = Callable[[Work, Sequence[Received], Sequence[Tick]], Act]
"""Says what is to be done inside a batch's transaction; see `Consumer.begin`."""


def _tries(error: Exception, slow_tries: int) -> int | None:
    """How often what failed like this inside its transaction is tried again; None: until it passes."""
    cause = _cause(error)
    if isinstance(cause, KeysUnavailable):
        # As for the database's outage: it is nobody's message that is to blame.
        return None
    if may_not(cause) and not isinstance(error, HandlerFailed):
        # It is our own tables that somebody has to grant us; every message would become a dead letter meanwhile.
        return None
    if not is_transient(cause) or _is_foreign(error):
        return 0
    if took_too_long(cause):
        return slow_tries
    return HANDLER_TRIES if isinstance(error, HandlerFailed) else None


def _is_foreign(error: Exception) -> bool:
    """Whether it is none of our database's: a handler's own connection refused is not our database being away."""
    return isinstance(error, HandlerFailed) and not isinstance(error.cause, DBAPIError)


def _cause(error: Exception) -> Exception:
    return error.cause if isinstance(error, HandlerFailed) else error
