"""python -m benchmarks: how fast the whole system is, and whether it did the work right."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import exits, floor, goals
from benchmarks.measuring import Bench, bench_of, result_of, settled, wrong
from benchmarks.record import Record
from benchmarks.report import Report, draw
from benchmarks.system import BATCH, System, open_system
from messaging.topology import QueueType

WARM = 500
"""Sagas that nobody measures, after each start: connections are made, and batches grow to the size that suits."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the measurement is to be."""

    sagas: int
    rounds: int
    batch: int
    single: int
    rate: float
    seconds: float
    posts: bool
    queue: QueueType
    floor: str | None

    def settings(self, batch: int) -> dict[str, str]:
        """What the services are told."""
        return {"AMENDS_BATCH_SIZE": str(batch), "AMENDS_QUEUE_TYPE": self.queue.value}


def main(
    *,
    sagas: Annotated[int, typer.Option(min=10, help="Sagas in one round.")] = 3000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, in turns; least, median and most are shown.")] = 3,
    batch: Annotated[int, typer.Option(min=1, max=5000, help="Most messages in one transaction.")] = BATCH,
    single: Annotated[int, typer.Option(min=0, help="Sagas in a round at batch size 1; 0: none.")] = 100,
    rate: Annotated[float, typer.Option(min=0.1, help="Orders a second for the latency.")] = 20.0,
    seconds: Annotated[float, typer.Option(min=0, help="How long a round of latency takes; 0: none.")] = 5.0,
    posts: Annotated[bool, typer.Option(help="Measure from POST /orders, too.")] = True,
    queue: Annotated[QueueType, typer.Option(help="Type of the queues, on both sides.")] = QueueType.QUORUM,
    floor: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Another program to run in turns with ours, on the same servers (AMQP_URL, DATABASE_URL); it "
            "prints `N sagas/s`, and may print p50=Nms p99=Nms. {count}, {batch} and {queue} in it are filled in.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--json", help="Where the figures are written.")] = goals.RECORDS
    / "system.json",
) -> None:
    """Measure three processes on RabbitMQ and PostgreSQL: throughput, latency, CPU and memory.

    Acknowledgments follow the commit, every publish is confirmed and mandatory, and the databases are as durable as
    they are by default: nothing is traded for speed.

    Example: python -m benchmarks --floor 'python -m benchmarks.bare {count} {batch} {queue}'

    Exit codes: 0 measured and every result right, 1 a result is wrong or work was not ended, 69 no server to be had.
    """
    asked = Asked(sagas, rounds, batch, single, rate, seconds, posts, queue, floor)
    with exits.told(), ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-bench-")))
        system, scratch = open_system(stack, os.environ, logs, given=asked.settings(batch))
        stack.callback(system.remove_queues)
        stack.callback(system.stop)
        report = asyncio.run(_measure(system, scratch, asked))
    draw(report)
    goals.write(output, report.as_json())
    goals.draw(output.parent)
    print(f"figures: {output}", file=sys.stderr)
    if report.record.findings:
        raise typer.Exit(1)


async def _measure(system: System, scratch: str, asked: Asked) -> Report:
    system.start()
    await system.ready()
    settings = {"sagas_per_round": asked.sagas, "batch_size": asked.batch, "queues": asked.queue.value}
    report = Report(Record("system", settings | {"asked": asdict(asked)}))
    await report.record.met(system.amqp_url, scratch)
    async with bench_of(system) as bench:
        await _warm(bench, system)
        report.memory.append(bench.memory())
        for number in range(asked.rounds):
            _say(f"round {number + 1} of {asked.rounds}")
            await _round(report, bench, system, scratch, asked)
            if asked.single:
                await system.restart(asked.settings(1))
                await _warm(bench, system, asked.single // 10)
                report.batch_one.append(await bench.from_events(asked.single))
                await settled(system.databases)
                if number + 1 < asked.rounds:
                    await system.restart(asked.settings(asked.batch))
                    await _warm(bench, system)
        report.record.ended(wrong(await result_of(system.databases), bench.placed, bench.failing))
    return report


async def _round(report: Report, bench: Bench, system: System, scratch: str, asked: Asked) -> None:
    """Each figure once, in turns with the floor's."""
    if asked.floor is not None:
        command = floor.command(asked.floor, asked.queue, floor.BATCH, asked.sagas)
        report.floor.append(await floor.run(command, system.amqp_url, scratch))
    report.from_events.append(await bench.from_events(asked.sagas))
    await settled(system.databases)
    if asked.seconds:
        report.event_latency.append(await bench.event_latency(asked.rate, asked.seconds))
        await settled(system.databases)
    if asked.posts:
        report.from_requests.append(await bench.from_requests(asked.sagas // 2))
        await settled(system.databases)
        if asked.seconds:
            report.request_latency.append(await bench.request_latency(asked.rate, asked.seconds))
            await settled(system.databases)
    report.memory.append(bench.memory())


async def _warm(bench: Bench, system: System, count: int = WARM) -> None:
    """What a process does once (connections, plans of statements) is not what a saga costs."""
    await bench.from_events(max(1, count))
    await settled(system.databases)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
