"""python -m benchmarks.bare.worker ROLE BATCH: one of the three processes; never ends by itself.

A batch is one transaction; its messages are published while the next batch is worked on, and only then is it
acknowledged. Rows of the outbox that have been confirmed are deleted with the next transaction.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

import asyncpg
import uvloop
from aiormq.abc import DeliveredMessage
from pydantic_core import from_json

from benchmarks.bare.wire import Inbox, Publisher, connect
from benchmarks.bare.work import handler


class Worker:
    """The loop of one role."""

    def __init__(self, role: str, publisher: Publisher, inbox: Inbox, database: asyncpg.Connection) -> None:
        self._publisher = publisher
        self._inbox = inbox
        self._database = database
        self._handle = handler(role)
        self._confirmed: list[int] = []
        self._last: asyncio.Task[None] | None = None
        self._delete = f"DELETE FROM bare_outbox_{role} WHERE id = ANY($1::bigint[])"  # noqa: S608 - one of three names
        self._insert = (
            f"INSERT INTO bare_outbox_{role} (message_id, routing_key, body) "  # noqa: S608 - one of three names
            "SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]) RETURNING id"
        )

    async def batch(self, most: int) -> int:
        """Work on what is there, but no more than so many; returns how many it was."""
        taken = await self._inbox.take(most)
        async with self._database.transaction():
            done, self._confirmed = self._confirmed, []
            if done:
                await self._database.execute(self._delete, done)
            out = await self._handle(self._database, [from_json(each.body) for each in taken])
            columns = zip(*((each.id, each.routing_key, each.body.decode()) for each in out), strict=True)
            rows = [row[0] for row in await self._database.fetch(self._insert, *columns)]
        await self.published()
        self._last = asyncio.create_task(self._finish(self._publisher.send(out), taken[-1], rows))
        return len(taken)

    async def published(self) -> None:
        """Return when the last batch's messages have been confirmed, and the batch acknowledged."""
        if self._last is not None:
            await self._last

    async def _finish(
        self, confirms: Sequence[asyncio.Future[object]], last: DeliveredMessage, rows: Sequence[int]
    ) -> None:
        for each in confirms:
            await each
        self._confirmed.extend(rows)
        await self._inbox.ack(last)


async def main(role: str, batch: int) -> None:
    """Work until killed."""
    broker, publisher, inbox = await connect(os.environ["AMQP_URL"])
    database = await asyncpg.connect(os.environ["DATABASE_URL"])
    worker = Worker(role, publisher, inbox, database)
    await inbox.open(f"benchmark.bare.{role}", max(batch * 3, 10))
    print("ready", flush=True)
    while not broker.is_closed:
        await worker.batch(batch)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
