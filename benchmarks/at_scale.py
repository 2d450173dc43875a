"""python -m benchmarks.at_scale: what a million ended and a hundred thousand waiting sagas cost those that come after.

The orchestrator works in turns on a database that is full of them and on one that has none, on the same server; its
participants and their databases are the same.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import asyncpg
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import exits, goals, orders
from benchmarks.filling import Filled, fill_up, there
from benchmarks.goals import Reached
from benchmarks.measuring import Bench, Throughput, bench_of, settled
from benchmarks.record import Record
from benchmarks.system import System, open_system
from messaging.database import Database
from services.payment.audit import audit

WARM = 500
"""Sagas before each round that nobody measures: the full database's pages are not in memory yet."""
EMPTY, FULL = "empty", "full"


@dataclass(slots=True)
class Report:
    """Everything that was measured, a value a round."""

    record: Record
    filled: Filled | None = None
    rounds: dict[str, list[Throughput]] = field(default_factory=lambda: {EMPTY: [], FULL: []})

    def speed(self, which: str) -> float:
        """The median."""
        return median(each.sagas_per_second for each in self.rounds[which])

    def reached(self) -> dict[str, Reached]:
        """What this says of the goals."""
        full, empty = self.speed(FULL), self.speed(EMPTY)
        return {"at_scale": Reached(full / empty, f"{full:,.0f}/s", f"{empty:,.0f}/s")}

    def as_json(self) -> dict[str, Any]:
        figures = {
            "filled": asdict(self.filled) if self.filled is not None else None,
            "sagas_per_second": {
                name: [round(each.sagas_per_second, 1) for each in measured] for name, measured in self.rounds.items()
            },
            "cpu_ms_per_saga": {name: _cpu(measured) for name, measured in self.rounds.items()},
        }
        return self.record.document(self.reached(), figures)


def main(
    *,
    ended: Annotated[int, typer.Option(min=1000, help="Ended sagas in the full database.")] = 1_000_000,
    waiting: Annotated[int, typer.Option(min=100, help="Sagas that wait for an answer there.")] = 100_000,
    sagas: Annotated[int, typer.Option(min=10, help="Sagas in one round.")] = 3000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds on each, in turns; the medians count.")] = 3,
    output: Annotated[Path, typer.Option("--json", help="Where the figures are written.")] = goals.RECORDS
    / "at_scale.json",
) -> None:
    """Measure sagas a second on a full database against an empty one. Filling takes minutes and 6 GB of disk.

    Example: python -m benchmarks.at_scale --ended 100000 --waiting 10000

    Exit codes: 0 measured and every result right, 1 a result is wrong or work was not ended, 69 no server to be had.
    """
    settings = {"ended": ended, "waiting": waiting, "sagas_per_round": sagas, "rounds": rounds}
    report = Report(Record("at_scale", settings))
    with exits.told(), ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-scale-")))
        system, scratch = open_system(stack, os.environ, logs)
        stack.callback(system.remove_queues)
        stack.callback(system.stop)
        # The scratch database is dropped with the others, full or not.
        places = {EMPTY: system.databases["orchestrator"], FULL: scratch}
        asyncio.run(_measure(report, system, places, ended, waiting, sagas, rounds))
    _draw(report)
    goals.write(output, report.as_json())
    if report.record.findings:
        raise typer.Exit(1)


async def _measure(
    report: Report, system: System, places: dict[str, str], ended: int, waiting: int, sagas: int, rounds: int
) -> None:
    await report.record.met(system.amqp_url, places[EMPTY])
    _say(f"filling in {ended:,} ended and {waiting:,} waiting sagas")
    report.filled = await fill_up(places[FULL], ended, waiting, _say)
    _say(f"it took {report.filled.seconds:.0f} s, and is {report.filled.bytes / 1e9:.1f} GB")
    # The first start makes the tables; afterwards a round begins with processes that have just started, on both alike.
    system.start()
    await system.ready()
    async with bench_of(system) as bench:
        for number in range(rounds):
            # Now this first, now that: what one leaves behind (a checkpoint, dead rows) meets both.
            for which in (EMPTY, FULL) if number % 2 == 0 else (FULL, EMPTY):
                _say(f"round {number + 1} of {rounds}, {which}")
                system.databases["orchestrator"] = places[which]
                await system.restart({})
                left = waiting if which == FULL else 0
                await bench.from_events(WARM)
                await settled(system.databases, waiting=left)
                report.rounds[which].append(await bench.from_events(sagas))
                await settled(system.databases, waiting=left)
    failing = rounds * (orders.expected_failures(WARM) + orders.expected_failures(sagas))
    ours = {"completed": rounds * (WARM + sagas) - failing, "compensated": failing}
    findings = [
        *await _wrong(EMPTY, places[EMPTY], ours),
        *await _wrong(FULL, places[FULL], {k: v + ours.get(k, 0) for k, v in there(ended, waiting).items()}),
        *await _money(system.databases["payment"], bench),
    ]
    report.record.ended(findings)


async def _wrong(which: str, url: str, expected: dict[str, int]) -> list[str]:
    """Whether every saga of the rounds has ended as it had to, and those that were there are as they were."""
    connection = await asyncpg.connect(url)
    try:
        found = {row[0]: row[1] for row in await connection.fetch("SELECT status, count(*) FROM saga GROUP BY status")}
    finally:
        await connection.close()
    return [] if found == expected else [f"in the {which} database there are {found} sagas, not {expected}"]


async def _money(url: str, bench: Bench) -> list[str]:
    """Whether all that was captured belongs to orders that were completed, and nothing is held."""
    database = Database(url, pool_size=1)
    try:
        books = await audit(database)
    finally:
        await database.close()
    captured = {orders.CURRENCY: (bench.placed - bench.failing) * orders.AMOUNT}
    wrong = [*books.findings]
    if books.captured != captured or any(books.held.values()):
        wrong.append(f"captured {books.captured} and held {books.held}, not {captured} and nothing (minor units)")
    return wrong


def _draw(report: Report) -> None:
    filled = report.filled
    console = Console(soft_wrap=True)
    table = Table(title="sagas/s on an empty and on a full database, in turns", title_justify="left")
    for name in ("", "least", "median", "most", "CPU ms a saga: orchestrator", "PostgreSQL"):
        table.add_column(name, justify="right" if name else "left")
    for which, measured in report.rounds.items():
        speeds = [each.sagas_per_second for each in measured]
        cpu = _cpu(measured)
        values = [f"{each:,.0f}" for each in (min(speeds), median(speeds), max(speeds))]
        table.add_row(which, *values, *(f"{cpu[name]:.2f}" for name in ("orchestrator", "PostgreSQL")))
    console.print(table)
    if filled is not None:
        rows = ", ".join(f"{count:,} {name}" for name, count in filled.rows.items())
        console.print(f"full: {rows}; {filled.bytes / 1e9:.1f} GB, filled in {filled.seconds:.0f} s", highlight=False)
    console.print(f"of the empty one: {report.reached()['at_scale'].value:.2f}", highlight=False)
    right = "every saga ended as it had to, those that were there are as they were, and the money is right"
    report.record.tell(console, right)


def _cpu(measured: list[Throughput]) -> dict[str, float]:
    return {name: round(median(each.cpu_ms[name] for each in measured), 3) for name in measured[0].cpu_ms}


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
