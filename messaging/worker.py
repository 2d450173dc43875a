"""The loop that every service is: batch in, envelopes out, one transaction, then ack.

    deliveries -> take what is there (at most N) -> one transaction: claim in the inbox, handle, append to the outbox
               -> commit -> acknowledge; the relay publishes what was committed while the next batch is handled

The broker's callback only enqueues; all database work runs in this loop's own task, so that a lost connection
never cancels a transaction. A batch is never waited for: the next one is what has come in while the last was
committing.

A batch that fails is taken apart until the message that did it stands alone. What passes by itself (the
database is gone, a deadlock) is tried again here, in memory, never requeued. What takes the database too long may be
too much at once: after some tries it is taken apart too. What belongs to the message is the consumer's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.registry import Registry
from messaging import claiming
from messaging.bisecting import HandlerFailed, apart
from messaging.bus import Bus, Delivery, Subscription
from messaging.clock import Checkpoint, Clock, Entropy, no_checkpoint
from messaging.database import DATABASE_ERRORS, Database, collided, in_words, is_transient, took_too_long
from messaging.hand import Hand
from messaging.inbox import Entry
from messaging.polling import Poller
from messaging.received import Arrival, Received, Unreadable
from messaging.relay import Relay
from messaging.sizing import Sizing
from messaging.slowness import Slow
from messaging.work import Work

PREFETCH_BATCHES = 2
"""Unsettled messages per largest batch: one in the transaction, one that comes in and is read meanwhile."""
LONGEST_RETRY = 10.0
STALLED = timedelta(minutes=2)
"""A batch in hand for longer than this is told as an obstacle by `/readyz`."""
HANDLER_TRIES = 5
"""How often a batch waits for a database error in a handler to pass; one that fails for ever must stop nobody else."""
SLOW_TRIES = 2
"""How often a batch is tried again that took the database too long, before it is taken apart, and a message before it
is given to its consumer; what is between the two is tried once. Each try may take a statement's whole time."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a consumer gets: messages to act on, commands that were answered before, and what its poller found due."""

    fresh: list[Received] = field(default_factory=list)
    repeated: list[tuple[Received, Entry]] = field(default_factory=list)
    ticks: list[object] = field(default_factory=list)


class CannotGoOn(Exception):
    """A consumer must handle nothing any more: its worker ends with this, what it has in hand stays on the queues."""


