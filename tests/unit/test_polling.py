"""When a poller looks: at intervals, in time for what it has been told of, and not because it has been told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from contracts.registry import Registry
from messaging.polling import Poller
from messaging.received import Tick

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.passed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed

    async def sleep(self, seconds: float) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.passed + seconds, waiting))
        await waiting

    async def move(self, seconds: float) -> None:
        """Let so much time pass, and everybody do what he has to do by then."""
        await self._settle()
        self.passed = round(self.passed + seconds, 6)
        for until, waiting in self._sleepers:
            if until <= self.passed and not waiting.done():
                waiting.set_result(None)
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


class Looked:
    """A consumer that notes when it was looked at, and may say something meanwhile."""

    name = "depot"
    registry = Registry()

    def __init__(self, clock: Hands) -> None:
        self.at: list[float] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self._clock = clock

    async def due(self, _connection: Any, _now: datetime, _limit: int) -> tuple[Sequence[Tick], datetime | None]:
        self.at.append(self._clock.passed)
        self.meanwhile()
        return (), None


@asynccontextmanager
async def _polling(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Hands, Looked, Poller]]:
    @asynccontextmanager
    async def reading() -> AsyncIterator[None]:
        yield

    async def nothing(*_: object) -> tuple[Sequence[Any], datetime | None]:
        return (), None

    monkeypatch.setattr("messaging.polling.deferred.due", nothing)
    clock = Hands()
    consumer = Looked(clock)
    database: Any = SimpleNamespace(reading=reading)
    poller = Poller(consumer, database, clock, interval=1.0, limit=10, found=lambda _: None)
    running = asyncio.create_task(poller.run())
    await clock.move(0)
    yield clock, consumer, poller
    poller.stop()
    await running


async def test_what_is_due_later_than_the_next_look_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step of a saga tells of a deadline: half a minute away, and mostly met."""
    async with _polling(monkeypatch) as (clock, consumer, poller):
        for _ in range(3):
            poller.hint(clock.now() + timedelta(seconds=30))
            await clock.move(0.25)
        assert consumer.at == [0.0]
        await clock.move(0.25)
        assert consumer.at == [0.0, 1.0]


async def test_what_is_due_sooner_is_looked_at_when_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when it was told, and not at the end of the interval."""
    async with _polling(monkeypatch) as (clock, consumer, poller):
        await clock.move(0.125)
        poller.hint(clock.now() + timedelta(seconds=0.5))
        poller.hint(clock.now() + timedelta(seconds=0.75))
        await clock.move(0.5)
        assert consumer.at == [0.0]
        await clock.move(0.0625)
        assert consumer.at == [0.0, 0.6875]


async def test_what_is_due_already_is_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delay of nothing does not wait for the clock, which may stand still; nor what is told during a look."""
    async with _polling(monkeypatch) as (clock, consumer, poller):
        poller.hint(clock.now())
        await clock.move(0)
        assert consumer.at == [0.0, 0.0]
        told = iter((True,))
        consumer.meanwhile = lambda: poller.hint(NOON) if next(told, False) else None
        await clock.move(1)
        assert consumer.at == [0.0, 0.0, 1.0, 1.0]


async def test_what_is_told_during_a_look_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look may have missed its row, and says nothing of it."""
    async with _polling(monkeypatch) as (clock, consumer, poller):
        consumer.meanwhile = lambda: poller.hint(NOON + timedelta(seconds=1.5))
        await clock.move(1.0)
        consumer.meanwhile = lambda: None
        assert consumer.at == [0.0, 1.0]
        await clock.move(0.75)
        assert consumer.at == [0.0, 1.0, 1.75]
