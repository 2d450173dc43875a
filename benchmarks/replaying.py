"""python -m benchmarks.replaying: how many recorded transitions a second one process replays, and in how much memory.

The histories lie in a SQLite file and, with --postgresql, in a PostgreSQL of the benchmark's own as well.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated
from uuid import UUID

import typer

from benchmarks import exits
from benchmarks.histories import fill
from deploy.servers import PostgresServer
from messaging import migrate
from messaging.database import Database
from orchestrator.assembly import MIGRATIONS
from orchestrator.catalog import DEFAULT_MODULE
from orchestrator.replay.sweeping import Range, Selection, replay_range


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one process over all of a database."""

    instances: int
    transitions: int
    different: int
    seconds: float
    cpu: float
    peak: int
    """Resident bytes at most."""


def measure(url: str) -> Measured:
    """Replay everything in this process, which does nothing else before."""
    everything = Range(url, (DEFAULT_MODULE,), Selection(), UUID(int=0), UUID(int=(1 << 128) - 1))
    began, used = time.perf_counter(), time.process_time()
    tally = replay_range(everything)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(tally.instances, tally.transitions, tally.different, seconds, cpu, peak)


def main(
    *,
    instances: Annotated[
        int, typer.Option(min=100, help="Instances; measured with so many and with four times.")
    ] = 5000,
    rounds: Annotated[int, typer.Option(min=1, help="Times each is measured; the median counts.")] = 3,
    postgresql: Annotated[bool, typer.Option(help="On a PostgreSQL started for it, too.")] = False,
) -> None:
    """Fill a database with histories, replay them with one process, print transitions a second and the peak memory.

    Exit codes: 0 measured and everything the same, 1 a transition differs, 69 no PostgreSQL to be had.
    """
    print(
        f"{'database':<12}{'instances':>10}{'transitions':>13}{'per second':>12}{'fastest':>10}{'CPU µs each':>13}"
        f"{'peak RSS':>11}"
    )
    different = 0
    with exits.told(), ExitStack() as stack:
        for name, made in _databases(stack, postgresql=postgresql):
            for number in (instances, 4 * instances):
                different += _measured(name, made(f"h{number}"), number, rounds)
    if different:
        print(f"{different} instances differ", file=sys.stderr)
        raise typer.Exit(1)


def _databases(stack: ExitStack, *, postgresql: bool) -> Iterator[tuple[str, Callable[[str], str]]]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-replay-")))
    yield "sqlite", lambda name: f"sqlite:///{folder / name}.db"
    if postgresql:
        server = stack.enter_context(PostgresServer())
        server.start()
        yield "postgresql", server.create_database


def _measured(name: str, url: str, number: int, rounds: int) -> int:
    asyncio.run(_fill(url, number))
    runs = [_apart(url) for _ in range(rounds)]
    first = runs[0]
    a_second = [each.transitions / each.seconds for each in runs]
    cpu = median(each.cpu / each.transitions for each in runs)
    print(
        f"{name:<12}{first.instances:>10,}{first.transitions:>13,}{median(a_second):>12,.0f}{max(a_second):>10,.0f}"
        f"{cpu * 1e6:>13.1f}{max(each.peak for each in runs) / 2**20:>8.0f} MB",
        flush=True,
    )
    return first.different


def _apart(url: str) -> Measured:
    # A process of its own each time: peak memory is the kernel's figure for a whole process.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (url,))


async def _fill(url: str, number: int) -> None:
    database = Database(url)
    try:
        await migrate.upgrade(database, [migrate.MESSAGING, MIGRATIONS])
        await fill(database, number)
    finally:
        await database.close()


if __name__ == "__main__":
    typer.run(main)
