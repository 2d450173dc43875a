"""The example of a second shape: two bookings at once, an approval, a cooling-off time, a charge, tickets.

Written with the testing kit, as a team would test a saga of its own.
"""

from __future__ import annotations

from uuid import UUID

from contracts import Money
from docs.examples.trip.contracts import (
    BookFlight,
    BookHotel,
    CancelFlight,
    CancelHotel,
    ChargeDeclined,
    ChargeTraveler,
    FlightBooked,
    FlightCanceled,
    FlightUnavailable,
    HotelBooked,
    HotelCanceled,
    HotelUnavailable,
    SendTickets,
    TicketsSent,
    TravelerCharged,
    TripApproved,
    TripBooked,
    TripFailed,
    TripRequested,
    TripWithdrawn,
)
from docs.examples.trip.participant import travel
from docs.examples.trip.saga import BOOK_TRIP, Trip
from orchestrator import catalog, days, minutes
from orchestrator.testing import Scenario, given

TRIP = UUID("00000000-0000-7000-8000-000000000001")
SEAT, ROOM = FlightBooked(trip_id=TRIP, reference="F-1"), HotelBooked(trip_id=TRIP, reference="H-1")
NO_SEAT, NO_ROOM = FlightUnavailable(trip_id=TRIP, reason="sold_out"), HotelUnavailable(trip_id=TRIP, reason="full")
SEAT_BACK, ROOM_BACK = FlightCanceled(trip_id=TRIP), HotelCanceled(trip_id=TRIP)
GO_AHEAD = TripApproved(trip_id=TRIP, by="bea")


def usd(amount: int) -> Money:
    """Cents."""
    return Money(amount=amount, currency="USD")


def requested(price: int = 40_000) -> Scenario[Trip]:
    """A trip that was just requested; half an hour to think it over."""
    return given(
        BOOK_TRIP,
        TripRequested(
            trip_id=TRIP, traveler="ann", flight="TP 571", hotel="River", price=usd(price), cooling_off_minutes=30
        ),
    )


def booked(price: int = 40_000) -> Scenario[Trip]:
    """A trip whose flight and hotel are booked."""
    return requested(price).expect(BookFlight).expect(BookHotel).answers(ROOM).answers(SEAT)


def failed(reason: str) -> TripFailed:
    """What is said of a trip that came to nothing."""
    return TripFailed(trip_id=TRIP, reason=reason)


def test_a_trip_is_booked_cooled_off_charged_and_ticketed() -> None:
    """An inexpensive trip needs nobody's approval; its tickets name both bookings, and nothing else is sent."""
    trip = requested().expect(BookHotel(trip_id=TRIP, hotel="River")).expect(BookFlight(trip_id=TRIP, flight="TP 571"))
    trip.answers(SEAT).expect_nothing().answers(ROOM).expect_nothing().expect_waiting("cooling_off")
    assert {"flight": "succeeded", "hotel": "succeeded", "approval": "skipped", "cooling_off": "running"} == trip.steps
    trip.advance(minutes(29)).expect_nothing().advance(minutes(1))
    trip.expect(ChargeTraveler(trip_id=TRIP, traveler="ann", amount=usd(40_000)))
    trip.answers(TravelerCharged(trip_id=TRIP, amount=usd(39_000)))
    trip.expect(SendTickets(trip_id=TRIP, flight_reference="F-1", hotel_reference="H-1"))
    trip.answers(TicketsSent(trip_id=TRIP)).expect_completed(TripBooked(trip_id=TRIP, paid=usd(39_000)))
    trip.expect_no_others()


def test_an_expensive_trip_waits_for_approval() -> None:
    """From 500.00 on somebody has to agree before the cooling-off begins."""
    trip = booked(50_000).expect_nothing().expect_waiting("approval").receives(GO_AHEAD).expect_waiting("cooling_off")
    assert "bea" == trip.data.approved_by
    assert "skipped" == booked(49_999).steps["approval"]


def test_an_approval_may_come_before_the_bookings_are_answered() -> None:
    """It is parked, and heeded when its turn has come."""
    trip = requested(50_000).receives(GO_AHEAD).expect_parked("approval is not reached yet")
    trip.answers(SEAT).answers(ROOM).expect_waiting("cooling_off")
    assert "bea" == trip.data.approved_by


