"""python -m benchmarks: how fast the whole system is, and whether it did the work right."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Annotated

import structlog
import typer

from benchmarks import orders
from benchmarks.endings import Endings
from benchmarks.measuring import Bench, floor_of, result_of, settled
from benchmarks.report import Report, draw
from benchmarks.system import NotMeasurable, System, open_system
from deploy.inspection import Inspection
from deploy.servers import ServerUnavailable
from deploy.up import CannotStart
from messaging.database import Database
from messaging.rabbitmq import RabbitBus


def main(
    *,
    sagas: Annotated[int, typer.Option(min=10, help="Sagas in one round.")] = 1500,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the table shows least, median and most.")] = 3,
    rate: Annotated[float, typer.Option(min=0.1, help="Orders a second for the latency.")] = 20.0,
    seconds: Annotated[float, typer.Option(min=0, help="How long the latency is measured; 0: not at all.")] = 15.0,
    posts: Annotated[bool, typer.Option(help="Measure from POST /orders, too.")] = True,
    floor: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Another program to run in turns with ours, on the same servers (AMQP_URL, DATABASE_URL); it "
            "prints `N sagas/s`.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--json", help="Write the figures there as well.")] = None,
) -> None:
    """Measure three processes on RabbitMQ and PostgreSQL: throughput, latency, CPU and memory.

    Exit codes: 0 measured and every result right, 1 a result is wrong or work was not ended, 69 no server to be had.
    """
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    try:
        with ExitStack() as stack:
            logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-bench-")))
            system, scratch = open_system(stack, os.environ, logs)
            stack.callback(system.stop)
            report = asyncio.run(_measure(system, scratch, sagas, rounds, rate, seconds, posts, floor))
    except NotMeasurable as error:
        print(f"amends: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    except (ServerUnavailable, CannotStart) as error:
        print(f"amends: {error}", file=sys.stderr)
        raise typer.Exit(69) from error
    draw(report)
    if output is not None:
        output.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    if report.findings:
        raise typer.Exit(1)


async def _measure(
    system: System,
    scratch: str,
    sagas: int,
    rounds: int,
    rate: float,
    seconds: float,
    posts: bool,
    floor: str | None,
) -> Report:
    system.start()
    await system.ready()
    report = Report(sagas)
    async with AsyncExitStack() as stack:
        endings = await stack.enter_async_context(Endings(system.amqp_url))
        bus = RabbitBus(system.amqp_url, service="benchmark")
        await bus.start()
        stack.push_async_callback(bus.close)
        database = Database(system.databases["order"], pool_size=1)
        stack.push_async_callback(database.close)
        await orders.fill_stock(database)
        bench = Bench(system, endings, bus, database)
        report.memory.append(bench.memory())
        for number in range(rounds):
            _say(f"round {number + 1} of {rounds}")
            if floor is not None:
                report.floor.append(await floor_of(floor, system.amqp_url, scratch))
            report.from_events.append(await bench.from_events(sagas))
            await settled(system.databases)
            if posts:
                report.from_requests.append(await bench.from_requests(sagas))
                await settled(system.databases)
        if seconds:
            _say(f"latency at {rate:g} a second")
            report.latency = await bench.latency(rate, seconds)
            await settled(system.databases)
        report.memory.append(bench.memory())
        report.findings = _wrong(await result_of(system.databases), bench)
    return report


def _wrong(found: Inspection, bench: Bench) -> list[str]:
    """Every order ended as it had to, every unit of money and stock is where it belongs."""
    expected = {"completed": bench.placed - bench.failing, "out_of_stock": bench.failing}
    wrong = [*found.findings]
    if found.ended != expected:
        wrong.append(f"orders ended {dict(found.ended)}, not {expected}")
    captured = {orders.CURRENCY: (bench.placed - bench.failing) * orders.AMOUNT}
    if found.audit.captured != captured:
        wrong.append(f"captured {dict(found.audit.captured)}, not {captured} (minor units)")
    return wrong


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
