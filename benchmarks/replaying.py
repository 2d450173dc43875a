"""python -m benchmarks.replaying: how many recorded transitions a second one process replays, and in how much memory.

The histories lie in a SQLite file, and in the PostgreSQL of DATABASE_URL, too, where that is set: an empty database.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import UUID

import structlog
import typer

from benchmarks.histories import fill
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
    rounds: Annotated[int, typer.Option(min=1, help="Times each is measured; the fastest counts.")] = 3,
) -> None:
    """Fill a database with histories, replay them with one process, print transitions a second and the peak memory.

    Exit codes: 0 measured and everything the same, 1 a transition differs.
    """
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    given = os.environ.get("DATABASE_URL")
    wrong = 0
    print(f"{'database':<12}{'instances':>10}{'transitions':>13}{'per second':>12}{'CPU µs each':>13}{'peak RSS':>11}")
    with tempfile.TemporaryDirectory(prefix="amends-replay-") as folder:
        for name in ("sqlite", "postgresql") if given else ("sqlite",):
            for number in (instances, 4 * instances):
                url = f"sqlite:///{Path(folder) / f'{number}.db'}" if name == "sqlite" else str(given)
                asyncio.run(_fill(url, number))
                best = min((_apart(url) for _ in range(rounds)), key=lambda each: each.seconds)
                wrong += best.different
                print(
                    f"{name:<12}{best.instances:>10,}{best.transitions:>13,}{best.transitions / best.seconds:>12,.0f}"
                    f"{best.cpu / best.transitions * 1e6:>13.1f}{best.peak / 2**20:>8.0f} MB",
                    flush=True,
                )
    if wrong:
        print(f"{wrong} instances differ", file=sys.stderr)
        raise SystemExit(1)


def _apart(url: str) -> Measured:
    # A process of its own each time: peak memory is the kernel's figure for a whole process.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (url,))


async def _fill(url: str, number: int) -> None:
    database = Database(url)
    try:
        await migrate.downgrade(database, [migrate.MESSAGING, MIGRATIONS])
        await migrate.upgrade(database, [migrate.MESSAGING, MIGRATIONS])
        await fill(database, number)
    finally:
        await database.close()


if __name__ == "__main__":
    typer.run(main)
