"""The simulation's own parts: time that jumps, hangs that show, and processes that die without finishing anything."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.simulation.driver import Engines
from tests.simulation.life import Doom, Killed, Life, adopting
from tests.simulation.virtual import NothingWillHappen, SimClock, TimeStandsStill, VirtualLoop


class Calm:
    """A disk without faults."""

    def failing(self) -> bool:
        return False

    def uncertain(self) -> bool:
        return False

    def committed(self) -> None:
        """Nobody wants to know."""


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """A loop of the test's own."""
    made = VirtualLoop()
    yield made
    made.close()


def _life(loop: VirtualLoop) -> Life:
    loop.set_task_factory(adopting)  # type: ignore[arg-type]  # typeshed's protocol knows no keywords
    return Life("shop", 1, loop, random.Random(1), lambda _who, _what: None)


def test_a_day_of_sleep_takes_a_day_of_the_clock_and_no_time(loop: VirtualLoop) -> None:
    """Sleeping moves the simulated clock by exactly what was asked for."""
    clock = SimClock(loop)
    before = clock.now()
    loop.run_until_complete(clock.sleep(86_400))
    assert (clock.now() - before).total_seconds() == pytest.approx(86_400)


def test_sleepers_wake_in_the_order_of_their_times(loop: VirtualLoop) -> None:
    """Two tasks that sleep for different times wake in that order, whichever began first."""
    woken: list[int] = []

    async def sleep(seconds: int) -> None:
        await asyncio.sleep(seconds)
        woken.append(seconds)

    async def both() -> None:
        await asyncio.gather(sleep(7), sleep(3))

    loop.run_until_complete(both())
    assert woken == [3, 7]


def test_a_hang_is_an_error(loop: VirtualLoop) -> None:
    """When every task waits and no timer is set, the loop says so instead of waiting."""
    never = loop.create_future()
    with pytest.raises(NothingWillHappen):
        loop.run_until_complete(never)


def test_a_busy_loop_is_an_error(loop: VirtualLoop) -> None:
    """When tasks keep running without letting time pass, the loop says so."""

    async def spin() -> None:
        while True:  # noqa: ASYNC110 - a busy loop is what this is about
            await asyncio.sleep(0)

    task = loop.create_task(spin())
    with pytest.raises(TimeStandsStill):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


@pytest.mark.parametrize(("place", "kept"), [("before commit", 0), ("after commit", 1)])
def test_a_killed_process_leaves_what_it_had_committed_and_no_more(
    loop: VirtualLoop, tmp_path: Path, place: str, kept: int
) -> None:
    """Killed just before its commit a process leaves nothing, killed just after it everything."""
    life = _life(loop)
    file = tmp_path / "shop.db"
    sqlite3.connect(file).executescript("CREATE TABLE sold (what TEXT); PRAGMA journal_mode=WAL").connection.close()
    database = Engines().database("shop", file, life, Calm())

    async def sell() -> None:
        async with database.transaction() as connection:
            await connection.execute(text("INSERT INTO sold VALUES ('one')"))
            life.doom = Doom(place, 1)

    selling = life.spawn(sell(), "sell")
    with pytest.raises((Killed, asyncio.CancelledError)):
        loop.run_until_complete(selling)
    assert loop.run_until_complete(life.gone) == []
    with sqlite3.connect(file) as looking:
        assert looking.execute("SELECT count(*) FROM sold").fetchone() == (kept,)
    looking.close()


def test_a_killed_process_runs_none_of_its_tasks_any_more(loop: VirtualLoop) -> None:
    """What a process had started is over when it is killed, also what it had started in turn."""
    life = _life(loop)
    beats: list[float] = []

    async def beat() -> None:
        while True:
            beats.append(loop.time())
            await asyncio.sleep(1)

    async def work() -> None:
        beating = asyncio.create_task(beat())
        await beating

    async def watch() -> None:
        working = life.spawn(work(), "work")
        await asyncio.sleep(2.5)
        life.kill("the middle of the third second")
        await life.gone
        await asyncio.sleep(10)
        assert working.cancelled()

    loop.run_until_complete(watch())
    assert beats == [0.0, 1.0, 2.0]
