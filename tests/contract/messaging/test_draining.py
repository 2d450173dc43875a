"""How services that share a process come to rest."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import select

from messaging import schema
from messaging.memory import MemoryBroker, MemoryBus
from messaging.outbox import emit
from messaging.process import Running, bus_of
from messaging.service import FLUSH_SECONDS, Service
from messaging.settings import MEMORY, ServiceSettings
from messaging.topology import EVENTS, Binding, Queue, Topology
from tests.contract.messaging.parcels import Ordered


async def test_nobody_waits_for_confirmations_that_cannot_come(tmp_path: Path) -> None:
    """In one process a message that no consumer has committed stays in the outbox, and the end does not wait for it."""
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
        async with asyncio.timeout(20):
            while not broker.depth("depot.events"):  # noqa: ASYNC110 - the relay has a task of its own
                await asyncio.sleep(0.01)
        async with shop.database.session(**shop.info) as session:
            emit(session, Ordered(parcel="p2"))
        began = time.monotonic()
    assert time.monotonic() - began < FLUSH_SECONDS
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
