"""python -m benchmarks.draining: how fast a relay sends a backlog, beside the same publisher with messages in memory.

A backlog is what an outage of the broker leaves: committed outbox rows past their grace, a few of each key. Both
figures are taken in turns, into an empty queue that nobody reads meanwhile. Every message must have arrived, each key
in its order.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Annotated
from uuid import UUID

import aio_pika
import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks import exits
from benchmarks.goals import RECORDS, Reached, as_json, write
from benchmarks.machine import described, now
from benchmarks.system import NotMeasurable, open_system
from benchmarks.usage import Watched, listener_on
from messaging import loading, migrate
from messaging.bus import Delivery, Outgoing, Receipt
from messaging.clock import SystemClock
from messaging.database import Database
from messaging.envelope import CONTENT_TYPE, Envelope, frame
from messaging.rabbitmq import RabbitBus
from messaging.relay import Relay
from messaging.topology import EVENTS, Binding, Queue, QueueType, Topology

QUEUE, TYPE = "benchmark.drained", "benchmark.drained"
ROWS_A_KEY = 4
"""As many messages as one service sends for one saga; they lie far apart, because each waits for an answer."""
SLICE = 10_000
"""Messages in one call of the publisher that reads from memory: more than it ever has unconfirmed."""
PREFETCH = 2_000
PATIENCE = 300.0
_ALL_LEFT = text("SELECT count(*) FROM outbox")
_LAST_LEFT = text("SELECT count(*) FROM outbox WHERE id = :last")
LOOK_SECONDS = 0.05
_PLACE = "0" * 32
"""Stands for a row's number where the body has its id, which PostgreSQL then writes over."""


@dataclass(frozen=True, slots=True)
class Drained:
    """Messages a second, and the CPU microseconds of each process for one."""

    a_second: float
    cpu_us: Mapping[str, float]


