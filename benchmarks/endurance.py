"""python -m benchmarks.endurance: whether a process grows while it works; resident memory over 200,000 sagas.

The sagas come in portions, so that the measurement itself holds no more than one of them. After each, every process is
looked at; the slope is that of the line which fits best (least squares), once what grows at first has grown.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import exits, goals
from benchmarks.goals import Reached
from benchmarks.measuring import bench_of, result_of, settled, wrong
from benchmarks.record import Record
from benchmarks.report import MEGABYTE
from benchmarks.system import System, open_system

PORTION = 2000
OURS = ("orchestrator", "order", "payment")
SLOPE_OVER = 100_000
"""Sagas for which the growth is said."""
WARM_SHARE = 0.25
"""Of the samples, those that do not count: caches, pools and the allocator fill up first."""


@dataclass(slots=True)
class Report:
    """How many sagas had been done, and the resident bytes of every process then."""

    record: Record
    samples: list[tuple[int, Mapping[str, int]]] = field(default_factory=list)
    seconds: float = 0.0

    def slopes(self) -> dict[str, float]:
        """Megabytes that each process of ours grows in 100,000 sagas."""
        return {name: slope(self.samples, name) * SLOPE_OVER / MEGABYTE for name in OURS}

    def most(self) -> dict[str, float]:
        """Megabytes that each process of ours had at most."""
        return {name: max(sizes[name] for _, sizes in self.samples) / MEGABYTE for name in OURS}

    def reached(self) -> dict[str, Reached]:
        """What this says of the goals."""
        grows, size = max(self.slopes().items(), key=_value), max(self.most().items(), key=_value)
        return {"rss_slope": Reached(grows[1], grows[0]), "rss": Reached(size[1], size[0])}

    def as_json(self) -> dict[str, Any]:
        figures = {
            "seconds": round(self.seconds, 1),
            "mb_per_100000_sagas": {name: round(value, 3) for name, value in self.slopes().items()},
            "most_mb": {name: round(value, 1) for name, value in self.most().items()},
            "samples_mb": [
                [done, {name: round(size / MEGABYTE, 2) for name, size in sizes.items()}]
                for done, sizes in self.samples
            ],
        }
        return self.record.document(self.reached(), figures)


def slope(samples: Sequence[tuple[int, Mapping[str, int]]], name: str) -> float:
    """Bytes a saga, of the line that fits best once a quarter of the samples has gone by."""
    counted = samples[int(len(samples) * WARM_SHARE) :]
    return linear_regression([done for done, _ in counted], [sizes[name] for _, sizes in counted]).slope


def main(
    *,
    sagas: Annotated[int, typer.Option(min=4 * PORTION, help="Sagas in all.")] = 200_000,
    output: Annotated[Path, typer.Option("--json", help="Where the figures are written.")] = goals.RECORDS
    / "endurance.json",
) -> None:
    """Measure resident memory over many sagas; takes minutes.

    Example: python -m benchmarks.endurance --sagas 20000

    Exit codes: 0 measured and every result right, 1 a result is wrong or work was not ended, 69 no server to be had.
    """
    report = Report(Record("endurance", {"sagas": sagas, "portion": PORTION}))
    with exits.told(), ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-endurance-")))
        system, scratch = open_system(stack, os.environ, logs)
        stack.callback(system.remove_queues)
        stack.callback(system.stop)
        asyncio.run(_measure(report, system, scratch, sagas))
    _draw(report)
    goals.write(output, report.as_json())
    if report.record.findings:
        raise typer.Exit(1)


async def _measure(report: Report, system: System, scratch: str, sagas: int) -> None:
    system.start()
    await system.ready()
    await report.record.met(system.amqp_url, scratch)
    async with bench_of(system) as bench:
        began = time.monotonic()
        for done in range(PORTION, sagas + 1, PORTION):
            await bench.from_events(PORTION)
            report.samples.append((done, bench.memory()))
            if done % (10 * PORTION) == 0:
                print(
                    f"{done:,} of {sagas:,} sagas after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True
                )
        report.seconds = time.monotonic() - began
        await settled(system.databases)
        report.record.ended(wrong(await result_of(system.databases), bench.placed, bench.failing))


def _draw(report: Report) -> None:
    console = Console(soft_wrap=True)
    title = f"resident memory over {report.samples[-1][0]:,} sagas, {report.seconds:.0f} s"
    table = Table(title=title, title_justify="left")
    for name in ("MB", "first", "last", "most", "in 100,000 sagas"):
        table.add_column(name, justify="left" if name == "MB" else "right")
    slopes, most = report.slopes(), report.most()
    for name in OURS:
        ends = [report.samples[at][1][name] / MEGABYTE for at in (0, -1)]
        table.add_row(name, *(f"{each:.1f}" for each in (*ends, most[name])), f"{slopes[name]:+.2f}")
    console.print(table)
    report.record.tell(console)


def _value(pair: tuple[str, float]) -> float:
    return pair[1]


if __name__ == "__main__":
    typer.run(main)
