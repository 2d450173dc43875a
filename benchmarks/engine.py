"""python -m benchmarks.engine: how many transitions a second one orchestrator process makes, and what one costs.

All events of a transition lie in the queue when it begins, so that every batch is full. Nobody answers: the answers are
known beforehand. What the orchestrator sends goes to a queue that nobody reads.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated

import aio_pika
import structlog
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import counting
from benchmarks.answering import TRANSITIONS
from benchmarks.measuring import floor_of
from benchmarks.system import NotMeasurable, System, open_system
from benchmarks.transiting import Measured, Outbound, Transiting
from deploy.servers import ServerUnavailable
from deploy.up import CannotStart
from messaging.clock import SystemEntropy
from messaging.database import Database
from messaging.rabbitmq import RabbitBus
from messaging.topology import COLLECTED_QUEUE, DEAD_LETTER_QUEUE, QueueType
from orchestrator.assembly import QUEUE

_FLOOR_FIGURE = re.compile(r"(\d+(?:\.\d+)?) tr(?:ansitions)?/s")
COMPARED = "step"
"""The transition that a hand-written loop makes as well: read a row, change it, note it, send a command."""


@dataclass(slots=True)
class Figures:
    """Everything that was measured on one type of queue, a value a round."""

    type: QueueType
    ours: list[dict[str, Measured]] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def main(
    *,
    sagas: Annotated[int, typer.Option(min=100, help="Sagas in one round, each with four transitions.")] = 3000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the table shows least, median and most.")] = 3,
    batch: Annotated[int, typer.Option(min=1, max=5000, help="Most messages in one transaction.")] = 100,
    queue: Annotated[
        list[QueueType] | None, typer.Option(help="Type of the queues; say it twice for both. [default: both]")
    ] = None,
    floor: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Another program to run in turns with ours, on the same servers (AMQP_URL, DATABASE_URL); it "
            "prints `N transitions/s`. {queue} in it becomes the type's first letter.",
        ),
    ] = None,
) -> None:
    """Measure one orchestrator process on RabbitMQ and PostgreSQL: transitions a second, CPU, statements.

    Example: python -m benchmarks.engine --queue quorum --floor 'python floor.py {queue}'

    Exit codes: 0 measured and every saga right, 1 a result is wrong or work was not ended, 69 no server to be had.
    """
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    wrong = False
    try:
        for kind in queue or list(QueueType):
            with ExitStack() as stack:
                figures = _measured(stack, kind, sagas, rounds, batch, floor)
            _draw(figures, sagas, batch)
            wrong = wrong or bool(figures.findings)
    except NotMeasurable as error:
        print(f"amends: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    except (ServerUnavailable, CannotStart) as error:
        print(f"amends: {error}", file=sys.stderr)
        raise typer.Exit(69) from error
    if wrong:
        raise typer.Exit(1)


def _measured(stack: ExitStack, type: QueueType, sagas: int, rounds: int, batch: int, floor: str | None) -> Figures:
    logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-engine-")))
    counts = logs / "counts.json"
    given = {counting.FILE: str(counts), "AMENDS_QUEUE_TYPE": type.value, "AMENDS_BATCH_SIZE": str(batch)}
    modules = {"orchestrator": "benchmarks.counting"}
    system, scratch = open_system(stack, os.environ, logs, modules=modules, given=given)
    stack.callback(asyncio.run, _remove_queues(system.amqp_url))
    stack.callback(system.stop)
    command = None if floor is None else floor.replace("{queue}", type.value[0])
    return asyncio.run(_measure(system, scratch, Figures(type), counts, sagas, rounds, command))


async def _measure(
    system: System, scratch: str, figures: Figures, counts: Path, sagas: int, rounds: int, floor: str | None
) -> Figures:
    system.start()
    await system.ready()
    entropy = SystemEntropy()
    async with AsyncExitStack() as stack:
        outbound = await stack.enter_async_context(Outbound(system.amqp_url, figures.type))
        bus = RabbitBus(system.amqp_url, service="benchmark")
        await bus.start()
        stack.push_async_callback(bus.close)
        database = Database(system.databases["orchestrator"], pool_size=1)
        stack.push_async_callback(database.close)
        transiting = Transiting(system, bus, outbound, database, counts)
        for number in range(rounds):
            print(f"{figures.type.value} queues, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            if floor is not None:
                figures.floor.append(await floor_of(floor, system.amqp_url, scratch, _FLOOR_FIGURE))
            orders = [entropy.message_id(datetime.now(UTC)) for _ in range(sagas)]
            figures.ours.append(await transiting.round(orders))
            await transiting.settled()
        figures.findings = await transiting.findings()
    return figures


async def _remove_queues(amqp_url: str) -> None:
    """The next type of queue cannot be declared while these are there."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for name in (QUEUE, COLLECTED_QUEUE, DEAD_LETTER_QUEUE):
            await channel.queue_delete(name)


def _draw(figures: Figures, sagas: int, batch: int) -> None:
    console = Console(soft_wrap=True)
    title = f"{figures.type.value} queues, batches of {batch}, {sagas:,} sagas a round"
    speed = Table(title=title, title_justify="left")
    for name in ("transitions/s", "least", "median", "most"):
        speed.add_column(name, justify="left" if name == "transitions/s" else "right")
    rows = {"floor": figures.floor} | {
        each.name: [measured[each.name].a_second for measured in figures.ours] for each in TRANSITIONS
    }
    for name, values in rows.items():
        if values:
            speed.add_row(name, f"{min(values):,.0f}", f"{median(values):,.0f}", f"{max(values):,.0f}")
    console.print(speed)
    if figures.floor:
        console.print(f"{COMPARED} of the floor: {median(rows[COMPARED]) / median(figures.floor):.2f}")
    console.print(_costs(figures.ours))
    for finding in figures.findings:
        console.print(f"WRONG: {finding}", markup=False)
    if not figures.findings:
        console.print("every saga has ended, and every history is what replaying it gives")


def _costs(ours: list[dict[str, Measured]]) -> Table:
    processes = list(ours[0][COMPARED].cpu_us)
    table = Table(title="what a transition cost (medians)", title_justify="left")
    table.add_column("")
    for name in (*(f"{each}, µs of CPU" for each in processes), "statements", "commits", "round trips"):
        table.add_column(name, justify="right")
    for each in TRANSITIONS:
        measured = [one[each.name] for one in ours]
        cpu = [f"{median(one.cpu_us[process] for one in measured):.0f}" for process in processes]
        asked = [
            f"{median(getattr(one.asked, what) / one.count for one in measured):.3f}"
            for what in ("statements", "commits", "round_trips")
        ]
        table.add_row(each.name, *cpu, *asked)
    return table


if __name__ == "__main__":
    typer.run(main)
