"""The harness: real services in memory, on a clock of the test's own, with the faults a test asks for."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from contracts import Event, Money
from docs.examples.trip import desk
from docs.examples.trip.contracts import (
    BookFlight,
    BookHotel,
    CancelFlight,
    FlightBooked,
    SendTickets,
    TicketsSent,
    TripBooked,
    TripFailed,
    TripRequested,
)
from docs.examples.trip.participant import travel
from docs.examples.trip.saga import BOOK_TRIP
from docs.examples.trip.store import FLIGHT, HOTEL, Journey, Offer, Table, Traveler
from messaging.outbox import emit
from messaging.participant import Participant, RetryLater
from orchestrator import days, minutes, seconds
from orchestrator.testing import Harness, NotSettled
from tests.unit.work import Begun, Do, Done, Refused, Undo, Undone, pivot, retriable, step, work_saga

TRIP = UUID("00000000-0000-7000-8000-000000000001")


@pytest.fixture
async def agency() -> AsyncIterator[Harness]:
    """The trip's services, two seats, one room, ann with 1000.00 USD."""
    async with Harness(sagas=[BOOK_TRIP], participants=[travel], tables={"travel": Table.metadata}) as harness:
        async with harness.session("travel") as db:
            db.add(Offer(kind=FLIGHT, name="TP 571", free=2))
            db.add(Offer(kind=HOTEL, name="River", free=1))
            db.add(Traveler(name="ann", balance=100_000, currency="USD"))
        yield harness


async def request(harness: Harness, price: int = 40_000, cooling_off_minutes: int = 30) -> None:
    """Request the trip at the desk, which emits."""
    money = Money(amount=price, currency="USD")
    async with harness.session("travel") as db:
        await desk.request(
            db, TRIP, "ann", flight="TP 571", hotel="River", price=money, cooling_off_minutes=cooling_off_minutes
        )
    await harness.settle()


async def left(harness: Harness) -> tuple[int, int, int]:
    """Free seats, free rooms, and what ann has left."""
    async with harness.session("travel") as db:
        offers = [await db.get(Offer, key) for key in ((FLIGHT, "TP 571"), (HOTEL, "River"))]
        ann = await db.get(Traveler, "ann")
        assert ann is not None
        seats, rooms = [offer.free for offer in offers if offer is not None]
        return seats, rooms, ann.balance


# -- the whole way -------------------------------------------------------------------------------------------


async def test_a_saga_runs_through_its_real_participants(agency: Harness) -> None:
    """From domain code that emits to the tables of the participant, which hears of the end."""
    await request(agency)
    trip = await agency.saga(TRIP, BOOK_TRIP)
    assert ("running", "cooling_off", "F-00000001") == (trip.status, trip.recorded.step, trip.data.flight_reference)
    assert trip.deadline == agency.clock.now() + minutes(30)
    await agency.advance(minutes(30))
    trip = await agency.saga(TRIP, BOOK_TRIP)
    assert ("completed", 6) == (trip.status, len(trip.recorded.transitions))
    assert (1, 0, 60_000) == await left(agency)
    assert (TripBooked(trip_id=TRIP, paid=Money(amount=40_000, currency="USD")),) == agency.published_of(TripBooked)
    async with agency.session("travel") as db:
        journey = await db.get(Journey, TRIP)
        assert journey is not None
        assert "booked" == journey.status


async def test_each_deadline_comes_at_its_own_moment(agency: Harness) -> None:
    """However far the clock is moved at once."""
    agency.silence("travel")
    await agency.publish(_wish())
    await agency.advance(days(1))
    rows = (await agency.saga(TRIP)).recorded.transitions
    assert [0, 25, 55, 75, 97, 121] == [(each.at - rows[0].at).total_seconds() for each in rows[:6]]
    assert "stuck" == (await agency.saga(TRIP)).status


async def test_a_silent_service_gets_what_was_sent_to_it_when_it_listens_again(agency: Harness) -> None:
    """Its answers are late, the seat it has taken is given back."""
    await agency.settle()
    agency.silence("travel")
    await agency.publish(_wish())
    await agency.advance(minutes(2))
    assert ("compensating", ()) == ((await agency.saga(TRIP)).status, agency.published_of(FlightBooked))
    agency.restore("travel")
    await agency.settle()
    assert "compensated" == (await agency.saga(TRIP)).status
    assert (2, 1, 100_000) == await left(agency)
    assert (TripFailed(trip_id=TRIP, reason="booking_timeout"),) == agency.published_of(TripFailed)


