"""How services that share a process come to rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from messaging import schema, service
from messaging.bus import Bus, Delivery, Outgoing, Receipt
from messaging.clock import SystemClock
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from messaging.memory import MemoryBroker, MemoryBus
from messaging.outbox import emit
from messaging.participant import Participant
from messaging.process import Running, bus_of
from messaging.service import Service, participant_service
from messaging.serving import ParticipantConsumer
from messaging.settings import MEMORY, ServiceSettings
from messaging.topology import COMMANDS, EVENTS, Binding, Queue, Topology
from messaging.worker import Worker
from tests.contract.messaging.bench import Bench, ScriptedBus
from tests.contract.messaging.parcels import Ordered, Pack, Packed, Refused, packer

PATIENCE = 30.0


async def test_nobody_waits_for_confirmations_that_cannot_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process a message that no consumer has committed stays in the outbox, and the end does not wait for it."""
    # Longer than anything else that may keep a crowded machine busy.
    monkeypatch.setattr(service, "FLUSH_SECONDS", 4 * PATIENCE)
    broker = MemoryBroker()
    settings = ServiceSettings(
        amqp_url=SecretStr(MEMORY), database_url=SecretStr(f"sqlite:///{tmp_path / 'shop.db'}"), port=0
    )
    shop = Service(settings, MemoryBus(broker, service="shop"), name="shop")
    async with Running([shop]) as running:
        await running.start()
        broker.declare(Topology().with_queue(Queue("depot.events", (Binding(EVENTS, "parcel.*"),))))
        async with shop.database.session(**shop.info) as session:
            emit(session, Ordered(parcel="p1"))
        async with asyncio.timeout(PATIENCE):
            while not broker.depth("depot.events"):  # noqa: ASYNC110 - the relay has a task of its own
                await asyncio.sleep(0.01)
        async with shop.database.session(**shop.info) as session:
            emit(session, Ordered(parcel="p2"))
        began = time.monotonic()
    assert time.monotonic() - began < 2 * PATIENCE
    again = Service(settings, MemoryBus(broker, service="shop"), name="shop")
    async with again.database.reading() as connection:
        assert list((await connection.execute(select(schema.outbox.c.type))).scalars()) == ["parcel.ordered"] * 2
    await again.close()


class Busy(Service):
    """Somebody's request is answered just when what was committed has left: HTTP goes on until then."""

    answered = 0

    async def flush(self) -> None:
        await super().flush()
        if not self.answered:
            self.answered += 1
            async with self.database.session(**self.info) as session:
                emit(session, Ordered(parcel="late"))


async def test_what_is_committed_while_a_service_drains_leaves_with_it(amqp_url: str, tmp_path: Path) -> None:
    """It does not wait in the outbox until a sweeper takes it for forgotten, as nobody may notice a restart."""
    settings = ServiceSettings(
        amqp_url=SecretStr(amqp_url), database_url=SecretStr(f"sqlite:///{tmp_path / 'shop.db'}"), port=0
    )
    shop = Busy(settings, bus_of(settings, "shop"), name="shop")
    async with Running([shop]) as running:
        await running.start()
        await shop.bus.declare(Topology().with_queue(Queue("depot.events", (Binding(EVENTS, "parcel.*"),))))
    assert shop.answered == 1
    again = Service(settings, bus_of(settings, "shop"), name="shop")
    async with again.database.reading() as connection:
        assert list((await connection.execute(select(schema.outbox.c.type))).scalars()) == []
    await again.close()


class Joining(ScriptedBus):
    """A broker that lets us read the second queue just when we leave the first, and has a message there at once."""

    def __init__(self, message: Delivery) -> None:
        super().__init__()
        self.message = message
        self.asked, self.joined, self.left = asyncio.Event(), asyncio.Event(), 0
        self._may = asyncio.Event()

    async def subscribe(self, queue: str, *, prefetch: int, deliver: Callable[[Delivery], None]) -> ScriptedBus:
        await super().subscribe(queue, prefetch=prefetch, deliver=deliver)
        if queue == self.message.queue:
            self.asked.set()
            await self._may.wait()
            deliver(self.message)
            self.joined.set()
        return self

    async def cancel(self) -> None:
        self.left += 1
        self._may.set()
        await self.joined.wait()


