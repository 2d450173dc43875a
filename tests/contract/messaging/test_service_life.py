"""A service's beginning, however its clock is set meanwhile, and its end, whatever has died before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from pydantic import SecretStr

from messaging.database import Database
from messaging.memory import MemoryBus
from messaging.memory_broker import MemoryBroker
from messaging.process import Running
from messaging.reached import DatabaseUnavailable
from messaging.service import Service
from messaging.settings import ServiceSettings
from tests.contract.messaging.bench import StillClock

SECONDS = 60
SETTINGS = ServiceSettings(
    database_url=SecretStr("sqlite://"),
    amqp_url=SecretStr("memory://"),
    port=0,
    start_timeout=timedelta(seconds=SECONDS),
)


class Away(Database):
    """A database that does not answer; whoever asks it sets the clock wrong, or right, by `steps` hours."""

    def __init__(self, clock: StillClock, steps: int) -> None:
        super().__init__("sqlite://")
        self.tries = 0
        self._clock = clock
        self._steps = steps

    async def ping(self) -> None:
        """Raise what a database raises that is away."""
        self.tries += 1
        if self.tries == 2:
            self._clock.moment += timedelta(hours=self._steps)
        raise ConnectionRefusedError("away")


class Impatient(StillClock):
    """Whoever sleeps has slept at once."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


@pytest.mark.parametrize("steps", [1, -1])
async def test_a_clock_that_is_set_changes_nothing_of_the_patience_at_the_start(steps: int) -> None:
    """A minute is a minute, also where the time synchronization sets the clock forward or back by an hour in it."""
    clock = Impatient()
    database = Away(clock, steps)
    service = Service(SETTINGS, MemoryBus(MemoryBroker(), service="x"), name="x", clock=clock, database=database)
    with pytest.raises(DatabaseUnavailable, match="away"):
        await service.start()
    assert SECONDS <= clock.monotonic() < SECONDS + 5
    assert database.tries > SECONDS / 5


class Closed(MemoryBus):
    """A bus that says whether it was closed, and may refuse to."""

    closed = False
    error: Exception | None = None

    async def close(self) -> None:
        """Close it, and raise its error."""
        self.closed = True
        await super().close()
        if self.error is not None:
            raise self.error


class Lost(Database):
    """A database that says whether it was closed, and in which nobody can look for outbox rows."""

    closed = False

    async def close(self) -> None:
        """Close it."""
        self.closed = True
        await super().close()


def _dying(url: str, held: list[str]) -> tuple[Service, Closed, Lost]:
    """A service that runs, and whose relay will die of its next look."""

    @asynccontextmanager
    async def holding() -> AsyncIterator[None]:
        yield
        held.append("let go")

    bus, database = Closed(MemoryBroker(), service="x"), Lost(url)
    settings = SETTINGS.model_copy(update={"migrate_on_start": True})
    return Service(settings, bus, name="x", database=database, interval=0.01, held_open=[holding()]), bus, database


async def _dies(service: Service) -> None:
    """Have the relay of one that runs die of a table that is not there any more."""
    async with service.database.transaction() as connection:
        await connection.exec_driver_sql("DROP TABLE outbox")
    with pytest.raises(Exception, match="no such table: outbox"):
        await asyncio.wait_for(service.failed(), 20)


async def test_a_service_that_has_died_closes_everything_and_then_says_what_of(sqlite_url: str) -> None:
    """Nothing of it stays open: not the bus, not the database, not what it holds."""
    held: list[str] = []
    service, bus, database = _dying(sqlite_url, held)
    await service.start()
    await _dies(service)
    with pytest.raises(Exception, match="no such table: outbox"):
        await service.close()
    assert (bus.closed, database.closed, held) == (True, True, ["let go"])


async def test_what_cannot_be_closed_leaves_nothing_else_open(sqlite_url: str) -> None:
    """A bus that raises keeps no database open."""
    held: list[str] = []
    service, bus, database = _dying(sqlite_url, held)
    bus.error = OSError("it hangs")
    await service.start()
    with pytest.raises(OSError, match="it hangs"):
        await service.close()
    assert (bus.closed, database.closed, held) == (True, True, ["let go"])


async def test_a_service_that_dies_leaves_none_of_its_process_open(sqlite_url: str) -> None:
    """The others in its process are closed too, and what it died of is what the process ends with."""
    service, bus, database = _dying(sqlite_url, [])
    other, other_bus, other_database = _dying(sqlite_url.replace(".db", "-2.db"), [])
    other_bus.error = OSError("it hangs")

    async def run() -> None:
        async with Running([service, other]) as running:
            await running.start()
            await _dies(service)
            await running.failed()

    with pytest.raises(Exception, match="no such table: outbox"):
        await asyncio.wait_for(run(), 30)
    assert [bus.closed, database.closed, other_bus.closed, other_database.closed] == [True] * 4
