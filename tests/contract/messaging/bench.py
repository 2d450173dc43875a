"""A clock, a source of ids and a broker that do as a test says, and a worker between them and a real database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

from sqlalchemy import event, select
from sqlalchemy.engine import Row

from contracts.message import Message
from messaging import schema
from messaging.appending import append
from messaging.bus import Answers, Delivery, Outgoing, QueueState, Receipt
from messaging.clock import uuid7
from messaging.consumer import Consumer
from messaging.database import Database
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from messaging.outbox_rows import OutboxRow, Pending
from messaging.participant import Participant
from messaging.relay import Relay
from messaging.serving import ParticipantConsumer
from messaging.topology import Topology
from messaging.worker import Worker

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PATIENCE = 30.0
"""Seconds after which something that should have happened is taken not to happen."""


class StillClock:
    """A time that stands still until it is moved; who sleeps wakes up when it has moved far enough.

    `moment` can also be set, as somebody may set a machine's clock: that lets no time pass, and wakes nobody.
    """

    def __init__(self) -> None:
        self.moment = NOON
        self._passed = timedelta(0)
        self._sleeping: list[tuple[timedelta, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self._passed.total_seconds()

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeping.append((self._passed + timedelta(seconds=seconds), woken))
        await woken

    @property
    def sleepers(self) -> int:
        """How many wait for the time to move."""
        return sum(not woken.done() for _, woken in self._sleeping)

    def advance(self, seconds: float) -> None:
        """Move the time."""
        self.moment += timedelta(seconds=seconds)
        self._passed += timedelta(seconds=max(seconds, 0.0))
        for until, woken in self._sleeping:
            if until <= self._passed and not woken.done():
                woken.set_result(None)
        self._sleeping = [each for each in self._sleeping if not each[1].done()]


class CountingEntropy:
    """Ids that count up, and no jitter."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def message_id(self, now: datetime) -> UUID:
        return uuid7(now, next(self._numbers))

    def jitter(self) -> float:
        return 0.0


