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
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import counting, exits, goals, machine
from benchmarks.engine_report import Figures, draw, reached
from benchmarks.floor import BATCH as FLOORS_BATCH
from benchmarks.floor import command, figure_of
from benchmarks.system import BATCH, System, open_system
from benchmarks.transiting import Outbound, Transiting
from messaging.clock import SystemEntropy
from messaging.database import Database
from messaging.rabbitmq import RabbitBus
from messaging.topology import QueueType

_FLOOR_FIGURE = re.compile(r"(\d+(?:\.\d+)?) tr(?:ansitions)?/s")


def main(
    *,
    sagas: Annotated[int, typer.Option(min=100, help="Sagas in one round, each with four transitions.")] = 3000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the table shows least, median and most.")] = 3,
    batch: Annotated[int, typer.Option(min=1, max=5000, help="Most messages in one transaction.")] = BATCH,
    queue: Annotated[
        list[QueueType] | None, typer.Option(help="Type of the queues; say it twice for both. [default: both]")
    ] = None,
    floor: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Another program to run in turns with ours, on the same servers (AMQP_URL, DATABASE_URL); it "
            "prints `N transitions/s`. {count}, {batch} and {queue} in it are filled in.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--json", help="Where the figures are written.")] = goals.RECORDS
    / "engine.json",
) -> None:
    """Measure one orchestrator process on RabbitMQ and PostgreSQL: transitions a second, CPU, statements.

    Example: python -m benchmarks.engine --queue quorum --floor 'python -m benchmarks.bare.loop {count} {batch} {queue}'

    Exit codes: 0 measured and every saga right, 1 a result is wrong or work was not ended, 69 no server to be had.
    """
    measured: list[Figures] = []
    began, described = machine.now(), machine.described()
    with exits.told():
        for kind in queue or list(QueueType):
            with ExitStack() as stack:
                measured.append(_measured(stack, kind, sagas, rounds, batch, floor))
            draw(measured[-1])
    document = {
        "program": "engine",
        "at": began,
        "machine": described,
        "goals": goals.as_json(reached(measured)),
        "figures": [each.as_json() for each in measured],
    }
    goals.write(output, document)
    if any(each.findings for each in measured):
        raise typer.Exit(1)


def _measured(stack: ExitStack, type: QueueType, sagas: int, rounds: int, batch: int, floor: str | None) -> Figures:
    logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-engine-")))
    counts = logs / "counts.json"
    given = {counting.FILE: str(counts), "AMENDS_QUEUE_TYPE": type.value, "AMENDS_BATCH_SIZE": str(batch)}
    modules = {"orchestrator": "benchmarks.counting"}
    system, scratch = open_system(stack, os.environ, logs, modules=modules, given=given)
    stack.callback(system.remove_queues)
    stack.callback(system.stop)
    figures = Figures(type, sagas, batch)
    words = None if floor is None else command(floor, type, FLOORS_BATCH, 2 * sagas)
    return asyncio.run(_measure(system, scratch, figures, counts, sagas, rounds, words))


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
                figures.floor.append(await figure_of(floor, system.amqp_url, scratch, _FLOOR_FIGURE))
            orders = [entropy.message_id(datetime.now(UTC)) for _ in range(sagas)]
            figures.ours.append(await transiting.round(orders))
            await transiting.settled()
        figures.findings = await transiting.findings()
    return figures


if __name__ == "__main__":
    typer.run(main)
