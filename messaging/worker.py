"""The loop that every service is: batch in, envelopes out, one transaction, then ack.

    deliveries -> take what is there (at most N) -> one transaction: claim in the inbox, handle, append to the outbox
               -> commit -> acknowledge; the relay publishes what was committed while the next batch is handled

The broker's callback only enqueues; all database work runs in this loop's own tasks, so that a lost connection
never cancels a transaction. A batch is never waited for: the next one is what has come in while the last was
committing. Where there are several lanes, one computes while the database works for another: each has a transaction
of its own, and what shares a correlation id or a key is never in two of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from messaging.bus import Bus, Delivery, Subscription
from messaging.clock import Checkpoint, Clock, Entropy, no_checkpoint
from messaging.consumer import Consumer
from messaging.database import Database
from messaging.hand import Hand
from messaging.lane import Lane, Station
from messaging.polling import Poller
from messaging.received import Arrival
from messaging.relay import Relay
from messaging.settling import Settling

PREFETCH_BATCHES = 2
"""Unsettled messages per largest batch: one in the transaction, one that comes in and is read meanwhile."""


SHARE = 2
"""A batch begins beside others that are under way when it has half as many messages as these, or more."""


class Worker:
    """Runs one consumer on its queues. With `finishes` it handles all that it has in hand before it ends."""

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
        lanes: int = 1,
        finishes: bool = False,
        grace: timedelta = timedelta(seconds=10),
        interval: float = 1.0,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self._name = consumer.name
        self._queues = tuple(queues)
        self._bus = bus
        self._relay = relay
        self._prefetch = batch_size * PREFETCH_BATCHES
        lanes = 1 if database.one_writer else lanes
        self._hand = Hand(
            consumer.read,
            self._holds,
            self._prefetch * len(self._queues),
            concerns=consumer.concerns if lanes > 1 else None,
        )
        self._resting: list[asyncio.Future[None]] = []
        """What lanes that have nothing to do wait for, the one that was busy last behind the others."""
        self._poller = Poller(
            consumer, database, clock, interval=interval, limit=batch_size * 2, found=self._has_come_due
        )
        self._subscriptions: dict[str, Subscription] = {}
        self._station = Station(
            consumer,
            service,
            database,
            relay,
            clock,
            entropy,
            grace,
            checkpoint,
            self._hand,
            self._poller,
            self._subscriptions,
            Settling(self._subscriptions, batch_size),
            finishes=finishes,
        )
        self._lanes = [Lane(self._station, batch_size) for _ in range(lanes)]
        self._under_way = 0
        """How many messages the lanes have taken."""
        self._left = False
        """Whether nothing more will come from the broker."""

    @property
    def batches(self) -> int:
        """Transactions that were committed."""
        return self._station.batches

    @property
    def conflicts(self) -> int:
        """Transactions that were begun anew because another one was in the way."""
        return self._station.conflicts

    # -- life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Consume until `stop`; a batch that was begun is finished. Raises what the consumer cannot go on for."""
        for queue in self._queues:
            self._subscriptions[queue] = await self._bus.subscribe(
                queue, prefetch=self._prefetch, deliver=self._delivered
            )
            if self._station.stopping:
                # `stop` has left those that it found, and not this one.
                await self._leave(queue)
                break
        polling = asyncio.create_task(self._poller.run(), name=f"{self._name} due")
        ahead = asyncio.create_task(self._hand.read_ahead(), name=f"{self._name} reads ahead")
        lanes = [
            asyncio.create_task(self._work(lane), name=f"{self._name} lane {number}")
            for number, lane in enumerate(self._lanes)
        ]
        try:
            await asyncio.wait((polling, ahead, *lanes), return_when=asyncio.FIRST_COMPLETED)
            self._end()
            await asyncio.wait(lanes)
        finally:
            self._end()
            for task in (ahead, *lanes):
                task.cancel()
            structlog.get_logger().info(
                "worker_ended", consumer=self._name, batches=self.batches, conflicts=self.conflicts
            )
            # Whichever has died, the worker ends with what it died of.
            await asyncio.wait((ahead, *lanes))
            await polling
            for task in (ahead, *lanes):
                if not task.cancelled():
                    task.result()

    def _end(self) -> None:
        """Let everything end that goes on by itself, after the batches in hand."""
        self._station.stopping = self._left = True
        while self._resting:
            self._wake()
        self._poller.stop()

    async def _work(self, lane: Lane) -> None:
        """Take and handle batches until `stop`."""
        while not self._station.stopping or (self._station.finishes and (len(self._hand) or not self._left)):
            taken = self._hand.take(lane.sizing.now) if self._worthwhile() else []
            if not taken:
                resting = asyncio.get_running_loop().create_future()
                self._resting.append(resting)
                await resting
                continue
            self._under_way += len(taken)
            if len(self._hand):
                self._look()
            await lane.handle(taken)
            self._under_way -= len(taken)
            if len(self._hand):
                # What had to wait for this batch may be taken now, by another lane too.
                self._look()
            await self._relay.room()
        # The next one may rest although there is nothing left for it.
        self._wake()

    def _look(self) -> None:
        """Something is in hand: a lane that rests looks at it, and what is not taken at once is read meanwhile.

        One lane: where it leaves something it wakes the next. A lone message would wake all for nothing.
        """
        if self._under_way:
            self._hand.read_on()
        self._wake()

    def _wake(self) -> None:
        while self._resting:
            resting = self._resting.pop()
            if not resting.done():
                resting.set_result(None)
                return

    def _worthwhile(self) -> bool:
        """Whether to begin a batch beside those under way: of small ones each costs as much, and they end as soon."""
        return len(self._hand) * SHARE >= self._under_way

    def read_also(self, queue: str) -> None:
        """Consume another queue, from `run` on."""
        self._queues = (*self._queues, queue)
        self._hand.make_room(self._prefetch * len(self._queues))

    def busy_since(self) -> set[str]:
        """The queues of which something was handled since this was last asked."""
        busy, self._station.busy = self._station.busy, set()
        return busy

    async def step_back(self, queue: str) -> None:
        """Go to the end of the line of a queue's consumers."""
        if queue in self._subscriptions and not self._station.stopping:
            await self._subscriptions[queue].step_back()

    async def stop(self) -> None:
        """Take no more deliveries and let `run` end after the batches in hand.

        What has arrived and is in no batch goes back to its queue at once: whoever else reads it need not wait for us.
        Who `finishes` handles it instead: each time that it went back would count towards the delivery limit.
        """
        self._station.stopping = True
        await self._leave(*self._subscriptions)
        self._end()

    async def _leave(self, *queues: str) -> None:
        """Read these no more, and give back what is in no batch, unless it will be handled."""
        for queue in queues:
            await self._subscriptions[queue].cancel()
        if self._station.finishes:
            return
        await self._give_back()

    async def _give_back(self) -> None:
        left: dict[str, list[Delivery]] = {}
        for each in self._hand.leave():
            left.setdefault(each.queue, []).append(each)
        for queue, theirs in left.items():
            await self._subscriptions[queue].reject(theirs, requeue=True)

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
        return all(lane.moving for lane in self._lanes)

    @property
    def waiting_for(self) -> str | None:
        """What a batch waits for, in words."""
        return next((lane.waiting_for for lane in self._lanes if lane.waiting_for is not None), None)

    @property
    def in_hand_since(self) -> datetime | None:
        """When the oldest batch in hand was begun; None while there is none."""
        return min((lane.in_hand_since for lane in self._lanes if lane.in_hand_since is not None), default=None)

    # -- in --------------------------------------------------------------------------------------------------

    def _delivered(self, delivery: Delivery) -> None:
        self._hand.deliver(delivery)
        self._look()

    def _holds(self, delivery: Delivery) -> bool:
        subscription = self._subscriptions.get(delivery.queue)
        return subscription is None or subscription.holds(delivery)

    def submit(self, arrival: Arrival) -> None:
        """Put something in the loop's hand from inside the process (the outcome of a call outside)."""
        self._has_come_due((arrival,))

    def _has_come_due(self, arrivals: Sequence[Arrival]) -> None:
        self._hand.add(arrivals)
        self._look()
