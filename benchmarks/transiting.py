"""The orchestrator alone under full batches: what it makes of events that all lie in its queue when it begins."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

import aio_pika
from sqlalchemy import Table, func, select

from benchmarks import counting
from benchmarks.answering import TRANSITIONS, Transition
from benchmarks.counting import Counts
from benchmarks.orders import publish
from benchmarks.system import NotMeasurable, System
from messaging import schema
from messaging.database import Database
from messaging.rabbitmq import RabbitBus
from messaging.topology import COMMANDS, EVENTS, QueueType
from orchestrator.assembly import QUEUE
from orchestrator.catalog import DEFAULT_MODULE
from orchestrator.replay.sweeping import Range, Selection, replay_range
from orchestrator.schema import parked_event, saga

SENT = "benchmark.sent"
"""The queue in which everything the orchestrator sends is kept; nobody reads it."""
LOOK_EVERY = 0.01
PATIENCE = 120.0
"""Seconds until transitions that have not come are given up."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Transitions a second, the CPU microseconds of each process for one of them; what all asked the database."""

    a_second: float
    cpu_us: Mapping[str, float]
    asked: Counts
    count: int


class Outbound:
    """A queue for what the orchestrator sends, of the same type as its own: how many have come is all that is asked."""

    def __init__(self, amqp_url: str, type: QueueType) -> None:
        self._url = amqp_url
        self._type = type
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._queue: aio_pika.abc.AbstractQueue

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self._url)
        self._channel = await self._connection.channel()
        self._queue = await self._channel.declare_queue(SENT, durable=True, arguments={"x-queue-type": self._type})
        await self._queue.bind(COMMANDS, "#")
        await self._queue.bind(EVENTS, "fulfillment.*")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._channel.queue_delete(SENT)
            await self._connection.close()

    async def depth(self, queue: str = SENT) -> int:
        """How many messages lie in a queue, those that are delivered and not acknowledged left out."""
        found = await self._channel.declare_queue(queue, passive=True)
        return found.declaration_result.message_count or 0

    async def reached(self, count: int) -> None:
        """Return when so many have come. Raises NotMeasurable where they do not come, or more than those."""
        give_up = time.monotonic() + PATIENCE
        while (found := await self.depth()) < count:
            if time.monotonic() > give_up:
                raise NotMeasurable(f"the orchestrator has sent {found} of {count} messages after {PATIENCE:g} s")
            await asyncio.sleep(LOOK_EVERY)
        if found > count:
            raise NotMeasurable(f"the orchestrator has sent {found} messages, where it had {count} to send")

    async def empty(self) -> None:
        """Forget what has come."""
        await self._queue.purge()


class Transiting:
    """Takes sagas through their transitions, one transition of all of them after the other."""

    def __init__(self, system: System, bus: RabbitBus, outbound: Outbound, database: Database, counts: Path) -> None:
        self._system = system
        self._bus = bus
        self._outbound = outbound
        self._database = database
        self._counts = counts
        self._watched = system.watched()
        self.sagas = 0

    async def round(self, orders: list[UUID]) -> dict[str, Measured]:
        """Each transition of these orders' sagas."""
        self.sagas += len(orders)
        return {each.name: await self._measure(each, orders) for each in TRANSITIONS}

    async def _measure(self, transition: Transition, orders: list[UUID]) -> Measured:
        messages = transition.messages(orders)
        await self._outbound.empty()
        asked = await self._asked()
        # Stopped, not ended: its connections stay, and it is as warm as a process that has worked for hours.
        self._system.signal("orchestrator", signal.SIGSTOP)
        try:
            await publish(self._bus, messages)
            before, began = self._watched.usage(), time.monotonic()
        finally:
            self._system.signal("orchestrator", signal.SIGCONT)
        await self._outbound.reached(len(orders))
        seconds = time.monotonic() - began
        used = self._watched.usage().since(before)
        return Measured(
            len(orders) / seconds,
            {name: spent / len(orders) * 1e6 for name, spent in used.items()},
            (await self._asked()).since(asked),
            len(orders),
        )

    async def _asked(self) -> Counts:
        self._counts.unlink(missing_ok=True)
        self._system.signal("orchestrator", signal.SIGUSR1)
        give_up = time.monotonic() + PATIENCE
        while (found := counting.read(self._counts)) is None:
            self._system.check()
            if time.monotonic() > give_up:
                raise NotMeasurable("the orchestrator does not say what it has asked of its database")
            await asyncio.sleep(LOOK_EVERY)
        return found

    async def settled(self) -> None:
        """Return when nothing is left in the outbox or the queue. Raises NotMeasurable."""
        give_up = time.monotonic() + PATIENCE
        while left := await self._count(schema.outbox) + await self._outbound.depth(QUEUE):
            if time.monotonic() > give_up:
                raise NotMeasurable(f"{left} rows and messages are left to send or to take after {PATIENCE:g} s")
            await asyncio.sleep(0.1)

    async def findings(self) -> list[str]:
        """What is wrong in the end: sagas that have not ended, histories that are not what replaying them gives."""
        async with self._database.reading() as connection:
            rows = await connection.execute(
                select(saga.c.status, saga.c.revision, func.count()).group_by(saga.c.status, saga.c.revision)
            )
            ended = {(status, revision): count for status, revision, count in rows}
        wrong = []
        expected = {("completed", len(TRANSITIONS)): self.sagas}
        if ended != expected:
            wrong.append(f"by status and number of transitions there are {ended} sagas, not {expected}")
        tables = (schema.outbox, schema.deferred, schema.dead_letter, parked_event)
        left = {table.name: await self._count(table) for table in tables}
        wrong.extend(f"{count} rows are left in {name}" for name, count in left.items() if count)
        everything = Range(
            self._database.url.render_as_string(hide_password=False),
            (DEFAULT_MODULE,),
            Selection(),
            UUID(int=0),
            UUID(int=(1 << 128) - 1),
        )
        tally = await asyncio.to_thread(replay_range, everything)
        if tally.different or tally.transitions != self.sagas * len(TRANSITIONS):
            wrong.append(f"of {tally.transitions} transitions {tally.different} are not what replaying them gives")
        return wrong

    async def _count(self, table: Table) -> int:
        async with self._database.reading() as connection:
            return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())
