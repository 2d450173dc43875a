"""python -m benchmarks.sweeping: throughput against the size of batches and against how many sagas are in flight."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import exits, floor, goals
from benchmarks.measuring import Bench, Throughput, bench_of, result_of, settled, wrong
from benchmarks.record import Record
from benchmarks.system import BATCH, System, open_system
from messaging.topology import QueueType

SIZES = (1, 10, 100, 250, 500)
IN_FLIGHT = (1, 4, 16, 64, 256, 1024)
WARM = 500
_LEAST = 60
"""Sagas in a round that is slow; a round that is fast has fifty for each message in a batch, or saga in flight."""


@dataclass(slots=True)
class Report:
    """What was measured at each size and with so many in flight, a value a round."""

    record: Record
    by_size: dict[int, list[Throughput]] = field(default_factory=dict)
    floor_by_size: dict[int, list[float]] = field(default_factory=dict)
    by_in_flight: dict[int, list[Throughput]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        figures = {
            "by_batch_size": _measured(self.by_size),
            "floor_by_batch_size": {
                str(size): [round(each, 1) for each in values] for size, values in self.floor_by_size.items()
            },
            "by_in_flight": _measured(self.by_in_flight),
        }
        return self.record.document({}, figures)


def main(
    *,
    sagas: Annotated[int, typer.Option(min=100, help="Sagas in a round that is fast; slow ones have fewer.")] = 3000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, in turns; the medians count.")] = 2,
    queue: Annotated[QueueType, typer.Option(help="Type of the queues, on both sides.")] = QueueType.QUORUM,
    floor: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="A floor to run in turns, as for make bench.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--json", help="Where the figures are written.")] = goals.RECORDS
    / "sweeping.json",
) -> None:
    """Measure the whole system at several batch sizes, then with several numbers of sagas in flight.

    Example: python -m benchmarks.sweeping --rounds 1 --sagas 500

    Exit codes: 0 measured and every result right, 1 a result is wrong or work was not ended, 69 no server to be had.
    """
    settings = {"sagas_per_round": sagas, "rounds": rounds, "queues": queue.value}
    report = Report(Record("sweeping", settings))
    with exits.told(), ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-sweep-")))
        system, scratch = open_system(stack, os.environ, logs, given={"AMENDS_QUEUE_TYPE": queue.value})
        stack.callback(system.remove_queues)
        stack.callback(system.stop)
        asyncio.run(_measure(report, system, scratch, sagas, rounds, queue, floor))
    _draw(report)
    goals.write(output, report.as_json())
    if report.record.findings:
        raise typer.Exit(1)


async def _measure(
    report: Report, system: System, scratch: str, sagas: int, rounds: int, queue: QueueType, command: str | None
) -> None:
    system.start()
    await system.ready()
    await report.record.met(system.amqp_url, scratch)
    async with bench_of(system) as bench:
        for number in range(rounds):
            for size in SIZES:
                _say(f"round {number + 1} of {rounds}, batches of {size}")
                await system.restart({"AMENDS_BATCH_SIZE": str(size)})
                await _warm(bench, system, size)
                measured = await bench.from_events(_share(sagas, size))
                report.by_size.setdefault(size, []).append(measured)
                await settled(system.databases)
                if command is not None:
                    words = floor.command(command, queue, size, _share(sagas, size))
                    theirs = await floor.run(words, system.amqp_url, scratch, latency=False)
                    report.floor_by_size.setdefault(size, []).append(theirs.sagas_per_second)
            await system.restart({"AMENDS_BATCH_SIZE": str(BATCH)})
            await _warm(bench, system, BATCH)
            for most in IN_FLIGHT:
                _say(f"round {number + 1} of {rounds}, {most} in flight")
                report.by_in_flight.setdefault(most, []).append(await bench.in_flight(_share(sagas, most), most))
                await settled(system.databases)
        report.record.ended(wrong(await result_of(system.databases), bench.placed, bench.failing))


def _share(sagas: int, size: int) -> int:
    return min(sagas, max(_LEAST, 50 * size))


async def _warm(bench: Bench, system: System, size: int) -> None:
    await bench.from_events(min(WARM, 10 * size))
    await settled(system.databases)


def _measured(found: dict[int, list[Throughput]]) -> dict[str, Any]:
    return {
        str(size): {
            "sagas_per_second": [round(each.sagas_per_second, 1) for each in measured],
            "cpu_ms_per_saga": {
                name: round(median(each.cpu_ms[name] for each in measured), 3) for name in measured[0].cpu_ms
            },
        }
        for size, measured in found.items()
    }


def _draw(report: Report) -> None:
    console = Console(soft_wrap=True)
    for title, found in (("batches of at most", report.by_size), ("sagas in flight", report.by_in_flight)):
        table = Table(title="sagas/s, medians", title_justify="left")
        for name in (title, "ours", "floor", "CPU ms a saga"):
            table.add_column(name, justify="right")
        for size, measured in found.items():
            values = report.floor_by_size.get(size, []) if found is report.by_size else []
            cpu = median(sum(each.cpu_ms.values()) for each in measured)
            ours = median(each.sagas_per_second for each in measured)
            table.add_row(str(size), f"{ours:,.0f}", f"{median(values):,.0f}" if values else "", f"{cpu:.2f}")
        console.print(table)
    report.record.tell(console)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
