"""Several orchestrators in one test process, on a real broker and real databases, and the participant that answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from contracts.message import Event
from messaging import schema
from messaging.bus import Bus, Outgoing, Receipt
from messaging.clock import SystemClock, SystemEntropy
from messaging.database import Database
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from messaging.participant import Participant
from messaging.service import Service, participant_service
from messaging.settings import ServiceSettings
from messaging.topology import EVENTS
from orchestrator import history
from orchestrator.assembly import orchestrator
from orchestrator.catalog import Catalog
from orchestrator.replay import reading
from orchestrator.saga.machine import fold
from orchestrator.schema import collected_letter, parked_event, saga
from orchestrator.settings import OrchestratorSettings
from tests.chaos.waiting import eventually
from tests.unit.work import (
    Amended,
    Approved,
    Do,
    Done,
    Finished,
    Must,
    Refused,
    Undo,
    Undone,
    approval,
    cancel_on_withdrawal,
    pivot,
    retriable,
    step,
    work_saga,
)

SAGA = work_saga(
    step("dig"), approval(), step("fill"), pivot("sign"), retriable("tidy"), cancel_on=cancel_on_withdrawal()
)
UNWILLING = "bob"
"""Whoever this one has approved is refused at the next step, and compensated."""
BATCH = 20


class Mill:
    """Orchestrators and one participant; `bus` makes a connection for a service of that name."""

    def __init__(self, bus: Callable[[str], Bus], participant_url: str) -> None:
        self._make_bus = bus
        self._participant_url = participant_url
        self.services: list[Service] = []
        self.catalog = Catalog([SAGA])
        self._outside = bus("outside")
        self._opened: dict[str, Database] = {}

    async def open(self) -> None:
        """Start the participant and whoever publishes from outside."""
        settings = ServiceSettings(database_url=SecretStr(self._participant_url), migrate_on_start=True)
        await self.start(participant_service(_worker(), settings, self._make_bus("worker")))
        await self._outside.start()

    def orchestrator(self, database_url: str, **given: Any) -> Service:
        """One process of the orchestrator, not started."""
        where: dict[str, Any] = {} if "shards" in given else {"database_url": SecretStr(database_url)}
        settings = OrchestratorSettings(migrate_on_start=True, batch_size=BATCH, **where, **given)
        return orchestrator(settings, self.catalog, self._make_bus("orchestrator"))

    async def start(self, *services: Service) -> None:
        for each in services:
            await each.start()
            self.services.append(each)

    async def stop(self, *services: Service) -> None:
        """End them as SIGTERM does."""
        for each in services:
            await each.drain()
            self.services.remove(each)

    async def close(self) -> None:
        await self._outside.close()
        for each in (*self.services,):
            await self.stop(each)
        for database in self._opened.values():
            await database.close()

    async def publish(self, *events: Event, ids: Sequence[UUID] = ()) -> list[UUID]:
        """Publish events as a service does that knows nothing of sagas; returns their message ids."""
        now, entropy = SystemClock().now(), SystemEntropy()
        ids = ids or [entropy.message_id(now) for _ in events]
        messages = []
        for identity, event in zip(ids, events, strict=True):
            envelope = Envelope(identity, event.wire_type, 1, "outside", now, key=event.ordering_key)
            messages.append(
                Outgoing(
                    exchange=EVENTS,
                    routing_key=event.wire_type,
                    message_id=str(identity),
                    body=encode(envelope, event).encode(),
                    type=event.wire_type,
                    timestamp=now,
                    app_id="outside",
                    correlation_id=event.ordering_key,
                    content_type=CONTENT_TYPE,
                )
            )
        assert set(await self._outside.publish(messages)) == {Receipt.CONFIRMED}
        return list(ids)

    async def publish_raw(self, body: bytes, number: int) -> None:
        """Publish bytes that are no message of ours."""
        now, entropy = SystemClock().now(), SystemEntropy()
        messages = [
            Outgoing(EVENTS, "work.begun", str(entropy.message_id(now)), body, "work.begun", now, "outside", str(each))
            for each in range(number)
        ]
        assert set(await self._outside.publish(messages)) == {Receipt.CONFIRMED}

    async def come(self, database_urls: Iterable[str], expected: dict[str, int]) -> None:
        """Wait until there are so many instances of each status in these databases together."""

        async def there() -> bool:
            return await self.statuses(database_urls) == expected

        assert await eventually(there), (await self.statuses(database_urls), expected)

    async def statuses(self, database_urls: Iterable[str]) -> dict[str, int]:
        """How many instances there are by status."""
        found: Counter[str] = Counter()
        for url in database_urls:
            async with self._database(url).reading() as connection:
                query = select(saga.c.status, func.count()).group_by(saga.c.status)
                found.update({row[0]: row[1] for row in await connection.execute(query)})
        return dict(found)

    async def keys(self, database_url: str) -> dict[str, str]:
        """The status of every instance by its key."""
        async with self._database(database_url).reading() as connection:
            rows = await connection.execute(select(saga.c.key, saga.c.status))
            return {row.key: row.status for row in rows}

    async def transitions(self, database_url: str) -> list[int]:
        """How many each instance has had."""
        async with self._database(database_url).reading() as connection:
            return list((await connection.execute(select(saga.c.revision))).scalars())

    async def failures(self, database_url: str) -> list[int]:
        """How often each message that is collected here has died."""
        async with self._database(database_url).reading() as connection:
            return list((await connection.execute(select(collected_letter.c.failures))).scalars())

    async def letters(self, database_url: str) -> int:
        """Dead letters of everybody that are collected here."""
        return await self.count(database_url, collected_letter)

    async def settled(self, *database_urls: str) -> None:
        """Wait until nothing is left to send, and see that nothing is parked, put off or dead."""
        for url in (*database_urls, self._participant_url):

            async def sent(url: str = url) -> bool:
                return await self.count(url, schema.outbox) == 0

            assert await eventually(sent), f"{await self.count(url, schema.outbox)} rows are left in the outbox"
            assert await self.count(url, schema.deferred) == 0
            assert await self.count(url, schema.dead_letter) == 0
        for url in database_urls:
            assert await self.count(url, parked_event) == 0

    async def count(self, database_url: str, table: Any) -> int:
        """Rows of a table."""
        async with self._database(database_url).reading() as connection:
            return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())

    async def audit(self, database_url: str) -> int:
        """Check that every history is gapless and folds to exactly the stored state; returns how many there are."""
        async with self._database(database_url).reading() as connection:
            found = [each async for each in reading.stream(connection)]
        for each in found:
            assert [entry.seq for entry in each.transitions] == list(range(1, len(each.transitions) + 1))
            folded = None
            for entry in each.transitions:
                folded = fold(folded, history.load_facts(entry.facts, SAGA))
            assert folded == history.load_state(
                SAGA, status=each.status, reason=each.reason, data=each.data, progress=each.progress
            )
        return len(found)

    async def looks_with(self, database_url: str) -> int:
        """The process of the server that it looks with: its only connection."""
        async with self._database(database_url).reading() as connection:
            return int((await connection.execute(select(func.pg_backend_pid()))).scalar_one())

    def _database(self, url: str) -> Database:
        if url not in self._opened:
            self._opened[url] = Database(url, pool_size=1)
        return self._opened[url]


def approvals(numbers: Iterable[int], unwilling: Callable[[int], bool]) -> list[Approved]:
    """Somebody agrees to each of these; to some of them whoever is refused afterwards."""
    return [Approved(id=number, by=UNWILLING if unwilling(number) else "ann") for number in numbers]


def _worker() -> Participant:
    worker = Participant("worker")

    @worker.handles(Do)
    async def do(command: Do, db: AsyncSession) -> Done | Refused:
        refused = command.step == "fill" and f"approved by {UNWILLING}" in command.seen
        return Refused() if refused else Done()

    @worker.handles(Must)
    async def must(command: Must, db: AsyncSession) -> Done:
        return Done()

    @worker.handles(Undo)
    async def undo(command: Undo, db: AsyncSession) -> Undone:
        return Undone()

    @worker.on(Finished)
    async def finished(event: Finished, db: AsyncSession) -> None:
        """Somebody has to listen: an event that no queue is bound for stays in its outbox."""

    @worker.on(Amended)
    async def amended(event: Amended, db: AsyncSession) -> None:
        """As above."""

    return worker