class ScriptedBus:
    """A broker that says of each message what the test wants, and delivers what the test hands it."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.calls: list[list[str]] = []
        self.says: Callable[[Outgoing], Receipt] = lambda _message: Receipt.CONFIRMED
        self.gate: asyncio.Event | None = None
        self.prepared: list[list[str]] = []
        self.prompt = False
        """Whether it writes what it is told to send now, as RabbitMQ's does."""
        self.settled: list[int] = []
        self.acknowledging = asyncio.Event()
        """Set at each acknowledgment, for who must not look again and again meanwhile."""
        self.requeued: list[int] = []
        self.rejected: list[int] = []
        self.lost: set[int] = set()
        self.handed = 0
        self._tags = count(1)
        self._deliver: dict[str, Callable[[Delivery], None]] = {}

    @property
    def connected(self) -> bool:
        return True

    async def start(self) -> None:
        """There is nothing to connect to."""

    async def declare(self, topology: Topology) -> None:
        """Every queue exists."""

    async def close(self) -> None:
        self._deliver.clear()

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        self.published.extend(messages)
        self.calls.append([each.message_id for each in messages])
        return await self._answer(messages)

    def send_now(self, messages: Sequence[Outgoing]) -> Answers | None:
        if not self.prompt:
            return None
        self.published.extend(messages)
        self.calls.append([each.message_id for each in messages])
        return partial(self._answer, messages)

    def prepare(self, messages: Sequence[Outgoing]) -> None:
        self.prepared.append([each.message_id for each in messages])

    async def _answer(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        if self.gate is not None:
            await self.gate.wait()
        return [self.says(each) for each in messages]

    async def subscribe(self, queue: str, *, prefetch: int, deliver: Callable[[Delivery], None]) -> ScriptedBus:
        self._deliver[queue] = deliver
        return self

    async def inspect(self, queue: str) -> QueueState | None:
        return QueueState(queue, 0, 1) if queue in self._deliver else None

    @property
    def attached(self) -> bool:
        return bool(self._deliver)

    def holds(self, delivery: Delivery) -> bool:
        return delivery.tag not in self.lost

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.settled.extend(each.tag for each in deliveries if self.holds(each))
        self.acknowledging.set()

    async def reject(self, deliveries: Sequence[Delivery], *, requeue: bool) -> None:
        (self.requeued if requeue else self.rejected).extend(each.tag for each in deliveries)

    async def step_back(self) -> None:
        """There is no line."""

    async def cancel(self) -> None:
        """Nothing comes but what the test hands over."""

    def hand_over(self, deliveries: Sequence[Delivery]) -> None:
        """Deliver these at once, so that they come as one batch."""
        self.handed += len(deliveries)
        for each in deliveries:
            self._deliver[each.queue](each)

    def tag(self) -> int:
        return next(self._tags)

    def sent(self, wire_type: str) -> list[Outgoing]:
        """What was published of this type, in order."""
        return [each for each in self.published if each.type == wire_type]


class Bench:
    """One service without its process: a database, a broker, a relay and, from `serve` on, a worker."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.bus = ScriptedBus()
        self.clock = StillClock()
        self.entropy = CountingEntropy()
        self.relay = Relay(database, self.bus, self.clock)
        self.worker: Worker
        self.consumer: Consumer
        self._running: list[asyncio.Task[None]] = []
        self._ids = count(1)

    async def serve(
        self, consumer: Participant | Consumer, *, batch_size: int = 100, lanes: int = 1, finishes: bool = False
    ) -> Worker:
        """Start a worker on `depot.in`."""
        if isinstance(consumer, Participant):
            participant = ParticipantConsumer(consumer, clock=self.clock, entropy=self.entropy)
            self.consumer = participant
        else:
            self.consumer = consumer
        self.worker = Worker(
            self.consumer,
            service="depot",
            queues=["depot.in"],
            database=self.database,
            bus=self.bus,
            relay=self.relay,
            clock=self.clock,
            entropy=self.entropy,
            batch_size=batch_size,
            lanes=lanes,
            finishes=finishes,
        )
        if isinstance(self.consumer, ParticipantConsumer):
            self.consumer.calls.connect(self.worker.submit)
        self._running.append(asyncio.create_task(self.worker.run()))
        await until(lambda: self.bus.attached, "the worker subscribes")
        return self.worker

    async def retire(self) -> None:
        """Stop the worker, and raise what it has died of."""
        if self._running:
            await self.worker.stop()
            while not all(task.done() for task in self._running):
                # Whoever sleeps on the still clock would sleep for ever.
                self.clock.advance(60)
                await asyncio.sleep(0)
            if isinstance(self.consumer, ParticipantConsumer):
                await self.consumer.calls.close()
            await asyncio.gather(*self._running)
            self._running.clear()
            await self.bus.close()

    async def close(self) -> None:
        """Stop the worker and let go of the database."""
        await self.retire()
        await self.database.close()

    # -- in --------------------------------------------------------------------------------------------------

    def delivery(
        self,
        message: Message,
        *,
        id: UUID | None = None,
        compensates: UUID | None = None,
        correlation_id: str | None = "saga-1",
        causation_id: UUID | None = None,
    ) -> Delivery:
        """A delivery of a structured CloudEvent."""
        envelope = Envelope(
            id=id or UUID(int=next(self._ids)),
            type=message.wire_type,
            version=message.wire_version,
            source="tester",
            time=NOON,
            correlation_id=correlation_id,
            causation_id=None if causation_id is None else str(causation_id),
            key=message.ordering_key,
            compensates=compensates,
        )
        return self.raw(
            encode(envelope, message).encode(),
            content_type=CONTENT_TYPE,
            message_id=str(envelope.id),
            type=message.wire_type,
        )

    def raw(self, body: bytes, **properties: Any) -> Delivery:
        """A delivery of any bytes."""
        given = {"exchange": "amends.commands", "routing_key": "parcel.pack"} | properties
        return Delivery(queue="depot.in", tag=self.bus.tag(), body=body, **given)

    async def handle(self, *deliveries: Delivery) -> None:
        """Deliver as one batch, and wait until all are acknowledged."""
        self.bus.hand_over(deliveries)
        await self.settled(deliveries)

    async def settled(self, deliveries: Sequence[Delivery]) -> None:
        """Wait until these have been acknowledged."""
        tags = {each.tag for each in deliveries}
        await self.until(lambda: tags <= set(self.bus.settled), "the deliveries are acknowledged")

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for what the worker does; raises at once what the worker has died of."""

        def met() -> bool:
            for task in self._running:
                if task.done():
                    task.result()
            return condition()

        await until(met, what)

    async def pass_time(self, condition: Callable[[], bool], what: str, *, step: float = 60) -> None:
        """Let the time go on until the worker has done what it was to do."""

        def met() -> bool:
            self.clock.advance(step)
            return condition()

        await self.until(met, what)

    # -- out -------------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Publish what the worker has committed: a commit may be seen in the database a moment before it says so."""
        if self._running:
            await self.until(lambda: self.worker.in_hand_since is None, "the worker has done what it has in hand")
        await self.relay.flush()

    async def rows(self, table: Any, *order: Any) -> list[Row[Any]]:
        """All rows of a table."""
        async with self.database.reading() as connection:
            query = select(table).order_by(*(order or tuple(table.primary_key)))
            return list((await connection.execute(query)).all())

    async def letters(self) -> list[tuple[str, str | None]]:
        """The dead letters: reason and message id."""
        return [(row.reason, row.message_id) for row in await self.rows(schema.dead_letter)]

    async def statuses(self) -> dict[int, str]:
        """The inbox: a message id as a number, and its status."""
        return {row.message_id.int: row.status for row in await self.rows(schema.inbox)}

    async def until_status(self, number: int, status: str) -> None:
        """Wait until the inbox says this of a message."""
        async with asyncio.timeout(PATIENCE):
            while (await self.statuses()).get(number) != status:
                for task in self._running:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.002)

    async def commit_rows(self, rows: Sequence[OutboxRow], *, available_in: float = 0.0) -> list[int]:
        """Write outbox rows that nobody in this process has in hand; returns their numbers."""
        from messaging import bulk
        from messaging.outbox_rows import COLUMNS

        records = [
            {name: getattr(row, name) for name in COLUMNS[:-1]}
            | {"available_at": self.clock.now() + timedelta(seconds=available_in)}
            for row in rows
        ]
        async with self.database.transaction() as connection:
            return sorted(await bulk.insert(connection, schema.outbox, COLUMNS, records, returning="id"))


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that happens in the background; fails when it does not."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the conditions are looked at, nobody announces them
            await asyncio.sleep(0.002)
    assert condition(), what