async def test_duplicates_change_nothing(agency: Harness) -> None:
    """Each message comes twice, each takes effect once."""
    agency.duplicate_everything()
    await request(agency)
    await agency.advance(minutes(30))
    assert ("completed", 6) == (
        (await agency.saga(TRIP)).status,
        len((await agency.saga(TRIP)).recorded.transitions),
    )
    assert (1, 0, 60_000) == await left(agency)
    assert len(agency.published_of(TicketsSent)) == 2  # the second is the stored answer


async def test_a_handler_that_fails_once_is_asked_again(agency: Harness) -> None:
    """A mistake buries the command; the step's next attempt is handled."""
    agency.fail_next(SendTickets, ValueError("no paper"))
    await request(agency)
    await agency.advance(minutes(30))
    assert "running" == (await agency.saga(TRIP)).status
    (letter,) = await agency.dead_letters()
    assert ("travel", "travel.send_tickets", "handler_failed") == (letter.service, letter.type, letter.reason)
    assert "ValueError: no paper" in letter.error
    await agency.advance(seconds(32))
    assert "completed" == (await agency.saga(TRIP)).status


async def test_a_handler_that_cannot_now_is_tried_later(agency: Harness) -> None:
    """As long as it says, on the clock of the test."""
    agency.fail_next(BookHotel, RetryLater("the hotel is closed", after=seconds(7)))
    await request(agency)
    assert "running" == (await agency.saga(TRIP)).steps["hotel"]
    await agency.advance(seconds(6.9))
    assert "running" == (await agency.saga(TRIP)).steps["hotel"]
    await agency.advance(seconds(0.1))
    assert "succeeded" == (await agency.saga(TRIP)).steps["hotel"]


async def test_a_database_that_is_locked_for_a_moment_is_waited_for(agency: Harness) -> None:
    """The worker tries again in memory, then later; both without the test having to say so."""
    agency.fail_next(BookHotel, OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked")))
    began = agency.clock.now()
    await agency.publish(_wish())
    await agency.settle()
    assert agency.clock.now() - began < seconds(6)
    await agency.advance(seconds(2))
    assert "succeeded" == (await agency.saga(TRIP)).steps["hotel"]


async def test_a_harness_that_cannot_start_leaves_nothing_behind() -> None:
    """What its tables raise is told, and no task goes on."""

    async def broken(connection: AsyncConnection) -> None:
        raise ZeroDivisionError("no tables")

    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError, match="no tables"):
        async with Harness(sagas=[BOOK_TRIP], participants=[travel], tables={"travel": broken}):
            pass
    assert before == asyncio.all_tasks()


async def test_the_same_seed_gives_the_same_run() -> None:
    """To the letter: ids, moments, order."""

    async def run(seed: int) -> tuple[str, list[str]]:
        async with Harness(
            sagas=[BOOK_TRIP], participants=[travel], tables={"travel": Table.metadata}, seed=seed
        ) as it:
            it.duplicate_everything()
            it.fail_next(BookFlight, OSError("no line"))
            await it.publish(_wish())
            await it.advance(minutes(1))
            return it.timeline, [each.input for each in (await it.saga(TRIP)).recorded.transitions]

    assert await run(1) == await run(1)
    assert (await run(1))[1] != (await run(2))[1]


# -- participants of every kind ------------------------------------------------------------------------------


