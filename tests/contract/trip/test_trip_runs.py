"""The example runs: orchestrator and travel service in the testing kit's harness, from a wish to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import Money
from docs.examples.trip import desk
from docs.examples.trip.participant import travel
from docs.examples.trip.saga import BOOK_TRIP
from docs.examples.trip.store import FLIGHT, HOTEL, Journey, Offer, Table, Traveler
from orchestrator import minutes
from orchestrator.testing import Harness, Harnesses


class Travel:
    """The travel service as its desk knows it."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness

    async def do(self, act: Callable[[AsyncSession], Awaitable[None]]) -> None:
        """Something at the desk, in one transaction, and all that comes of it."""
        async with self.harness.session("travel") as db:
            await act(db)
        await self.harness.settle()

    async def request(self, price: int = 40_000, traveler: str = "ann", cooling_off: int = 0) -> UUID:
        """Request a trip; returns its id."""
        trip, money = uuid4(), Money(amount=price, currency="USD")
        given = {"flight": "TP 571", "hotel": "River"}
        await self.do(
            lambda db: desk.request(db, trip, traveler, price=money, cooling_off_minutes=cooling_off, **given)
        )
        return trip

    async def status(self, trip: UUID) -> str:
        """What the desk knows of a trip."""
        async with self.harness.session("travel") as db:
            journey = await db.get(Journey, trip)
            assert journey is not None
            return journey.status

    async def left(self) -> tuple[int, int, int]:
        """Free seats, free rooms, and what ann has left."""
        async with self.harness.session("travel") as db:
            flight, hotel = await db.get(Offer, (FLIGHT, "TP 571")), await db.get(Offer, (HOTEL, "River"))
            ann = await db.get(Traveler, "ann")
            assert flight is not None
            assert hotel is not None
            assert ann is not None
            return flight.free, hotel.free, ann.balance


@pytest.fixture(params=["once", "twice"])
async def agency(saga_harness: Harnesses, request: pytest.FixtureRequest) -> AsyncIterator[Travel]:
    """Two seats, one room, ann with 1000.00 USD; each message is delivered once, or again."""
    async with saga_harness(sagas=[BOOK_TRIP], participants=[travel], tables={"travel": Table.metadata}) as harness:
        if request.param == "twice":
            harness.duplicate_everything()
        async with harness.session("travel") as db:
            db.add(Offer(kind=FLIGHT, name="TP 571", free=2))
            db.add(Offer(kind=HOTEL, name="River", free=1))
            db.add(Traveler(name="ann", balance=100_000, currency="USD"))
        yield Travel(harness)
        assert () == await harness.dead_letters()


async def test_a_trip_is_booked_and_paid(agency: Travel) -> None:
    """One seat, one room and the price are gone, and the tickets name both."""
    trip = await agency.request()
    assert "booked" == await agency.status(trip)
    assert (1, 0, 60_000) == await agency.left()
    async with agency.harness.session("travel") as db:
        journey = await db.get(Journey, trip)
        assert journey is not None
        assert (f"F-{trip.hex[-8:]} H-{trip.hex[-8:]}", 40_000) == (journey.tickets, journey.paid)


async def test_nothing_is_paid_before_the_cooling_off_is_over(agency: Travel) -> None:
    """Seat and room are held meanwhile."""
    trip = await agency.request(cooling_off=30)
    await agency.harness.advance(minutes(29))
    assert ("requested", (1, 0, 100_000)) == (await agency.status(trip), await agency.left())
    await agency.harness.advance(minutes(1))
    assert ("booked", (1, 0, 60_000)) == (await agency.status(trip), await agency.left())


async def test_a_trip_without_a_room_gives_the_seat_back(agency: Travel) -> None:
    """The second traveler finds no room: their seat is free again, and nothing was paid."""
    assert "booked" == await agency.status(await agency.request())
    assert "failed: hotel_full" == await agency.status(await agency.request())
    assert (1, 0, 60_000) == await agency.left()


async def test_a_trip_that_cannot_be_paid_gives_both_back(agency: Travel) -> None:
    """The charge may be declined: then seat and room are free again."""
    assert "failed: unknown_traveler" == await agency.status(await agency.request(traveler="carl"))
    assert (2, 1, 100_000) == await agency.left()


async def test_an_expensive_trip_goes_on_when_it_is_approved(agency: Travel) -> None:
    """Requested and approved in two transactions, in whatever order the saga hears of them."""
    trip = await agency.request(price=90_000)
    await agency.do(lambda db: desk.approve(db, trip, by="bea"))
    assert "booked" == await agency.status(trip)
    assert (1, 0, 10_000) == await agency.left()


async def test_an_expensive_trip_may_be_withdrawn(agency: Travel) -> None:
    """While it waits for approval there is a way back."""
    trip = await agency.request(price=90_000)
    await agency.do(lambda db: desk.withdraw(db, trip))
    assert "failed: withdrawn" == await agency.status(trip)
    assert (2, 1, 100_000) == await agency.left()


async def test_the_desk_refuses_what_is_not_possible(agency: Travel) -> None:
    """And nothing of it leaves: the transaction is undone."""
    trip = await agency.request(price=90_000)
    said = len(agency.harness.published)
    with pytest.raises(desk.NotPossible, match="ann cannot approve their own trip"):
        await agency.do(lambda db: desk.approve(db, trip, by="ann"))
    with pytest.raises(desk.NotPossible, match=r"there is no trip 0{8}-0000-0000-0000-0{12}; request it first"):
        await agency.do(lambda db: desk.withdraw(db, UUID(int=0)))
    assert ("requested", said) == (await agency.status(trip), len(agency.harness.published))
