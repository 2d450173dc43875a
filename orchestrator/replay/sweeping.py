"""Replaying every instance of a database on all cores: each process takes ranges of ids, reads and folds them itself.

The ids are hashes, so equal ranges hold equally many instances.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, func, select

from messaging import interrupts
from messaging.database import DATABASE_ERRORS, Database, in_words
from orchestrator import catalog
from orchestrator.replay.reading import stream
from orchestrator.replay.replaying import replay
from orchestrator.replay.tally import Tally
from orchestrator.rest import moved_since
from orchestrator.schema import saga

PER_RANGE = 2000
"""Instances in one range: a fraction of a second's work, so that progress is seen and no core waits long at the end."""
_IDS = 1 << 128
_ALLOCATIONS = 50_000
"""More than a page of instances has: the garbage collector looks for cycles after so many."""


class DatabaseFailed(Exception):
    """The database did not answer one of the processes; says what it said."""


class ProcessEnded(Exception):
    """One of the processes ended before its time: killed, or by a crash."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which instances: of one saga, in one status, moved since then; None: whichever."""

    name: str | None = None
    status: str | None = None
    since: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same for a query."""
        wanted = ((saga.c.name, self.name), (saga.c.status, self.status))
        found = [column == value for column, value in wanted if value is not None]
        return found if self.since is None else [*found, moved_since(self.since)]


@dataclass(frozen=True, slots=True)
class Range:
    """What one process does at a time. `modules` hold the sagas: a definition does not travel between processes."""

    url: str
    modules: tuple[str, ...]
    selection: Selection
    first: UUID
    last: UUID


async def count(database: Database, selection: Selection) -> int:
    """How many instances there are to replay."""
    async with database.reading() as connection:
        query = select(func.count()).select_from(saga).where(*selection.conditions())
        return int((await connection.execute(query)).scalar_one())


def sweep(
    url: str,
    modules: Sequence[str],
    selection: Selection,
    *,
    instances: int,
    progress: Callable[[int], None],
    processes: int | None = None,
) -> Tally:
    """Replay them all, telling `progress` how many more are done; `instances` is about how many there are.

    Raises DatabaseFailed and ProcessEnded.
    """
    cores = processes or len(os.sched_getaffinity(0))
    ranges = [
        Range(url, tuple(modules), selection, first, last) for first, last in _split(1 + instances // PER_RANGE, cores)
    ]
    tally = Tally()
    for part in _parts(ranges, min(cores, len(ranges))):
        tally.merge(part)
        progress(part.instances)
    return tally


def _parts(ranges: Sequence[Range], processes: int) -> Iterator[Tally]:
    if processes == 1:
        # One process more would start in the time this one needs for all of it.
        yield from map(replay_range, ranges)
        return
    # Spawned, not forked: the parent may have threads, and a forked copy of them is nobody's friend.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            with interrupts.kept_from_children():
                futures = [pool.submit(replay_range, each) for each in ranges]
            for done in as_completed(futures):
                yield done.result()
        except KeyboardInterrupt:
            # They only read, so nobody has to wait until they are through with their ranges.
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        except BrokenProcessPool as error:
            raise ProcessEnded(str(error)) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _split(parts: int, cores: int) -> Iterator[tuple[UUID, UUID]]:
    parts = parts if parts == 1 else max(parts, cores)
    for number in range(parts):
        yield UUID(int=_IDS * number // parts), UUID(int=_IDS * (number + 1) // parts - 1)


def replay_range(given: Range) -> Tally:
    """One range, in this process; raises DatabaseFailed."""
    with _rarely_collecting():
        return asyncio.run(_replay_range(given))


@contextmanager
def _rarely_collecting() -> Iterator[None]:
    """Let the garbage collector look less often than it would at what a page of histories is made of.

    There are hardly any cycles in it, so its memory is free again as soon as the page is done; looking for them takes
    three hundredths of the time.
    """
    usual = gc.get_threshold()
    gc.set_threshold(_ALLOCATIONS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


async def _replay_range(given: Range) -> Tally:
    tally, definitions = Tally(), catalog.load(given.modules)
    database = Database(given.url)
    try:
        async with database.snapshot() as connection:
            conditions = given.selection.conditions()
            async for recorded in stream(connection, *conditions, first=given.first, last=given.last):
                tally.add(replay(recorded, definitions))
    except DATABASE_ERRORS as error:
        # As a text: not every driver's exceptions survive the way to another process.
        raise DatabaseFailed(in_words(error)) from error
    finally:
        await database.close()
    return tally
