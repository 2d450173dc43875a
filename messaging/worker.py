"""The loop that every service is: batch in, envelopes out, one transaction, then ack.

    deliveries -> take what is there (at most N) -> one transaction: claim in the inbox, handle, append to the outbox
               -> commit -> acknowledge; the relay publishes what was committed while the next batch is handled

The broker's callback only enqueues; all database work runs in this loop's own task, so that a lost connection
never cancels a transaction. A batch is never waited for: the next one is what has come in while the last was
committing.

A batch that fails is taken apart until the message that did it stands alone. What passes by itself (the
database is gone, a deadlock) is tried again here, in memory, never requeued. What belongs to the message is the
consumer's to decide.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.registry import InvalidMessage, Registry, UnknownMessage
from messaging import dead_letters, deferred, inbox
from messaging.bus import Bus, Delivery, Subscription
from messaging.clock import Checkpoint, Clock, Entropy, no_checkpoint
from messaging.database import Database, is_transient
from messaging.envelope import MalformedMessage
from messaging.inbox import Entry, Status
from messaging.received import Arrival, Received, Unreadable, read, read_stored
from messaging.relay import Relay
from messaging.work import Work

PREFETCH_BATCHES = 3
"""Unsettled messages per batch size: one batch in the transaction, one waiting, one on the wire."""
LONGEST_RETRY = 10.0


class HandlerFailed(Exception):
    """A handler raised; `received` are the messages it was given, `cause` what it raised."""

    def __init__(self, received: Sequence[Received], cause: Exception) -> None:
        super().__init__(str(cause))
        self.received = received
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Batch:
    """What a consumer gets: messages to act on, commands that were answered before, and what its poller found due."""

    fresh: list[Received] = field(default_factory=list)
    repeated: list[tuple[Received, Entry]] = field(default_factory=list)
    ticks: list[object] = field(default_factory=list)


class Consumer(Protocol):
    """What differs between one service and another."""

    @property
    def name(self) -> str:
        """Under this name the inbox remembers what was handled."""

    @property
    def registry(self) -> Registry:
        """The messages it can read."""

    async def handle(self, work: Work, batch: Batch) -> None:
        """Act on a batch in its transaction. Raises HandlerFailed to say whose fault it was."""

    async def fail(self, work: Work, received: Received, error: Exception) -> None:
        """Decide, in a transaction of its own, what becomes of a message that failed alone."""

    async def due(
        self, connection: AsyncConnection, now: datetime, limit: int
    ) -> tuple[Sequence[object], datetime | None]:
        """What has come due by itself, as hashable ticks, and when the next will."""


class Worker:
    """Runs one consumer on its queues."""

    def __init__(
        self,
        consumer: Consumer,
        *,
        service: str,
        queues: Sequence[str],
        database: Database,
        bus: Bus,
        relay: Relay,
        clock: Clock,
        entropy: Entropy,
        batch_size: int = 100,
        grace: timedelta = timedelta(seconds=10),
        interval: float = 1.0,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self._consumer = consumer
        self._service = service
        self._queues = tuple(queues)
        self._database = database
        self._bus = bus
        self._relay = relay
        self._clock = clock
        self._entropy = entropy
        self._batch_size = batch_size
        self._grace = grace
        self._interval = interval
        self._checkpoint = checkpoint
        self._arrivals: deque[Arrival] = deque()
        self._something = asyncio.Event()
        self._poll_now = asyncio.Event()
        self._next_due: datetime | None = None
        self._held: set[object] = set()
        self._subscriptions: dict[str, Subscription] = {}
        self._stopping = False
        self.waiting_for: str | None = None
        self.last_progress: datetime | None = None

    # -- life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Consume until `stop`; a batch that was begun is finished."""
        for queue in self._queues:
            self._subscriptions[queue] = await self._bus.subscribe(
                queue, prefetch=self._batch_size * PREFETCH_BATCHES, deliver=self._delivered
            )
        polling = asyncio.create_task(self._poll(), name=f"{self._consumer.name} due")
        try:
            while not self._stopping:
                if polling.done():
                    break
                if not self._arrivals:
                    self._something.clear()
                    await self._something.wait()
                    continue
                await self._process(self._take())
                await self._relay.room()
        finally:
            self._stopping = True
            self._poll_now.set()
            await polling

    async def stop(self) -> None:
        """Take no more deliveries and let `run` end after the batch in hand."""
        self._stopping = True
        for subscription in self._subscriptions.values():
            await subscription.cancel()
        self._something.set()
        self._poll_now.set()

    @property
    def attached(self) -> bool:
        """Whether the broker delivers to every queue of ours."""
        return len(self._subscriptions) == len(self._queues) and all(
            each.attached for each in self._subscriptions.values()
        )

    @property
    def moving(self) -> bool:
        """Whether work that has arrived is being done: false while we wait for the database."""
        return self.waiting_for is None

    # -- in --------------------------------------------------------------------------------------------------

    def _delivered(self, delivery: Delivery) -> None:
        self._arrivals.append(Arrival(delivery=delivery, subscription=self._subscriptions.get(delivery.queue)))
        self._something.set()

    def submit(self, arrival: Arrival) -> None:
        """Put something in the loop's hand from inside the process (the outcome of a call outside)."""
        self._arrivals.append(arrival)
        self._something.set()

    def _take(self) -> list[Arrival]:
        return [self._arrivals.popleft() for _ in range(min(self._batch_size, len(self._arrivals)))]

    async def _poll(self) -> None:
        while not self._stopping:
            now = self._clock.now()
            # Before the look, not after it: a hint that comes meanwhile is of a row this look may have missed.
            self._poll_now.clear()
            try:
                found, self._next_due = await self._find_due(now)
            except (DBAPIError, OSError) as error:
                if not is_transient(error):
                    self._something.set()
                    raise
                found, self._next_due = [], None
            for key, arrival in found:
                if key not in self._held:
                    self._held.add(key)
                    self._arrivals.append(arrival)
            if found:
                self._something.set()
            await self._until_due()

    async def _until_due(self) -> None:
        wait = self._interval
        if self._next_due is not None:
            wait = min(wait, max((self._next_due - self._clock.now()).total_seconds(), 0.0) + 0.001)
        timer = asyncio.ensure_future(self._clock.sleep(wait))
        hint = asyncio.ensure_future(self._poll_now.wait())
        _, late = await asyncio.wait((timer, hint), return_when=asyncio.FIRST_COMPLETED)
        for each in late:
            each.cancel()

    async def _find_due(self, now: datetime) -> tuple[list[tuple[object, Arrival]], datetime | None]:
        limit = self._batch_size * 2
        async with self._database.reading() as connection:
            rows, next_row = await deferred.due(connection, self._consumer.name, now, limit)
            ticks, next_tick = await self._consumer.due(connection, now, limit)
        found: list[tuple[object, Arrival]] = []
        for row in rows:
            try:
                received = read_stored(
                    row.body,
                    self._consumer.registry,
                    queue=row.queue,
                    attempts=row.attempts,
                    first_at=row.first_at,
                )
            except (MalformedMessage, UnknownMessage, InvalidMessage) as error:
                # It was readable when it was put off: this process runs older code. It waits for one that can.
                structlog.get_logger().error("deferred_unreadable", message_id=str(row.message_id), error=str(error))
                continue
            found.append((row.message_id, Arrival(received=received)))
        found.extend((tick, Arrival(tick=tick)) for tick in ticks)
        upcoming = [moment for moment in (next_row, next_tick) if moment is not None]
        return found, min(upcoming, default=None)

    # -- through ---------------------------------------------------------------------------------------------

    async def _process(self, arrivals: list[Arrival]) -> None:
        """Handle arrivals to the end: committed, put off or buried; on a lost database, wait and try again."""
        error = await self._persist(arrivals, self._consumer.handle)
        if error is not None:
            await self._take_apart(arrivals, error)
        self.last_progress = self._clock.now()

    async def _persist(self, arrivals: list[Arrival], act: Act) -> Exception | None:
        """One transaction, tried again while what fails passes by itself; returns what does not."""
        failures = 0
        try:
            while True:
                try:
                    await self._transact(arrivals, act)
                    return None
                except Exception as error:  # noqa: BLE001 - the one boundary: whatever fails, is one message's fault or passes
                    if not _passes_by_itself(error):
                        return error
                    failures += 1
                    self.waiting_for = str(error)
                    structlog.get_logger().warning(
                        "batch_waits", consumer=self._consumer.name, failures=failures, error=str(error)
                    )
                    if self._stopping:
                        self._let_go(arrivals)
                        return None
                    await self._clock.sleep(
                        min(0.05 * 2 ** min(failures, 10), LONGEST_RETRY) * (0.5 + self._entropy.jitter())
                    )
        finally:
            self.waiting_for = None

    async def _take_apart(self, arrivals: list[Arrival], error: Exception) -> None:
        if len(arrivals) == 1:
            await self._settle_alone(arrivals[0], error)
            return
        place = _culprit(arrivals, error)
        if place is not None:
            parts = [arrivals[:place], arrivals[place : place + 1], arrivals[place + 1 :]]
        else:
            half = len(arrivals) // 2
            parts = [arrivals[:half], arrivals[half:]]
        for part in parts:
            if part:
                await self._process(part)

    async def _settle_alone(self, arrival: Arrival, error: Exception) -> None:
        cause = error.cause if isinstance(error, HandlerFailed) else error
        received = arrival.received or self._read(arrival)
        if not isinstance(received, Received):
            # A tick of our own poller or an unreadable message failed: nobody's input is to blame, so it is our bug.
            raise error
        structlog.get_logger().warning(
            "message_failed",
            consumer=self._consumer.name,
            type=received.envelope.type,
            message_id=str(received.envelope.id),
            correlation_id=received.envelope.correlation_id,
            attempts=received.attempts + 1,
            error=f"{type(cause).__name__}: {cause}",
        )

        async def settle(work: Work, batch: Batch) -> None:
            for each in batch.fresh:
                await self._consumer.fail(work, each, cause)

        unsettled = await self._persist([arrival], settle)
        if unsettled is not None:
            raise unsettled

    async def _transact(self, arrivals: list[Arrival], act: Act) -> None:
        readable: list[Received] = []
        unreadable: list[Unreadable] = []
        ticks: list[object] = []
        for arrival in arrivals:
            if arrival.tick is not None:
                ticks.append(arrival.tick)
                continue
            found = arrival.received or self._read(arrival)
            if isinstance(found, Received):
                readable.append(found)
            else:
                unreadable.append(found)
        async with self._database.transaction() as connection:
            done = await self._relay.delete_confirmed(connection)
            work = Work(connection, self._clock.now(), self._service, self._consumer.name)
            try:
                await self._bury(work, unreadable)
                batch = await self._claim(work, readable)
                await act(work, Batch(batch.fresh, batch.repeated, ticks))
                pending = await work.write(self._relay, self._grace)
            finally:
                await work.close()
        self._relay.deleted(done)
        self._relay.offer(pending)
        for act_now in work.after_commit:
            act_now()
        self._release(arrivals)
        self._hint(work.wake_at)
        self._checkpoint("committed")
        await self._settle(arrivals)
        self._checkpoint("acknowledged")

    async def _claim(self, work: Work, readable: list[Received]) -> Batch:
        """Which of these are ours to act on, and which have been acted on before."""
        name = self._consumer.name
        from_broker = [each for each in readable if not each.deferred]
        from_table = [each for each in readable if each.deferred]
        batch = Batch()
        if from_table:
            taken = await deferred.take(work.connection, name, {each.envelope.id for each in from_table})
            for each in from_table:
                if each.envelope.id in taken:
                    taken.discard(each.envelope.id)
                    batch.fresh.append(each)
                    work.settled[each.envelope.id] = Entry(Status.DONE)
        first: dict[object, Received] = {}
        for each in from_broker:
            first.setdefault(each.envelope.id, each)
        fresh = await inbox.claim(work.connection, name, {each.envelope.id for each in first.values()}, work.now)
        batch.fresh.extend(each for each in first.values() if each.envelope.id in fresh)
        before = [each for each in first.values() if each.envelope.id not in fresh]
        if before:
            known = await inbox.entries(work.connection, name, [each.envelope.id for each in before])
            batch.repeated.extend((each, known[each.envelope.id]) for each in before if each.envelope.id in known)
        return batch

    async def _bury(self, work: Work, unreadable: list[Unreadable]) -> None:
        """Keep what nobody can read, once each, however often it is delivered."""
        letters = {
            dead_letters.unreadable_id(each.delivery, self._service): dead_letters.of_delivery(self._service, each.delivery, each.reason, each.error, work.now)
            for each in unreadable
        }
        fresh = await inbox.claim(work.connection, self._consumer.name, letters, work.now, Status.FAILED)
        for identity, letter in letters.items():
            if identity in fresh:
                structlog.get_logger().warning(
                    "dead_letter", reason=letter.reason, type=letter.type, error=letter.error, queue=letter.queue
                )
                work.bury(letter, identity)

    def _read(self, arrival: Arrival) -> Received | Unreadable:
        if arrival.delivery is None:
            raise TypeError("an arrival is a delivery, a stored message or a tick")
        return read(arrival.delivery, self._consumer.registry)

    # -- out -------------------------------------------------------------------------------------------------

    async def _settle(self, arrivals: Sequence[Arrival]) -> None:
        by_queue: dict[str, list[Delivery]] = {}
        for arrival in arrivals:
            if arrival.delivery is not None:
                by_queue.setdefault(arrival.delivery.queue, []).append(arrival.delivery)
        for queue, deliveries in by_queue.items():
            await self._subscriptions[queue].ack(deliveries)

    def _release(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            if arrival.tick is not None:
                self._held.discard(arrival.tick)
            elif arrival.received is not None:
                self._held.discard(arrival.received.envelope.id)

    def _let_go(self, arrivals: Sequence[Arrival]) -> None:
        # Unacknowledged: the broker hands them to somebody else when we close.
        self._release(arrivals)

    def _hint(self, wake_at: datetime | None) -> None:
        """Look for what is due earlier than planned, because a transaction has just written an earlier due time."""
        if wake_at is not None and (self._next_due is None or wake_at < self._next_due):
            self._next_due = wake_at
            self._poll_now.set()


class Act(Protocol):
    """What is done inside a batch's transaction."""

    async def __call__(self, work: Work, batch: Batch) -> None: ...


def _passes_by_itself(error: Exception) -> bool:
    if isinstance(error, HandlerFailed):
        # A handler's own connection refused is not our database being away.
        return isinstance(error.cause, DBAPIError) and is_transient(error.cause)
    return is_transient(error)


def _culprit(arrivals: Sequence[Arrival], error: Exception) -> int | None:
    """The place of the one message that a handler was given when it raised."""
    if not isinstance(error, HandlerFailed) or len(error.received) != 1:
        return None
    identity = error.received[0].envelope.id
    for place, arrival in enumerate(arrivals):
        if arrival.received is not None:
            if arrival.received.envelope.id == identity:
                return place
        elif arrival.delivery is not None and str(identity) == arrival.delivery.message_id:
            return place
    return None
