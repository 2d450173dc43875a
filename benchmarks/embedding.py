"""python -m benchmarks.embedding: how fast the embedded mode is, three services in one process on SQLite files.

From the first order.created that is published to the last saga's last event; orders and stock are written beforehand.
The files are where they would be in earnest, on a disk, and every commit is on it before it counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import exits, goals, machine, orders
from benchmarks.endings import LAST_EVENTS
from benchmarks.measuring import result_of, settled, wrong
from benchmarks.system import NotMeasurable
from deploy.embedded import services
from messaging.bus import Delivery
from messaging.database import Database
from messaging.memory import MemoryBroker, MemoryBus, MemorySubscription
from messaging.process import Running
from messaging.topology import EVENTS, Binding, Queue, QueueType, Topology

ANNOUNCERS = 3
"""Windows of events on their way at once: a publish in memory is confirmed when the saga's start is committed."""
PATIENCE = 120.0
"""Seconds until sagas that have not ended are given up."""
_QUEUE = "benchmark.endings"


@dataclass(frozen=True, slots=True)
class Round:
    """Sagas a second, the CPU milliseconds that one cost, and the mebibytes that the process held at most."""

    sagas_per_second: float
    cpu_ms: float
    memory_mb: float


class Endings:
    """Counts the sagas that have said their last word, on a queue of its own in the same broker."""

    def __init__(self) -> None:
        self._ended: set[UUID] = set()
        self._wanted = 0
        self._reached = asyncio.Event()
        self._subscription: MemorySubscription | None = None
        self._arrived: list[Delivery] = []

    async def attach(self, bus: MemoryBus) -> None:
        """Declare the queue and read it."""
        bindings = tuple(Binding(EVENTS, event) for event in LAST_EVENTS)
        await bus.declare(Topology().with_queue(Queue(_QUEUE, bindings, QueueType.CLASSIC)))
        self._subscription = await bus.subscribe(_QUEUE, prefetch=10_000, deliver=self._deliver)

    async def reached(self, count: int) -> float:
        """Wait until so many have ended since the last call; returns when that was. Raises NotMeasurable."""
        self._wanted = count
        try:
            async with asyncio.timeout(PATIENCE):
                await self._reached.wait()
        except TimeoutError:
            raise NotMeasurable(f"only {len(self._ended)} of {count} sagas have ended after {PATIENCE:g} s") from None
        finally:
            now = time.monotonic()
            self._reached.clear()
            self._ended.clear()
        return now

    def _deliver(self, delivery: Delivery) -> None:
        self._ended.add(UUID(json.loads(delivery.body)["data"]["order_id"]))
        self._arrived.append(delivery)
        if len(self._arrived) == 1:
            asyncio.get_running_loop().call_soon(asyncio.ensure_future, self._acknowledge())
        if len(self._ended) >= self._wanted > 0:
            self._reached.set()

    async def _acknowledge(self) -> None:
        arrived, self._arrived = self._arrived, []
        if self._subscription is not None:
            await self._subscription.ack(arrived)


def main(
    *,
    sagas: Annotated[int, typer.Option(min=10, help="Sagas in one round.")] = 2000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the table shows least, median and most.")] = 5,
    directory: Annotated[
        Path | None, typer.Option("--in", help="Where the files are made, and removed again. [default: here]")
    ] = None,
    output: Annotated[Path, typer.Option("--json", help="Where the figures are written.")] = goals.RECORDS
    / "embedding.json",
) -> None:
    """Measure the embedded mode: throughput, CPU, memory.

    Example: python -m benchmarks.embedding --rounds 3

    Exit codes: 0 measured and every result right, 1 a result is wrong or work was not ended.
    """
    # Not in /tmp, which on many machines is memory and no disk.
    began, described = machine.now(), machine.described()
    with exits.told(), tempfile.TemporaryDirectory(prefix="amends-embedding-", dir=directory or Path.cwd()) as files:
        measured, faults = asyncio.run(_measure(Path(files), sagas, rounds))
    _draw(measured, sagas)
    for each in faults:
        print(f"amends: {each}", file=sys.stderr)
    speed = statistics.median(each.sagas_per_second for each in measured)
    document = {
        "program": "embedding",
        "at": began,
        "machine": described,
        "goals": goals.as_json({"embedded": goals.Reached(speed, f"{speed:,.0f}/s")}),
        "sagas_per_round": sagas,
        "rounds": [asdict(each) for each in measured],
        "wrong": faults,
    }
    goals.write(output, document)
    if faults:
        raise typer.Exit(1)


async def _measure(files: Path, sagas: int, rounds: int) -> tuple[list[Round], list[str]]:
    broker = MemoryBroker()
    three = services(files, port=0, broker=broker)
    urls = {each.name: f"sqlite:///{files / each.name}.db" for each in three}
    endings, measured = Endings(), []
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(Running(three))
        await running.start()
        bus = MemoryBus(broker, service="order")
        await bus.start()
        stack.push_async_callback(bus.close)
        await endings.attach(bus)
        database = next(each.database for each in three if each.name == "order")
        await orders.fill_stock(database)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            measured.append(await _round(sagas, database, bus, endings))
            await settled(urls)
    return measured, wrong(await result_of(urls), sagas * rounds, orders.expected_failures(sagas) * rounds)


async def _round(sagas: int, database: Database, bus: MemoryBus, endings: Endings) -> Round:
    events = await orders.write_orders(database, sagas)
    cpu, began = time.process_time(), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for first in range(ANNOUNCERS):
            windows = [events[at : at + orders.WINDOW] for at in range(0, sagas, orders.WINDOW)][first::ANNOUNCERS]
            group.create_task(orders.announce(bus, [event for window in windows for event in window]))
        ended = group.create_task(endings.reached(sagas))
    spent = time.process_time() - cpu
    # Kibibytes on Linux.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Round(sagas / (ended.result() - began), spent / sagas * 1000, most)


def _draw(measured: Sequence[Round], sagas: int) -> None:
    table = Table(title=f"Embedded: {len(measured)} rounds of {sagas} sagas, {os.cpu_count()} cores")
    for name in ("", "least", "median", "most"):
        table.add_column(name, justify="right" if name else "left")
    for name, values, digits in (
        ("sagas/s", [each.sagas_per_second for each in measured], 0),
        ("CPU ms a saga", [each.cpu_ms for each in measured], 2),
        ("memory, MiB at most", [each.memory_mb for each in measured], 0),
    ):
        figures = (min(values), statistics.median(values), max(values))
        table.add_row(name, *(f"{each:.{digits}f}" for each in figures))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