async def test_tables_may_be_made_by_a_function_and_handlers_may_emit_and_call_outside() -> None:
    """A call outside is waited for; what a handler emits leaves with its answer."""
    crew = Participant("work")
    called: list[UUID] = []

    @crew.handles_outside(Do, time_limit=seconds(5))
    async def do(command: Do, key: UUID) -> Done | Refused:
        for _ in range(20):
            await asyncio.sleep(0)
        called.append(key)
        return Done()

    @crew.handles(Undo)
    async def undo(command: Undo, db: AsyncSession) -> Undone:
        return Undone()

    @crew.on(Begun)
    async def note(event: Begun, db: AsyncSession) -> None:
        await db.execute(text("INSERT INTO diary VALUES (:id)"), {"id": event.id})
        emit(db, _Noted(id=event.id))

    async def diary(connection: AsyncConnection) -> None:
        await connection.execute(text("CREATE TABLE diary (id INTEGER)"))

    saga = work_saga(step("dig"), pivot("ship"))
    given: dict[str, Any] = {"sagas": [saga], "participants": [crew], "tables": {"work": diary}}
    async with Harness(**given, messages=[_Noted]) as harness:
        await harness.publish(Begun(id=7))
        await harness.settle()
        assert ("completed", 2) == ((await harness.saga(7)).status, len(called))
        assert (_Noted(id=7),) == harness.published_of(_Noted)
        async with harness.session("work") as db:
            assert [7] == list((await db.execute(text("SELECT id FROM diary"))).scalars())
    async with Harness(**given) as harness:
        await harness.publish(Begun(id=8))
        await harness.settle()
        with pytest.raises(LookupError, match=r"work has published work\.noted, .* messages=\[...\]"):
            assert harness.published
        assert "work -> work.noted" in harness.timeline


class _Noted(Event, type="work.noted"):
    id: int


async def test_commands_that_nobody_here_handles_wait_as_for_a_service_that_is_down() -> None:
    """The saga runs into its timeouts, and what comes behind such a command still leaves."""
    async with Harness(sagas=[work_saga(step("dig"), pivot("ship"), retriable("bill"))]) as harness:
        await harness.publish(Begun(id=7))
        await harness.advance(minutes(2))
        assert "compensating" == (await harness.saga(7)).status
        assert [Do, Do, Do, Undo] == [type(each) for each in harness.published[1:5]]


# -- mistakes ------------------------------------------------------------------------------------------------


async def test_mistakes_of_the_test_are_told(agency: Harness) -> None:
    """Each says what there is instead."""
    with pytest.raises(LookupError, match=r"nobody here listens for travel\.canceled"):
        await agency.publish(_Stranger())
    with pytest.raises(LookupError, match="there is no service 'hotel' here; there are orchestrator, travel"):
        agency.silence("hotel")
    with pytest.raises(LookupError, match="no participant of this harness handles _Stranger"):
        agency.fail_next(_Stranger, ValueError())
    with pytest.raises(LookupError, match=f"no instance of book_trip has the key {TRIP}; there are none"):
        await agency.saga(TRIP)
    with pytest.raises(ValueError, match="time goes forward"):
        await agency.advance(-seconds(1))
    with pytest.raises(ValueError, match="tables are given for 'hotel', but the participants are travel"):
        Harness(sagas=[BOOK_TRIP], participants=[travel], tables={"hotel": Table.metadata})
    with pytest.raises(ValueError, match="two services are called 'travel'"):
        Harness(sagas=[BOOK_TRIP], participants=[travel, travel])


class _Stranger(Event, type="travel.canceled"):
    pass


async def test_what_never_settles_says_what_still_moves() -> None:
    """A call outside that hangs; after a bound, not for ever."""
    crew = Participant("work")
    never = asyncio.Event()

    @crew.handles_outside(Do, time_limit=seconds(600))
    async def do(command: Do, key: UUID) -> Done | Refused:
        await never.wait()
        return Done()

    async with Harness(sagas=[work_saga(step("dig"), pivot("ship"))], participants=[crew]) as harness:
        await harness.publish(Begun(id=7))
        with pytest.raises(NotSettled, match=r"still moving after 0.2 s:\n  work waits for a call outside"):
            await harness.settle(within=0.2)


async def test_settling_inside_a_session_says_so(agency: Harness) -> None:
    """The one connection of that database is taken."""
    async with agency.session("travel"):
        with pytest.raises(NotSettled, match=r"travel is in a transaction \(or a session of the test is open\)"):
            await agency.settle(within=0.2)


async def test_a_command_that_is_undone_in_time_never_takes_effect(agency: Harness) -> None:
    """Held back at a silent service, its cancellation comes with it."""
    agency.silence("travel")
    await agency.publish(_wish())
    await agency.advance(minutes(2))
    assert agency.published_of(CancelFlight)
    agency.restore("travel")
    await agency.settle()
    assert (2, 1, 100_000) == await left(agency)


def _wish() -> TripRequested:
    return TripRequested(
        trip_id=TRIP,
        traveler="ann",
        flight="TP 571",
        hotel="River",
        price=Money(amount=40_000, currency="USD"),
        cooling_off_minutes=30,
    )