@dataclass(slots=True)
class Figures:
    """What was measured, round by round."""

    rows: int
    type: QueueType
    backlog: list[Drained] = field(default_factory=list)
    memory: list[Drained] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The backlog's median against the memory's."""
        return median(each.a_second for each in self.backlog) / median(each.a_second for each in self.memory)

    def as_json(self) -> dict[str, object]:
        """For programs."""
        ours, other = (median(each.a_second for each in found) for found in (self.backlog, self.memory))
        return {
            "program": "draining",
            "at": now(),
            "machine": described(),
            "rows": self.rows,
            "queue": self.type.value,
            "backlog_a_second": [round(each.a_second) for each in self.backlog],
            "memory_a_second": [round(each.a_second) for each in self.memory],
            "backlog_cpu_us": [_rounded(each.cpu_us) for each in self.backlog],
            "memory_cpu_us": [_rounded(each.cpu_us) for each in self.memory],
            "findings": self.findings,
            "goals": as_json({"drain": Reached(self.ratio, f"{ours:,.0f}/s", f"{other:,.0f}/s")}),
        }


def main(
    *,
    rows: Annotated[int, typer.Option(min=1000, help="Rows of the backlog.")] = 200_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the table shows least, median and most.")] = 3,
    queue: Annotated[QueueType, typer.Option(help="Type of the queue that takes them.")] = QueueType.QUORUM,
    output: Annotated[Path, typer.Option("--json", help="Where the figures are written.")] = RECORDS / "draining.json",
) -> None:
    """Measure a relay's drain of a backlog against publishing the same messages from memory.

    Example: python -m benchmarks.draining --rows 1000000 --rounds 1

    Exit codes: 0 measured and every message there in its order, 1 not so, 69 no server to be had.
    """
    with exits.told(), ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-draining-")))
        system, scratch = open_system(stack, os.environ, logs, modules={})
        with loading.seldom_collected():  # as in a service
            figures = asyncio.run(_measure(system.amqp_url, scratch, Figures(rows, queue), rounds))
    _draw(figures)
    write(output, figures.as_json())
    if figures.findings:
        raise typer.Exit(1)


async def _measure(amqp_url: str, database_url: str, figures: Figures, rounds: int) -> Figures:
    async with AsyncExitStack() as stack:
        database = Database(database_url, by_index=True)
        stack.push_async_callback(database.close)
        await migrate.upgrade(database, (migrate.MESSAGING,))
        bus = RabbitBus(amqp_url, service="benchmark")
        await bus.start()
        stack.push_async_callback(bus.close)
        await bus.declare(Topology((EVENTS,), (Queue(QUEUE, (Binding(EVENTS, TYPE),), figures.type, None, None),)))
        stack.push_async_callback(_remove_queue, amqp_url)
        reader = _Reader(bus)
        watched = Watched({"us": os.getpid(), "broker": listener_on(amqp_url), "PostgreSQL": listener_on(database_url)})
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            figures.memory.append(await _from_memory(bus, watched, figures.rows))
            figures.findings += await reader.findings(figures.rows)
            await _fill(database, figures.rows)
            figures.backlog.append(await _backlog(database, bus, watched))
            figures.findings += await reader.findings(figures.rows)
    return figures


async def _from_memory(bus: RabbitBus, watched: Watched, rows: int) -> Drained:
    seconds, cpu = 0.0, dict.fromkeys(watched.usage().cpu, 0.0)
    for start in range(0, rows, SLICE):
        # Made beforehand: what is compared with is the publisher alone.
        messages = [_message(number, rows) for number in range(start + 1, min(start + SLICE, rows) + 1)]
        before, began = watched.usage(), time.monotonic()
        receipts = await bus.publish(messages)
        seconds += time.monotonic() - began
        for name, used in watched.usage().since(before).items():
            cpu[name] += used
        if any(each is not Receipt.CONFIRMED for each in receipts):
            raise NotMeasurable("the broker has not confirmed what was published from memory")
    return Drained(rows / seconds, {name: used / rows * 1e6 for name, used in cpu.items()})


async def _backlog(database: Database, bus: RabbitBus, watched: Watched) -> Drained:
    relay = Relay(database, bus, SystemClock())
    before, began = watched.usage(), time.monotonic()
    running = asyncio.create_task(relay.run())
    try:
        async with database.reading() as connection:
            rows = int((await connection.execute(_ALL_LEFT)).scalar_one())
            last = (await connection.execute(text("SELECT max(id) FROM outbox"))).scalar_one()
            # The last one by its number, which the primary key knows: looking must cost nothing.
            await _none_left(connection, running, _LAST_LEFT, {"last": last}, began)
            await _none_left(connection, running, _ALL_LEFT, {}, began)
            seconds, used = time.monotonic() - began, watched.usage().since(before)
        return Drained(rows / seconds, {name: each / rows * 1e6 for name, each in used.items()})
    finally:
        relay.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _none_left(
    connection: AsyncConnection, running: asyncio.Task[None], query: TextClause, given: dict[str, int], began: float
) -> None:
    while int((await connection.execute(query, given)).scalar_one()):
        await connection.rollback()
        if running.done():
            await running
        if time.monotonic() - began > PATIENCE:
            raise NotMeasurable(f"rows are left in the outbox after {PATIENCE:g} s")
        await asyncio.sleep(LOOK_SECONDS)


def _keys(rows: int) -> int:
    return rows // ROWS_A_KEY


def _message(number: int, rows: int) -> Outgoing:
    identity, key = UUID(int=number), str(number % _keys(rows))
    return Outgoing(
        EVENTS, TYPE, str(identity), _body(str(identity)).encode(), TYPE, _WRITTEN, "benchmark", key, CONTENT_TYPE
    )


_WRITTEN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _body(identity: str) -> str:
    """About as long as the messages of an order are."""
    envelope = Envelope(UUID(int=0), TYPE, 1, "benchmark", _WRITTEN, _PLACE, _PLACE, _PLACE)
    data = json.dumps({"order_id": _PLACE, "text": "x" * 100})
    return frame(envelope, data).replace(str(UUID(int=0)), identity)


async def _fill(database: Database, rows: int) -> None:
    """As if as many had been committed an hour ago, one after the other; with the table as its upkeep leaves it."""
    async with database.transaction() as connection:
        await connection.execute(
            text(
                "INSERT INTO outbox (key, message_id, exchange, routing_key, type, source, correlation_id, body,"
                " created_at, available_at) SELECT CAST(n % :keys AS text), identity, :exchange, :type, :type,"
                " 'benchmark', CAST(n % :keys AS text), replace(:body, :place, CAST(identity AS text)), written,"
                " written FROM (SELECT n, CAST(lpad(to_hex(n), 32, '0') AS uuid) AS identity,"
                " CAST(:since AS timestamptz) + n * interval '1 millisecond' AS written"
                " FROM generate_series(1, :rows) AS n) AS numbered ORDER BY n"
            ),
            {
                "keys": _keys(rows),
                "exchange": EVENTS,
                "type": TYPE,
                "body": _body("$identity"),
                "place": "$identity",
                "since": datetime.now(UTC) - timedelta(hours=1),
                "rows": rows,
            },
        )
    async with database.engine.connect() as connection:
        plain = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await plain.execute(text("VACUUM ANALYZE outbox"))


class _Reader:
    """Empties the queue, and says whether everything was there."""

    def __init__(self, bus: RabbitBus) -> None:
        self._bus = bus
        self._taken: list[Delivery] = []

    async def findings(self, rows: int) -> list[str]:
        """What is wrong with the messages in the queue, which is empty then."""
        numbers: dict[int, None] = {}
        subscription = await self._bus.subscribe(QUEUE, prefetch=PREFETCH, deliver=self._taken.append)
        try:
            give_up = time.monotonic() + PATIENCE
            while len(numbers) < rows or self._taken:
                taken, self._taken[:] = list(self._taken), []
                # As it came first: at least once is what is promised, and a repetition is no disorder.
                numbers.update(dict.fromkeys(UUID(each.message_id).int for each in taken))
                await subscription.ack(taken)
                if time.monotonic() > give_up:
                    return [f"{rows - len(numbers)} of {rows} messages have not arrived"]
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await subscription.close()
        return _disorder(numbers, rows)


def _disorder(numbers: Iterable[int], rows: int) -> list[str]:
    latest: dict[int, int] = {}
    for number in numbers:
        key = number % _keys(rows)
        if number < latest.get(key, 0):
            return [f"message {number} came after message {latest[key]} of its key"]
        latest[key] = number
    return []


async def _remove_queue(amqp_url: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete(QUEUE)


def _rounded(cpu_us: Mapping[str, float]) -> dict[str, float]:
    return {name: round(each, 1) for name, each in cpu_us.items()}


def _draw(figures: Figures) -> None:
    table = Table(title=f"{figures.rows:,} rows, {figures.type.value} queue", caption="CPU in µs a message")
    spenders = list(figures.memory[0].cpu_us)
    for name in ("", "messages/s", *spenders):
        table.add_column(name, justify="left" if not name else "right")
    for name, found in (("backlog", figures.backlog), ("from memory", figures.memory)):
        rates = sorted(each.a_second for each in found)
        spent = [f"{median(each.cpu_us[spender] for each in found):.0f}" for spender in spenders]
        table.add_row(name, f"{median(rates):,.0f} [{rates[0]:,.0f}-{rates[-1]:,.0f}]", *spent)
    table.add_row("ratio", f"{figures.ratio:.2f}")
    console = Console()
    console.print(table)
    for finding in figures.findings:
        console.print(f"wrong: {finding}", style="red")


if __name__ == "__main__":
    typer.run(main)
