"""What comes due by itself: messages in `deferred` whose time has come, and a consumer's own ticks (a saga's deadline).

Looked for at intervals, and earlier where a transaction has just written an earlier time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.registry import InvalidMessage, Registry, UnknownMessage
from messaging import deferred
from messaging.clock import Clock
from messaging.database import DATABASE_ERRORS, Database, is_transient
from messaging.envelope import MalformedMessage
from messaging.received import Arrival, Tick, read_stored

REST = timedelta(minutes=5)
"""How long something that nobody here can act on is left alone before it is tried again."""


class Pollable(Protocol):
    """What a poller needs to know of a consumer."""

    @property
    def name(self) -> str: ...

    @property
    def registry(self) -> Registry: ...

    async def due(
        self, connection: AsyncConnection, now: datetime, limit: int
    ) -> tuple[Sequence[Tick], datetime | None]: ...


class Poller:
    """Hands each due thing to `found` once, and again only after it has been released."""

    def __init__(
        self,
        consumer: Pollable,
        database: Database,
        clock: Clock,
        *,
        interval: float,
        limit: int,
        found: Callable[[Sequence[Arrival]], None],
    ) -> None:
        self._consumer = consumer
        self._database = database
        self._clock = clock
        self._interval = interval
        self._limit = limit
        self._found = found
        self._sooner = asyncio.Event()
        self._next: datetime | None = None
        """When the next thing is due, as far as the last look and what has been hinted since say."""
        self._looks_at: datetime | None = None
        """When the next look will be, while it is waited for."""
        self._overdue = False
        """Whether something was hinted, since the last look began, that is due already."""
        self._held: set[object] = set()
        self._resting: dict[object, datetime] = {}
        self._aside: list[tuple[datetime, Arrival]] = []
        self._stopping = False

    async def run(self) -> None:
        """Look until `stop`. A database that is away is waited for; any other error is raised."""
        while not self._stopping:
            # Before the look, not after it: what is hinted meanwhile is of a row that this look may have missed.
            self._next, self._overdue = None, False
            try:
                found, upcoming = await self._find(self._clock.now())
            except DATABASE_ERRORS as error:
                if not is_transient(error):
                    raise
                found, upcoming = [], None
            self._expect(upcoming)
            fresh = [each for each in found if _key(each) not in self._held and _key(each) not in self._resting]
            self._held.update(_key(each) for each in fresh)
            fresh.extend(self._rested(self._clock.now()))
            if fresh:
                self._found(fresh)
            await self._until_due()

    def stop(self) -> None:
        self._stopping = True
        self._sooner.set()

    def hint(self, moment: datetime | None) -> None:
        """A transaction has just written a time that may be earlier than the next look."""
        if moment is None:
            return
        self._expect(moment)
        self._overdue = self._overdue or moment <= self._clock.now()
        if self._looks_at is not None and moment < self._looks_at:
            self._sooner.set()

    def _expect(self, moment: datetime | None) -> None:
        if moment is not None and (self._next is None or moment < self._next):
            self._next = moment

    def release(self, arrivals: Sequence[Arrival]) -> None:
        """These have been acted on; what comes due for them from now on is new."""
        for each in arrivals:
            if each.delivery is None:
                self._held.discard(_key(each))

    def rest(self, arrival: Arrival) -> None:
        """Nobody here can act on this one now: leave it alone for a while. A delivery is kept here, unsettled."""
        until = self._clock.now() + REST
        if arrival.delivery is not None:
            self._aside.append((until, arrival))
            return
        self._resting[_key(arrival)] = until
        self._held.discard(_key(arrival))

    def _rested(self, now: datetime) -> list[Arrival]:
        rested = [arrival for until, arrival in self._aside if until <= now]
        self._aside = [each for each in self._aside if each[0] > now]
        return rested

    async def _until_due(self) -> None:
        """Wait until something is due, for an interval at most; to be told of a moment is no reason to look at once."""
        look = self._clock.monotonic() + self._interval
        while not self._stopping:
            self._sooner.clear()
            if self._overdue:
                break
            now = self._clock.now()
            wait = look - self._clock.monotonic()
            if self._next is not None:
                wait = min(wait, max((self._next - now).total_seconds(), 0.0) + 0.001)
            if wait <= 0:
                break
            self._looks_at = now + timedelta(seconds=wait)
            timer = asyncio.ensure_future(self._clock.sleep(wait))
            hint = asyncio.ensure_future(self._sooner.wait())
            done, late = await asyncio.wait((timer, hint), return_when=asyncio.FIRST_COMPLETED)
            for each in late:
                each.cancel()
            if timer in done:
                break
        self._looks_at = None

    async def _find(self, now: datetime) -> tuple[list[Arrival], datetime | None]:
        self._resting = {key: until for key, until in self._resting.items() if until > now}
        limit = self._limit + len(self._resting)
        async with self._database.reading() as connection:
            rows, next_row = await deferred.due(connection, self._consumer.name, now, limit)
            ticks, next_tick = await self._consumer.due(connection, now, limit)
        found = await self._readable(rows, now)
        found.extend(Arrival(tick=tick) for tick in ticks)
        upcoming = [moment for moment in (next_row, next_tick) if moment is not None]
        return found, min(upcoming, default=None)

    async def _readable(self, rows: Sequence[deferred.Due], now: datetime) -> list[Arrival]:
        found: list[Arrival] = []
        unreadable: dict[deferred.Due, str] = {}
        for row in rows:
            try:
                received = read_stored(
                    row.body, self._consumer.registry, queue=row.queue, attempts=row.attempts, first_at=row.first_at
                )
            except (MalformedMessage, UnknownMessage, InvalidMessage) as error:
                # It was readable when it was put off: this process runs older code. It waits for one that can.
                structlog.get_logger().error("deferred_unreadable", message_id=str(row.message_id), error=str(error))
                unreadable[row] = str(error)
                continue
            found.append(Arrival(received=received))
        if unreadable:
            async with self._database.transaction() as connection:
                await deferred.postpone(connection, self._consumer.name, unreadable, now + REST)
        return found


def _key(arrival: Arrival) -> object:
    return arrival.received.envelope.id if arrival.received is not None else arrival.tick
