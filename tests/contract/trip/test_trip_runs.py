"""The example runs: orchestrator and travel service on SQLite and an exchange in memory, from a wish to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from contracts import Money
from docs.examples.trip import desk
from docs.examples.trip.participant import travel
from docs.examples.trip.store import FLIGHT, HOTEL, Journey, Offer, Table, Traveler
from messaging.memory import MemoryBus
from messaging.memory_broker import MemoryBroker
from messaging.service import Service, participant_service
from messaging.settings import MEMORY, ServiceSettings
from orchestrator import catalog
from orchestrator.assembly import orchestrator
from orchestrator.settings import OrchestratorSettings

LONGEST = 30
"""Seconds until what must happen must have happened, on a busy machine."""


class Travel:
    """The travel service as its desk knows it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def prepare(self) -> None:
        """Make the tables: two seats, one room, ann with 1000.00 USD."""
        async with self._service.database.transaction() as connection:
            await connection.run_sync(Table.metadata.create_all)
        async with self._service.database.session() as db:
            db.add(Offer(kind=FLIGHT, name="TP 571", free=2))
            db.add(Offer(kind=HOTEL, name="River", free=1))
            db.add(Traveler(name="ann", balance=100_000, currency="USD"))

    async def do(self, act: Callable[[Any], Awaitable[None]]) -> None:
        """Something at the desk, in one transaction."""
        async with self._service.database.session(**self._service.info) as db:
            await act(db)

    async def request(self, price: int = 40_000, traveler: str = "ann") -> UUID:
        """Request a trip; returns its id."""
        trip, money = uuid4(), Money(amount=price, currency="USD")
        await self.do(lambda db: desk.request(db, trip, traveler, flight="TP 571", hotel="River", price=money))
        return trip

    async def status(self, trip: UUID) -> str:
        """What the desk knows of a trip."""
        async with self._service.database.session() as db:
            journey = await db.get(Journey, trip)
            assert journey is not None
            return journey.status

    async def ends(self, trip: UUID, status: str) -> None:
        """Wait until the desk knows that the trip has ended so."""
        async with asyncio.timeout(LONGEST):
            while await self.status(trip) != status:  # noqa: ASYNC110 - what another service commits
                await asyncio.sleep(0.02)

    async def left(self) -> tuple[int, int, int]:
        """Free seats, free rooms, and what ann has left."""
        async with self._service.database.session() as db:
            flight, hotel = await db.get(Offer, (FLIGHT, "TP 571")), await db.get(Offer, (HOTEL, "River"))
            ann = await db.get(Traveler, "ann")
            assert flight is not None
            assert hotel is not None
            assert ann is not None
            return flight.free, hotel.free, ann.balance


@pytest.fixture
async def agency(tmp_path: Path) -> AsyncIterator[Travel]:
    """Both services at work."""
    broker = MemoryBroker()

    def given(name: str) -> dict[str, Any]:
        return {
            "amqp_url": SecretStr(MEMORY),
            "database_url": SecretStr(f"sqlite:///{tmp_path / name}.db"),
            "migrate_on_start": True,
            "outbox_grace": timedelta(seconds=1),
        }

    trips = catalog.load(["docs.examples.trip.saga"])
    services = [
        orchestrator(OrchestratorSettings(**given("orchestrator")), trips, MemoryBus(broker, service="orchestrator")),
        participant_service(travel, ServiceSettings(**given("travel")), MemoryBus(broker, service="travel")),
    ]
    for service in services:
        broker.declare(service.topology)
        await service.start()
    agency = Travel(services[1])
    await agency.prepare()
    yield agency
    for service in services:
        await service.drain()


async def test_a_trip_is_booked_and_paid(agency: Travel) -> None:
    """One seat, one room and the price are gone, and the tickets name both."""
    trip = await agency.request()
    await agency.ends(trip, "booked")
    assert (1, 0, 60_000) == await agency.left()


async def test_a_trip_without_a_room_gives_the_seat_back(agency: Travel) -> None:
    """The second traveler finds no room: their seat is free again, and nothing was paid."""
    await agency.ends(await agency.request(), "booked")
    await agency.ends(await agency.request(), "failed: hotel_full")
    assert (1, 0, 60_000) == await agency.left()


async def test_a_trip_that_cannot_be_paid_gives_both_back(agency: Travel) -> None:
    """The charge may be declined: then seat and room are free again."""
    await agency.ends(await agency.request(traveler="carl"), "failed: unknown_traveler")
    assert (2, 1, 100_000) == await agency.left()


async def test_an_expensive_trip_goes_on_when_it_is_approved(agency: Travel) -> None:
    """Requested and approved in two transactions, in whatever order the saga hears of them."""
    trip = await agency.request(price=90_000)
    await agency.do(lambda db: desk.approve(db, trip, by="bea"))
    await agency.ends(trip, "booked")
    assert (1, 0, 10_000) == await agency.left()


async def test_an_expensive_trip_may_be_withdrawn(agency: Travel) -> None:
    """While it waits for approval there is a way back."""
    trip = await agency.request(price=90_000)
    await agency.do(lambda db: desk.withdraw(db, trip))
    await agency.ends(trip, "failed: withdrawn")
    assert (2, 1, 100_000) == await agency.left()


async def test_the_desk_refuses_what_is_not_possible(agency: Travel) -> None:
    """And nothing of it leaves: the transaction is undone."""
    trip = await agency.request(price=90_000)
    with pytest.raises(desk.NotPossible, match="ann cannot approve their own trip"):
        await agency.do(lambda db: desk.approve(db, trip, by="ann"))
    with pytest.raises(desk.NotPossible, match=r"there is no trip 0{8}-0000-0000-0000-0{12}; request it first"):
        await agency.do(lambda db: desk.withdraw(db, UUID(int=0)))
    assert "requested" == await agency.status(trip)