async def test_who_is_ended_while_it_still_begins_to_read_leaves_what_it_reads(sqlite_bench: Bench) -> None:
    """A signal may come at any moment: each queue is left, and what came from it goes back."""
    bench, bus = sqlite_bench, Joining(replace(sqlite_bench.delivery(Pack(parcel="p1")), queue="depot.more"))
    worker = Worker(
        ParticipantConsumer(packer(), clock=bench.clock, entropy=bench.entropy),
        service="depot",
        queues=["depot.in", bus.message.queue],
        database=bench.database,
        bus=bus,
        relay=bench.relay,
        clock=bench.clock,
        entropy=bench.entropy,
    )
    async with asyncio.timeout(PATIENCE):
        running = asyncio.create_task(worker.run())
        await bus.asked.wait()
        await worker.stop()
        await running
    assert (bus.left, bus.requeued, bus.settled) == (2, [bus.message.tag], [])


async def _command(bus: Bus, parcel: str, number: int) -> None:
    """Have a parcel packed."""
    command, now = Pack(parcel=parcel), SystemClock().now()
    envelope = Envelope(UUID(int=number), command.wire_type, 1, "orchestrator", now, correlation_id=parcel)
    body = encode(envelope, command).encode()
    sent = Outgoing(
        COMMANDS,
        command.wire_type,
        str(envelope.id),
        body,
        command.wire_type,
        now,
        "orchestrator",
        parcel,
        CONTENT_TYPE,
    )
    assert await bus.publish([sent]) == [Receipt.CONFIRMED]


class Packer:
    """A process of the depot: who has packed what, each parcel when it may."""

    def __init__(self, amqp_url: str, database_url: str) -> None:
        self.packed: list[str] = []
        self.may = asyncio.Event()
        self.something = asyncio.Event()
        depot = Participant("depot")

        @depot.handles(Pack)
        async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
            self.packed.append(command.parcel)
            self.something.set()
            await self.may.wait()
            return Packed(parcel=command.parcel)

        settings = ServiceSettings(
            amqp_url=SecretStr(amqp_url),
            database_url=SecretStr(database_url),
            migrate_on_start=True,
            batch_size=1,
            lanes=1,
        )
        self.service = participant_service(depot, settings, bus_of(settings, "depot"))


async def test_what_a_process_has_not_begun_is_done_by_another_before_the_first_has_ended(
    amqp_url: str, postgres_url: str
) -> None:
    """While it finishes its batch, what it had taken in advance is in other hands: nothing waits for it to be gone."""
    one, other = Packer(amqp_url, postgres_url), Packer(amqp_url, postgres_url)
    other.may.set()
    async with asyncio.timeout(PATIENCE):
        await one.service.start()
        for number in (1, 2):
            await _command(one.service.bus, f"p{number}", number)
        await one.something.wait()
        # Both are its own: the second was sent to it in advance.
        while (state := await one.service.bus.inspect("depot.commands")) is None or state.ready:  # noqa: ASYNC110 - the broker is asked
            await asyncio.sleep(0.02)
        await other.service.start()
        ending = asyncio.create_task(one.service.finish())
        await other.something.wait()
        assert not ending.done()
        one.may.set()
        await ending
    await one.service.close()
    await other.service.drain()
    assert (one.packed, other.packed) == (["p1"], ["p2"])


async def test_a_call_outside_that_a_process_leaves_is_made_by_another_at_once(database_url: str) -> None:
    """Its command does not wait until the call would have ended: it is due as soon as the process lets go of it."""
    called = asyncio.Event()
    depot = Participant("depot")

    @depot.handles_outside(Pack, time_limit=timedelta(hours=1))
    async def pack(command: Pack, key: UUID) -> Packed | Refused:
        called.set()
        await asyncio.Event().wait()
        return Packed(parcel=command.parcel)

    settings = ServiceSettings(
        amqp_url=SecretStr(MEMORY), database_url=SecretStr(database_url), migrate_on_start=True, port=0
    )
    service = participant_service(depot, settings, MemoryBus(MemoryBroker(), service="depot"))
    due = select(schema.deferred.c.due_at)
    async with asyncio.timeout(PATIENCE):
        await service.start()
        sending = asyncio.create_task(_command(service.bus, "p1", 1))
        await called.wait()
        await sending
        async with service.database.reading() as connection:
            (waits,) = (await connection.execute(due)).scalars()
        assert waits > SystemClock().now() + timedelta(minutes=50)
        await service.finish()
        async with service.database.reading() as connection:
            (waits,) = (await connection.execute(due)).scalars()
        assert waits <= SystemClock().now()
    await service.close()
