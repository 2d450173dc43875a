"""python -m benchmarks.bare COUNT BATCH c|q: sagas a second of the floor, then its latency at 20 a second.

AMQP_URL and DATABASE_URL name the servers; its tables there are made anew. Prints what `--floor` of `benchmarks` reads;
with NOLAT set no latency.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process

import asyncpg
import uvloop
from aiormq.abc import DeliveredMessage, FieldTable

from benchmarks.bare.wire import EXCHANGE, Inbox, Message, Publisher, connect
from benchmarks.bare.work import BINDINGS, DONE, FAILS_EVERY, ROLES, START, TABLES, TABLES_OF_ROLE, message, new_id
from benchmarks.usage import Watched, listener_on
from orchestrator.percentiles import percentile

WINDOW = 100
PREFETCH = 500
RATE, SECONDS = 20, 5
PATIENCE = 120.0
NAMES = {"orchestrator": "orch", "stock": "inv", "payment": "pay", "broker": "broker", "PostgreSQL": "pg"}
"""What `--floor` calls them."""


class Ends:
    """When each saga ended."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.at: dict[str, float] = {}

    async def watch(self, count: int) -> None:
        """Return when so many have ended. Raises TimeoutError."""
        pending = 0
        async with asyncio.timeout(PATIENCE):
            while len(self.at) < count:
                taken: list[DeliveredMessage] = await self._inbox.take(PREFETCH)
                now = time.perf_counter()
                for each in taken:
                    self.at.setdefault(json.loads(each.body)["saga"], now)
                pending += len(taken)
                # Not each alone: the measurement shall cost the broker as little as it can.
                if pending >= PREFETCH // 10 or len(self.at) >= count:
                    await self._inbox.ack(taken[-1])
                    pending = 0


async def main(count: int, batch: int, queues: str) -> None:
    """Make tables and queues, start the processes, measure, print."""
    amqp_url, database_url = os.environ["AMQP_URL"], os.environ["DATABASE_URL"]
    database = await asyncpg.connect(database_url)
    await database.execute(TABLES + "".join(TABLES_OF_ROLE.format(role=role) for role in ROLES))
    broker, publisher, inbox = await connect(amqp_url)
    channel = await broker.channel()
    exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
    kind: FieldTable = {"x-queue-type": "quorum" if queues == "q" else "classic"}
    for name, pattern in BINDINGS.items():
        await channel.queue_delete(f"{EXCHANGE}.{name}")
        queue = await channel.declare_queue(f"{EXCHANGE}.{name}", durable=True, arguments=kind)
        await queue.bind(exchange, pattern)
    await inbox.open(f"{EXCHANGE}.{DONE}", PREFETCH)
    workers: dict[str, Process] = {}
    try:
        for role in ROLES:
            command = (sys.executable, "-m", "benchmarks.bare.worker", role, str(batch))
            workers[role] = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        for worker in workers.values():
            if worker.stdout is None or not await worker.stdout.readline():
                raise SystemExit("a process of the floor did not start; its words are above")
        watched = Watched(
            {role: worker.pid for role, worker in workers.items()}
            | {"broker": listener_on(amqp_url), "PostgreSQL": listener_on(database_url)}
        )
        ends = Ends(inbox)
        await _throughput(count, publisher, ends, watched)
        await _check(database, count)
        if "NOLAT" not in os.environ:
            await _latency(publisher, ends)
    finally:
        for worker in workers.values():
            if worker.returncode is None:
                worker.kill()
            await worker.wait()
    await inbox.close()
    for name in BINDINGS:
        await channel.queue_delete(f"{EXCHANGE}.{name}")
    await broker.close()
    await database.close()


async def _throughput(count: int, publisher: Publisher, ends: Ends, watched: Watched) -> None:
    before, began = watched.usage(), time.perf_counter()
    watching = asyncio.create_task(ends.watch(count))
    for first in range(0, count, WINDOW):
        for confirm in publisher.send([_placed(number) for number in range(first, min(first + WINDOW, count))]):
            await confirm
    await watching
    seconds = max(ends.at.values()) - began
    used = watched.usage().since(before)
    words = " ".join(f"{NAMES[name]}_us={spent / count * 1e6:.0f}" for name, spent in used.items())
    print(f"{count / seconds:.0f} sagas/s {words}", flush=True)


async def _check(database: asyncpg.Connection, count: int) -> None:
    """Whether every saga is where it belongs."""
    rows = await database.fetch("SELECT state, count(*) FROM bare_saga GROUP BY state")
    refused = -(-count // FAILS_EVERY)
    expected = {"COMPLETED": count - refused, "COMPENSATED": refused}
    if {row[0]: row[1] for row in rows} != expected:
        raise SystemExit(f"the floor has {[tuple(row) for row in rows]} sagas, not {expected}")


async def _latency(publisher: Publisher, ends: Ends) -> None:
    ends.at.clear()
    sent: dict[str, float] = {}
    watching = asyncio.create_task(ends.watch(RATE * SECONDS))
    for number in range(RATE * SECONDS):
        placed = _placed(number)
        sent[json.loads(placed.body)["saga"]] = time.perf_counter()
        publisher.send([placed])
        await asyncio.sleep(1 / RATE)
    await watching
    waits = sorted(ends.at[saga] - moment for saga, moment in sent.items())
    print(f"p50={percentile(waits, 50) * 1000:.1f}ms p99={percentile(waits, 99) * 1000:.1f}ms", flush=True)


def _placed(number: int) -> Message:
    return message(START, new_id(), number)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
