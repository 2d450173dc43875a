"""Looks at the database and the broker, made when somebody asks for figures and not more often than every EVERY
seconds. What was found is kept: whoever asks meanwhile, or while a look fails, gets it with its age.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.bus import Bus, BusUnavailable
from messaging.clock import Clock
from messaging.database import DATABASE_ERRORS, Database, in_words
from messaging.telemetry.families import Family, Look

EVERY = 10.0
"""Seconds between two looks, however many ask."""
PATIENCE = 2.0
"""Seconds that an answer waits for a look; it goes on, and the next answer has what it finds."""
STATEMENT_MILLISECONDS = 2000
"""What PostgreSQL may take for one statement of a look."""

Find = Callable[[], Awaitable[Sequence[Family]]]


class KeptFigures:
    """What one kind of look has found last."""

    def __init__(self, what: str, find: Find, clock: Clock) -> None:
        self.what = what
        self.failures = 0
        self._find = find
        self._clock = clock
        self._found: Sequence[Family] = ()
        self._found_at: float | None = None
        self._began: float | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def age(self) -> float | None:
        """How old it is, in seconds; None before anything was found."""
        return None if self._found_at is None else self._clock.monotonic() - self._found_at

    async def fresh(self) -> Sequence[Family]:
        """What is to be found, or was, where looking takes long or fails."""
        under_way = self._looking is not None and not self._looking.done()
        if not under_way and (self._began is None or self._clock.monotonic() - self._began >= EVERY):
            self._began = self._clock.monotonic()
            self._looking = asyncio.create_task(self._look(), name=f"look at the {self.what}")
        if self._looking is not None:
            # Not cancelled where it takes longer: that would cut a statement short on a connection of the pool.
            await asyncio.wait((self._looking,), timeout=PATIENCE)
            if self._looking.done() and not self._looking.cancelled():
                # A mistake of ours is for whoever asks to see.
                self._looking.result()
        return self._found

    async def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        try:
            self._found = await self._find()
        except (*DATABASE_ERRORS, BusUnavailable) as error:
            self.failures += 1
            structlog.get_logger().warning("metrics_look_failed", what=self.what, error=in_words(error))
        else:
            self._found_at = self._clock.monotonic()


def told(looks: Iterable[KeptFigures]) -> Iterable[Family]:
    """How the looks fare."""
    labels = ("what",)
    kept = tuple(looks)
    yield Family(
        "amends_look_age_seconds",
        "How old the figures are that were found in the database or on the broker.",
        "gauge",
        labels,
        {(each.what,): each.age for each in kept if each.age is not None},
    )
    yield Family(
        "amends_look_failures",
        "Looks at the database or the broker that failed; the figures stay as they were.",
        "counter",
        labels,
        {(each.what,): each.failures for each in kept},
    )


class DatabaseLook:
    """All that is looked for in the database, in one transaction that reads only."""

    def __init__(self, database: Database, looks: Sequence[Look], clock: Clock) -> None:
        self._database = database
        self._looks = tuple(looks)
        self._clock = clock

    async def __call__(self) -> Sequence[Family]:
        found: list[Family] = []
        async with self._database.reading() as connection:
            await _bound(connection)
            for look in self._looks:
                found.extend(await look(connection, self._clock.now()))
        return found


async def _bound(connection: AsyncConnection) -> None:
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql(f"SET LOCAL statement_timeout = {STATEMENT_MILLISECONDS}")


class BrokerLook:
    """How long queues are, and who reads them."""

    def __init__(self, bus: Bus, queues: Callable[[], Iterable[str]]) -> None:
        self._bus = bus
        self._queues = queues

    async def __call__(self) -> Sequence[Family]:
        states = [await self._bus.inspect(name) for name in dict.fromkeys(self._queues())]
        there = [state for state in states if state is not None]
        return (
            Family(
                "amends_queue_messages",
                "Messages in a queue that nobody has taken yet.",
                "gauge",
                ("queue",),
                {(state.name,): state.ready for state in there},
            ),
            Family(
                "amends_queue_consumers",
                "Consumers of a queue.",
                "gauge",
                ("queue",),
                {(state.name,): state.consumers for state in there},
            ),
        )
