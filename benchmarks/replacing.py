"""python -m benchmarks.replacing: what a roll-out costs the sagas that are under way meanwhile.

Orders come at a steady rate. First nothing happens to anybody; then processes of the orchestrator and of the payment
service are replaced, one after the other, as in a cluster: a new one starts, and when it is ready the old one gets
SIGTERM. Nothing may be lost, and no saga that is under way while a process ends may take longer than the longest of
before and two batches: the one that the old process finishes, and the one that the new process has in hand when it gets
what the old one gave back. A process that starts costs the others a core for a second or two: that is shown apart.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import exits
from benchmarks.goals import RECORDS, write
from benchmarks.machine import described, now
from benchmarks.measuring import Bench, Latency, Span, bench_of, latency_of, result_of, settled, wrong
from benchmarks.system import System, open_system
from messaging.sizing import SOON

REPLACED = ("orchestrator", "payment")
BATCHES = 2
"""How many batches a saga may wait for when a process is replaced."""
CALM_SECONDS = 2.0
"""Between the start of the new process and the end of the old one: what the start has held up has gone on by then."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """What was measured: how long sagas took before, while processes started, and while they ended, of each service."""

    before: Latency
    starting: Latency
    ending: Latency
    drains: Mapping[str, Sequence[Span]]
    findings: Sequence[str]

    @property
    def bound(self) -> float:
        """How long a saga may take, in seconds."""
        return self.before.waits[-1] + BATCHES * SOON

    @property
    def late(self) -> int:
        """How many took longer."""
        return sum(each > self.bound for each in self.ending.waits)


def main(
    *,
    rate: Annotated[float, typer.Option(min=0.1, help="Orders a second.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long nothing is replaced.")] = 15.0,
    times: Annotated[int, typer.Option(min=1, help="How often each service is replaced.")] = 3,
    output: Annotated[Path, typer.Option("--json", help="Where the figures are written.")] = RECORDS / "replacing.json",
) -> None:
    """Measure how long sagas take while processes are replaced.

    Example: python -m benchmarks.replacing --rate 200 --times 5

    Exit codes: 0 no saga was lost or late, 1 one was, 69 no server to be had.
    """
    began, machine = now(), described()
    with exits.told(), ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-replacing-")))
        system, _ = open_system(stack, os.environ, logs, orchestrators=2, payments=2)
        stack.callback(system.stop)
        found = asyncio.run(_measure(system, rate, seconds, times))
    _draw(found, rate)
    figures = {
        "before": _in_json(found.before),
        "starting": _in_json(found.starting),
        "ending": _in_json(found.ending),
        "bound": round(found.bound, 3),
        "late": found.late,
        "drains": {name: [round(each.ended - each.began, 2) for each in took] for name, took in found.drains.items()},
        "findings": [*found.findings],
    }
    write(output, {"program": "replacing", "at": began, "machine": machine, "rate": rate, "goals": {}, **figures})
    if found.late or found.findings:
        raise typer.Exit(1)


async def _measure(system: System, rate: float, seconds: float, times: int) -> Replaced:
    system.start("order", *REPLACED)
    await system.ready()
    async with bench_of(system) as bench:
        await bench.event_latency(rate, 3)  # so that nobody is measured while it warms up
        before = await bench.event_latency(rate, seconds)
        spans, drains = await _replacing(system, bench, rate, times)
        await settled(system.databases)
        findings = wrong(await result_of(system.databases), bench.placed, bench.failing)
    ends = [each for took in drains.values() for each in took]
    met = [each for each in spans if any(each.meets(end) for end in ends)]
    return Replaced(before, latency_of(each for each in spans if each not in met), latency_of(met), drains, findings)


async def _replacing(system: System, bench: Bench, rate: float, times: int) -> tuple[list[Span], dict[str, list[Span]]]:
    """Replace processes, and give them work until the last one is gone; each saga, and each process's end."""
    drains: dict[str, list[Span]] = {name: [] for name in REPLACED}
    spans: list[Span] = []

    async def replace() -> None:
        running = {name: name for name in REPLACED}
        for _ in range(times):
            for name, old in running.items():
                new = name if old != name else f"{name}-2"
                system.start(new)
                await system.ready()
                await asyncio.sleep(CALM_SECONDS)
                began = time.monotonic()
                await system.drain(old)
                drains[name].append(Span(began, time.monotonic()))
                running[name] = new

    replacing = asyncio.create_task(replace())
    while not replacing.done():
        spans += await bench.event_spans(rate, 10)
    await replacing
    return spans, drains


def _in_json(latency: Latency) -> dict[str, float]:
    return {
        "sagas": len(latency.waits),
        "p50": round(latency.p50, 4),
        "p99": round(latency.p99, 4),
        "longest": round(latency.waits[-1], 4),
    }


def _draw(found: Replaced, rate: float) -> None:
    table = Table(title=f"{rate:g} orders a second, milliseconds a saga", title_justify="left")
    for name in ("", "sagas", "p50", "p99", "longest"):
        table.add_column(name, justify="left" if not name else "right")
    for name, latency in (
        ("undisturbed", found.before),
        ("while processes start", found.starting),
        ("while processes end", found.ending),
    ):
        figures = (latency.p50, latency.p99, latency.waits[-1])
        table.add_row(name, f"{len(latency.waits):,}", *(f"{each * 1000:.0f}" for each in figures))
    table.add_row(f"none of the latter may take longer ({found.late} did)", "", "", "", f"{found.bound * 1000:.0f}")
    console = Console(soft_wrap=True)
    console.print(table)
    for name, drains in found.drains.items():
        took = [each.ended - each.began for each in drains]
        console.print(f"{name}: {len(took)} replaced; each ended with 0 after {min(took):.1f} to {max(took):.1f} s")
    for finding in found.findings:
        console.print(f"wrong: {finding}", style="red")


if __name__ == "__main__":
    typer.run(main)
