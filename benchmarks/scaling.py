"""python -m benchmarks.scaling: several orchestrators on one queue and one database; do they get in each other's way?

Each number of processes is measured in turns, on databases of its own, under the same sagas; what every worker counted
(batches, and those it had to begin anew because another process was in the way) it says when it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks import exits
from benchmarks.measuring import Latency, Throughput, bench_of, result_of, settled, wrong
from benchmarks.system import System, open_system

WORKER = "orchestrator"
"""The consumer whose batches count."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of so many orchestrators.

    Sagas a second, CPU milliseconds of all of them for a saga, seconds from a start to the end of its saga at a low
    rate, what their workers counted, and what is wrong in the end.
    """

    processes: int
    sagas_per_second: float
    cpu_ms: float
    p50: float
    p99: float
    batches: tuple[int, ...]
    conflicts: int
    findings: tuple[str, ...]


def main(
    *,
    processes: Annotated[str, typer.Option(help="Numbers of orchestrators, separated by commas.")] = "1,2",
    sagas: Annotated[int, typer.Option(min=10, help="Sagas in one run.")] = 1500,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each; the table shows the median.")] = 3,
    partitions: Annotated[int, typer.Option(min=0, help="AMENDS_PARTITIONS; 0: one queue.")] = 0,
    rate: Annotated[float, typer.Option(min=0.1, help="Orders a second for the latency.")] = 20.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long the latency is measured.")] = 10.0,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures there as well.")] = None,
) -> None:
    """Measure several orchestrators on RabbitMQ and PostgreSQL: throughput, CPU and conflicts.

    Exit codes: 0 measured and every result right, 1 a result is wrong or work was not ended, 69 no server to be had.
    """
    counts = [int(each) if each.strip().isdecimal() else 0 for each in processes.split(",")]
    if min(counts) < 1:
        raise typer.BadParameter(f"{processes}: numbers of orchestrators from 1 on, separated by commas, as in 1,2")
    found: list[Measured] = []
    with exits.told():
        for number in range(rounds):
            for count in counts:
                print(f"round {number + 1} of {rounds}, {count} orchestrators", file=sys.stderr, flush=True)
                found.append(_run(count, sagas, partitions, rate, seconds))
    for count in counts:
        _draw([each for each in found if each.processes == count])
    if output is not None:
        output.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n", encoding="utf-8")
    if any(each.findings for each in found):
        raise typer.Exit(1)


def _run(count: int, sagas: int, partitions: int, rate: float, seconds: float) -> Measured:
    given = {"AMENDS_PARTITIONS": str(partitions)} if partitions else {}
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-bench-")))
        system, _ = open_system(stack, os.environ, logs, given=given, orchestrators=count)
        names = [WORKER, *(f"{WORKER}-{number}" for number in range(2, count + 1))]
        with ExitStack() as running:
            running.callback(system.stop)
            throughput, latency, findings = asyncio.run(_measure(system, sagas, rate, seconds))
        ended = [each for name in names for each in worked(system.log_of(name))]
    return Measured(
        count,
        throughput.sagas_per_second,
        sum(spent for name, spent in throughput.cpu_ms.items() if name in names),
        latency.p50,
        latency.p99,
        tuple(int(each["batches"]) for each in ended),
        sum(int(each["conflicts"]) for each in ended),
        tuple(findings),
    )


def worked(log: str) -> list[dict[str, int]]:
    """What the orchestrators' workers counted, as a log in JSON has it."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("event") == "worker_ended" and line.get("consumer") == WORKER]


async def _measure(system: System, sagas: int, rate: float, seconds: float) -> tuple[Throughput, Latency, list[str]]:
    system.start()
    await system.ready()
    async with bench_of(system) as bench:
        await bench.from_events(sagas // 5)  # so that nobody is measured while it warms up
        await settled(system.databases)
        throughput = await bench.from_events(sagas)
        await settled(system.databases)
        latency = await bench.event_latency(rate, seconds)
        await settled(system.databases)
        return throughput, latency, wrong(await result_of(system.databases), bench.placed, bench.failing)


def _draw(runs: list[Measured]) -> None:
    batches, conflicts = sum(sum(each.batches) for each in runs), sum(each.conflicts for each in runs)
    rates = [each.sagas_per_second for each in runs]
    shares = "/".join(str(each) for each in runs[-1].batches)
    print(
        f"{runs[0].processes} orchestrators: {median(rates):5.0f} sagas/s ({min(rates):.0f}-{max(rates):.0f}), "
        f"latency p50 {median(each.p50 for each in runs) * 1000:.0f} p99 "
        f"{median(each.p99 for each in runs) * 1000:.0f} ms, "
        f"CPU {median(each.cpu_ms for each in runs):.2f} ms a saga, "
        f"{conflicts} conflicts in {batches} batches ({conflicts / max(batches, 1):.2%}; the last run's {shares})"
    )
    for finding in {finding for each in runs for finding in each.findings}:
        print(f"  WRONG: {finding}")


if __name__ == "__main__":
    typer.run(main)