class Consumer(Protocol):
    """What differs between one service and another."""

    @property
    def name(self) -> str:
        """Under this name the inbox remembers what was handled."""

    @property
    def registry(self) -> Registry:
        """The messages it can read."""

    def read(self, delivery: Delivery) -> Received | Unreadable:
        """What a delivery is to it; `messaging.received.read` for everybody who collects no dead letters."""

    async def handle(self, work: Work, batch: Batch) -> None:
        """Act on a batch in its transaction. Raises HandlerFailed to say whose fault it was, CannotGoOn."""

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
        batch_size: int = 500,
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
        self._sizing = Sizing(batch_size)
        self._grace = grace
        self._checkpoint = checkpoint
        self._prefetch = batch_size * PREFETCH_BATCHES
        self._hand = Hand(consumer.read, self._holds, self._prefetch * len(self._queues))
        self._something = asyncio.Event()
        self._poller = Poller(
            consumer, database, clock, interval=interval, limit=batch_size * 2, found=self._has_come_due
        )
        self._subscriptions: dict[str, Subscription] = {}
        self._stopping = False
        self.waiting_for: str | None = None
        self.in_hand_since: datetime | None = None
        """When the batch in hand was begun; None while there is none."""
        self._slow = Slow()
        self._reached = False
        self._busy: set[str] = set()
        self.batches = 0
        """Transactions that were committed."""
        self.conflicts = 0
        """Transactions that were begun anew because another process's was in the way."""

    # -- life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Consume until `stop`; a batch that was begun is finished. Raises what the consumer cannot go on for."""
        for queue in self._queues:
            self._subscriptions[queue] = await self._bus.subscribe(
                queue, prefetch=self._prefetch, deliver=self._delivered
            )
        polling = asyncio.create_task(self._poller.run(), name=f"{self._consumer.name} due")
        ahead = asyncio.create_task(self._hand.read_ahead(), name=f"{self._consumer.name} reads ahead")
        for task in (polling, ahead):
            task.add_done_callback(lambda _: self._something.set())
        try:
            while not self._stopping:
                if polling.done() or ahead.done():
                    break
                if not self._hand:
                    self._something.clear()
                    await self._something.wait()
                    continue
                taken = self._hand.take(self._sizing.now)
                began = self._clock.monotonic()
                await self._process(taken)
                self._hand.done(taken)
                self._sizing.took(len(taken), self._clock.monotonic() - began)
                await self._relay.room()
        finally:
            self._stopping = True
            self._poller.stop()
            ahead.cancel()
            structlog.get_logger().info(
                "worker_ended", consumer=self._consumer.name, batches=self.batches, conflicts=self.conflicts
            )
            # Whichever has died, the worker ends with what it died of.
            await polling
            await asyncio.wait((ahead,))
            if not ahead.cancelled():
                ahead.result()

    def read_also(self, queue: str) -> None:
        """Consume another queue, from `run` on."""
        self._queues = (*self._queues, queue)
        self._hand.make_room(self._prefetch * len(self._queues))

    def busy_since(self) -> set[str]:
        """The queues of which something was handled since this was last asked."""
        busy, self._busy = self._busy, set()
        return busy

    async def step_back(self, queue: str) -> None:
        """Go to the end of the line of a queue's consumers."""
        if queue in self._subscriptions and not self._stopping:
            await self._subscriptions[queue].step_back()

    async def stop(self) -> None:
        """Take no more deliveries and let `run` end after the batch in hand."""
        self._stopping = True
        for subscription in self._subscriptions.values():
            await subscription.cancel()
        self._something.set()
        self._poller.stop()

    @property
    def queues(self) -> tuple[str, ...]:
        """Those that it reads."""
        return self._queues

    @property
    def attached(self) -> bool:
        """Whether the broker delivers to every queue of ours."""
        return len(self._subscriptions) == len(self._queues) and all(
            each.attached for each in self._subscriptions.values()
        )

    @property
    def moving(self) -> bool:
        """Whether work that has arrived is being done: false while a batch waits for the database, or hangs."""
        since = self.in_hand_since
        if self.waiting_for is None and since is not None and self._clock.now() - since > STALLED:
            self.waiting_for = f"nothing has come of it since {since.isoformat(timespec='seconds')}"
        return self.waiting_for is None

    # -- in --------------------------------------------------------------------------------------------------

    def _delivered(self, delivery: Delivery) -> None:
        self._hand.deliver(delivery)
        self._something.set()

    def _holds(self, delivery: Delivery) -> bool:
        subscription = self._subscriptions.get(delivery.queue)
        return subscription is None or subscription.holds(delivery)

    def submit(self, arrival: Arrival) -> None:
        """Put something in the loop's hand from inside the process (the outcome of a call outside)."""
        self._has_come_due((arrival,))

    def _has_come_due(self, arrivals: Sequence[Arrival]) -> None:
        self._hand.add(arrivals)
        self._something.set()

    # -- through ---------------------------------------------------------------------------------------------

    async def _process(self, arrivals: list[Arrival]) -> None:
        """Handle arrivals to the end: committed, put off or buried; on a lost database, wait and try again."""
        self.in_hand_since = self._clock.now()
        whole, slow = self._slow.apart(arrivals)
        parts = [*([each] for each in slow), *([whole] if whole else [])]
        while parts:
            part = parts.pop()
            fresh = part is whole or (len(part) == 1 and part[0] not in self._slow)
            error = await self._persist(part, self._consumer.handle, slow_tries=SLOW_TRIES if fresh else 0)
            if error is None:
                self._slow.forget(part)
            elif len(part) == 1:
                await self._settle_alone(part[0], error)
            else:
                parts.extend(reversed(apart(part, error)))
        self.in_hand_since = None

    async def _persist(self, arrivals: list[Arrival], act: Act, *, slow_tries: int = SLOW_TRIES) -> Exception | None:
        """One transaction, tried again while what fails passes by itself; returns what does not."""
        failures = 0
        try:
            while True:
                self._reached = False
                try:
                    await self._transact(arrivals, act)
                except CannotGoOn:
                    raise
                except Exception as error:  # noqa: BLE001 - the one boundary: whatever fails, is one message's fault or passes
                    away = isinstance(error, DATABASE_ERRORS) and not self._reached
                    bound = None if away else _tries(error, slow_tries)
                    if bound is not None and failures >= bound:
                        return error
                    failures += 1
                    self.conflicts += collided(_cause(error))
                    self.waiting_for = in_words(_cause(error))
                    structlog.get_logger().warning(
                        "batch_waits", consumer=self._consumer.name, failures=failures, error=self.waiting_for
                    )
                    if self._stopping:
                        # Unacknowledged: the broker hands them to somebody else when we close.
                        self._poller.release(arrivals)
                        return None
                    await self._clock.sleep(
                        min(0.05 * 2 ** min(failures, 10), LONGEST_RETRY) * (0.5 + self._entropy.jitter())
                    )
                else:
                    return None
        finally:
            self.waiting_for = None

    async def _settle_alone(self, arrival: Arrival, error: Exception) -> None:
        cause = _cause(error)
        if took_too_long(cause) and not _is_foreign(error):
            self._slow.note(arrival)
        received = self._hand.content(arrival)
        if not isinstance(received, Received):
            await self._give_up(arrival, error)
            return
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
            await self._give_up(arrival, unsettled)

    async def _give_up(self, arrival: Arrival, error: Exception) -> None:
        """The last resort for what breaks even its own burial: whatever it is, it stops nobody else.

        What took too long even there (somebody holds its rows) rests, unacknowledged: the broker would bury it.
        """
        structlog.get_logger().error("given_up", consumer=self._consumer.name, tick=repr(arrival.tick), exc_info=error)
        if arrival.delivery is None or took_too_long(_cause(error)):
            self._poller.rest(arrival)
        else:
            await self._subscriptions[arrival.delivery.queue].reject([arrival.delivery], requeue=False)

    async def _transact(self, arrivals: list[Arrival], act: Act) -> None:
        readable: list[Received] = []
        unreadable: list[Unreadable] = []
        ticks: list[object] = []
        for arrival in arrivals:
            if arrival.tick is not None:
                ticks.append(arrival.tick)
                continue
            found = self._hand.content(arrival)
            if isinstance(found, Received):
                readable.append(found)
            elif found is not None:
                unreadable.append(found)
        async with self._database.transaction() as connection:
            self._reached = True
            work = Work(connection, self._clock.now(), self._service, self._consumer.name)
            done = self._relay.delete_with(work.writes)
            try:
                await claiming.bury(work, unreadable)
                fresh, repeated = await claiming.claim(work, readable)
                await act(work, Batch(fresh, repeated, ticks))
                pending = await work.write(self._relay, self._grace)
            finally:
                await work.close()
        self.batches += 1
        self._relay.deleted(done)
        self._relay.offer(pending)
        for act_now in work.after_commit:
            act_now()
        self._poller.release(arrivals)
        self._poller.hint(work.wake_at)
        self._checkpoint("committed")
        await self._settle(arrivals)
        self._checkpoint("acknowledged")

    # -- out -------------------------------------------------------------------------------------------------

    async def _settle(self, arrivals: Sequence[Arrival]) -> None:
        by_queue: dict[str, list[Delivery]] = {}
        for arrival in arrivals:
            if arrival.delivery is not None:
                by_queue.setdefault(arrival.delivery.queue, []).append(arrival.delivery)
        self._busy.update(by_queue)
        for queue, deliveries in by_queue.items():
            await self._subscriptions[queue].ack(deliveries)


class Act(Protocol):
    """What is done inside a batch's transaction."""

    async def __call__(self, work: Work, batch: Batch) -> None: ...


def _tries(error: Exception, slow_tries: int) -> int | None:
    """How often what failed like this inside its transaction is tried again; None: until it passes."""
    cause = _cause(error)
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
