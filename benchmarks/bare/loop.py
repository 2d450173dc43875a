"""python -m benchmarks.bare.loop COUNT BATCH c|q: transitions a second of the floor's orchestrator alone.

Every saga and every event lies there when it begins; what it sends goes to a queue that nobody reads. Prints what
`--floor` of `benchmarks.engine` reads.
"""

from __future__ import annotations

import os
import sys
import time

import asyncpg
import uvloop
from pydantic_core import to_json

from benchmarks.bare.wire import EXCHANGE, Publisher, connect
from benchmarks.bare.work import TABLES, TABLES_OF_ROLE, message, new_id
from benchmarks.bare.worker import Worker

ROLE, EVENT, BEFORE, AFTER = "orchestrator", "evt.stock.reserved", "RESERVING", "CHARGING"
SENT = f"{EXCHANGE}.sent"
WINDOW = 500


async def main(count: int, batch: int, queues: str) -> None:
    """Fill the table and the queue, measure, check, print."""
    database = await asyncpg.connect(os.environ["DATABASE_URL"])
    await database.execute(TABLES + TABLES_OF_ROLE.format(role=ROLE))
    sagas, data = [new_id() for _ in range(count)], to_json({"n": 1, "filling": "x" * 200}).decode()
    await database.execute("INSERT INTO bare_saga SELECT id, $2, 1, $3 FROM unnest($1::uuid[]) id", sagas, BEFORE, data)
    await database.execute("VACUUM ANALYZE bare_saga")
    broker, publisher, inbox = await connect(os.environ["AMQP_URL"])
    channel = await broker.channel()
    exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
    for name, pattern in ((f"{EXCHANGE}.{ROLE}", "evt.#"), (SENT, "cmd.#")):
        await channel.queue_delete(name)
        kind = "quorum" if queues == "q" else "classic"
        queue = await channel.declare_queue(name, durable=True, arguments={"x-queue-type": kind})
        await queue.bind(exchange, pattern)
    await _publish(publisher, sagas)
    worker = Worker(ROLE, publisher, inbox, database)
    began, done = time.perf_counter(), 0
    await inbox.open(f"{EXCHANGE}.{ROLE}", max(batch * 3, 10))
    while done < count:
        done += await worker.batch(batch)
    await worker.published()
    seconds = time.perf_counter() - began
    moved = await database.fetchval("SELECT count(*) FROM bare_saga WHERE state = $1 AND version = 2", AFTER)
    if moved != count:
        raise SystemExit(f"the loop has moved {moved} of {count} sagas")
    print(f"{count / seconds:.0f} transitions/s", flush=True)
    await inbox.close()
    for name in (f"{EXCHANGE}.{ROLE}", SENT):
        await channel.queue_delete(name)
    await broker.close()
    await database.close()


async def _publish(publisher: Publisher, sagas: list[str]) -> None:
    for begin in range(0, len(sagas), WINDOW):
        for confirm in publisher.send([message(EVENT, saga, 1) for saga in sagas[begin : begin + WINDOW]]):
            await confirm


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