def row(number: int, key: str | None = None) -> OutboxRow:
    """An outbox row whose message id is its number."""
    return OutboxRow(
        key=key,
        message_id=UUID(int=number),
        exchange="amends.events",
        routing_key="parcel.packed",
        type="parcel.packed",
        source="depot",
        correlation_id=None,
        body=f'{{"n":{number}}}',
        created_at=NOON,
    )


def numbers(messages: Sequence[Outgoing]) -> list[int]:
    """The message ids of what was published, as numbers."""
    return [UUID(each.message_id).int for each in messages]


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """What is sent to the database inside the block, transaction control left out."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.upper().startswith(("BEGIN", "COMMIT", "ROLLBACK")):
            sent.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)


def verbs(statements: Sequence[str]) -> list[str]:
    """Each statement by what it does and to which table; parts that go together, joined by a plus."""
    return [" + ".join(map(_verb, _PART.split(each)[1:] or [each])) for each in statements]


_PART = re.compile(r"(?:^WITH|\),) w\d+ AS \(")


def _verb(statement: str) -> str:
    words = statement.split()
    table = {"SELECT": "FROM", "INSERT": "INTO", "DELETE": "FROM"}.get(words[0].upper())
    return f"{words[0]} {words[words.index(table) + 1 if table in words else 1]}"


async def append_rows(bench: Bench, *rows: OutboxRow) -> list[Pending]:
    """Commit rows the way a worker does."""
    async with bench.database.transaction() as connection:
        return await append(
            connection,
            rows,
            grace=timedelta(seconds=10),
            on_their_way=set(bench.relay.on_their_way),
            done=bench.relay.confirmed,
        )