def test_a_trip_that_nobody_approves_is_undone() -> None:
    """After two days both bookings are given back together."""
    trip = booked(50_000).advance(days(2) - minutes(1)).expect_nothing().advance(minutes(1))
    trip.expect(CancelFlight).expect(CancelHotel).answers(SEAT_BACK).answers(ROOM_BACK)
    trip.expect_compensated(failed("not_approved"))


def test_without_a_room_the_seat_is_given_back() -> None:
    """A refusal of one waits for the other, and undoes only what was booked."""
    trip = requested().refuses(NO_ROOM).expect_nothing().answers(SEAT)
    trip.expect(CancelFlight).expect_nothing().answers(SEAT_BACK).expect_compensated(failed("hotel_full"))


def test_with_neither_seat_nor_room_there_is_nothing_to_undo() -> None:
    """Both refusals end it at once."""
    trip = requested().refuses(NO_SEAT).refuses(NO_ROOM).expect(failed("hotel_full")).expect_nothing()
    trip.expect_compensated()


def test_an_airline_that_never_answers_is_canceled_all_the_same() -> None:
    """After three attempts the seat is in doubt, so it is given back with the room."""
    trip = requested().expect(BookFlight).expect(BookHotel).answers(ROOM).silent()
    trip.expect(BookFlight).expect(BookFlight).expect(CancelHotel).expect(CancelFlight).expect_nothing()
    trip.answers(SEAT_BACK).answers(ROOM_BACK).expect_compensated(failed("booking_timeout"))


def test_a_seat_that_is_booked_too_late_changes_nothing() -> None:
    """Its cancellation is under way already."""
    requested().answers(ROOM).silent().answers_late(SEAT).expect_late("no longer waited for").expect_nothing()


def test_a_traveler_may_withdraw_while_it_cools_off() -> None:
    """Both bookings are given back."""
    trip = booked().receives(TripWithdrawn(trip_id=TRIP)).expect(CancelFlight).expect(CancelHotel)
    trip.answers(ROOM_BACK).answers(SEAT_BACK).expect_compensated(failed("withdrawn"))


def test_a_traveler_cannot_withdraw_once_the_charge_is_sent() -> None:
    """The charge is the point of no return."""
    trip = booked().advance(minutes(30)).expect(ChargeTraveler).receives(TripWithdrawn(trip_id=TRIP))
    trip.expect_late("the pivot 'charge' has begun: there is no way back").expect_nothing()


def test_a_declined_charge_gives_everything_back() -> None:
    """The pivot may be refused; then there is a way back after all."""
    trip = booked().advance(minutes(30)).refuses(ChargeDeclined(trip_id=TRIP, reason="insufficient_funds"))
    trip.answers(SEAT_BACK).answers(ROOM_BACK).expect_compensated(failed("insufficient_funds"))


def test_tickets_are_sent_until_they_have_arrived() -> None:
    """Neither charge nor tickets are ever given up."""
    trip = booked().advance(days(1)).expect_waiting("charge").answers(TravelerCharged(trip_id=TRIP, amount=usd(40_000)))
    trip.advance(days(30)).expect_waiting("tickets").answers(TicketsSent(trip_id=TRIP)).expect_completed()


def test_a_booking_that_nobody_can_cancel_is_resolved_by_a_person() -> None:
    """The trip is stuck until somebody has seen to it, and ends as if it had been canceled."""
    trip = requested().refuses(NO_ROOM).answers(SEAT).silent()
    trip.expect_stuck("the compensation of flight was sent 10 times and never answered")
    trip.person("resolve", "flight", who="bea", why="canceled by phone").expect_compensated(failed("hotel_full"))


def test_the_catalog_loads_it_by_its_module_name() -> None:
    """What AMENDS_SAGAS names is found, and somebody answers every command of it."""
    found = catalog.load(["docs.examples.trip.saga"])
    assert BOOK_TRIP is found.get("book_trip", 1)
    commands = {command.wire_type for command in (*BOOK_TRIP.commands.values(), *BOOK_TRIP.compensations.values())}
    assert commands == set(travel.commands())
    assert ("trip.booked", "trip.failed") == travel.events()
