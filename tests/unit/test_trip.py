"""The example of a second shape: two bookings at once, an approval, a cooling-off time, a charge, tickets."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from contracts import Money
from docs.examples.trip.contracts import (
    BookFlight,
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
from docs.examples.trip.saga import BOOK_TRIP
from orchestrator import catalog
from tests.unit.play import Play, Verdict, seconds_from

TRIP = UUID("00000000-0000-7000-8000-000000000001")


def usd(amount: int) -> Money:
    """Cents."""
    return Money(amount=amount, currency="USD")


def requested(price: int = 40_000, cooling_off_minutes: int = 30) -> Play:
    """A trip that was just requested."""
    play = Play(BOOK_TRIP, TRIP)
    event = TripRequested(
        trip_id=TRIP,
        traveler="ann",
        flight="TP 571",
        hotel="River",
        price=usd(price),
        cooling_off_minutes=cooling_off_minutes,
    )
    play.event(event)
    return play


def booked(**options: Any) -> Play:
    """A trip whose flight and hotel are booked."""
    play = requested(**options)
    play.answer("hotel", HotelBooked(trip_id=TRIP, reference="H-1"))
    play.answer("flight", FlightBooked(trip_id=TRIP, reference="F-1"))
    return play


def messages(play: Play, since: int = 0) -> list[Any]:
    """What was sent."""
    return [send.message for send in play.sent[since:]]


def test_a_trip_is_booked_cooled_off_charged_and_ticketed() -> None:
    """An inexpensive trip needs nobody's approval; its tickets name both bookings."""
    play = requested()
    assert ["book_flight flight", "book_hotel hotel"] == play.told()
    assert BookFlight(trip_id=TRIP, flight="TP 571") == messages(play)[0]
    play.answer("flight", FlightBooked(trip_id=TRIP, reference="F-1"))
    play.answer("hotel", HotelBooked(trip_id=TRIP, reference="H-1"))
    assert {"flight": "succeeded", "hotel": "succeeded", "approval": "skipped", "cooling_off": "running"} == play.steps
    assert 1800 == seconds_from(play.now, play.current.deadline)
    play.deadline()
    assert ChargeTraveler(trip_id=TRIP, traveler="ann", amount=usd(40_000)) == messages(play)[-1]
    play.answer("charge", TravelerCharged(trip_id=TRIP, amount=usd(39_000)))
    assert SendTickets(trip_id=TRIP, flight_reference="F-1", hotel_reference="H-1") == messages(play)[-1]
    play.answer("tickets", TicketsSent(trip_id=TRIP))
    assert "completed" == play.status
    assert TripBooked(trip_id=TRIP, paid=usd(39_000)) == messages(play)[-1]


def test_an_expensive_trip_waits_for_approval() -> None:
    """From 500.00 on somebody has to agree before the cooling-off begins."""
    play = booked(price=50_000)
    assert {"flight": "succeeded", "hotel": "succeeded", "approval": "running"} == play.steps
    play.event(TripApproved(trip_id=TRIP, by="bea"))
    assert ("bea", "running") == (play.current.data.approved_by, play.steps["cooling_off"])


def test_an_approval_may_come_before_the_bookings_are_answered() -> None:
    """It is parked, and heeded when its turn has come."""
    play = requested(price=50_000)
    assert Verdict.PARKED is play.event(TripApproved(trip_id=TRIP, by="bea")).verdict


def test_a_trip_that_nobody_approves_is_undone() -> None:
    """After two days both bookings are given back together."""
    play = booked(price=50_000)
    assert 172_800 == seconds_from(play.now, play.current.deadline)
    play.deadline()
    assert ["cancel_flight flight", "cancel_hotel hotel"] == play.told(since=2)
    play.answer("flight", FlightCanceled(trip_id=TRIP))
    play.answer("hotel", HotelCanceled(trip_id=TRIP))
    assert TripFailed(trip_id=TRIP, reason="not_approved") == messages(play)[-1]


def test_without_a_room_the_seat_is_given_back() -> None:
    """A refusal of one waits for the other, and undoes only what was booked."""
    play = requested()
    play.answer("hotel", HotelUnavailable(trip_id=TRIP, reason="full"))
    assert 2 == len(play.sent)
    play.answer("flight", FlightBooked(trip_id=TRIP, reference="F-1"))
    assert ["cancel_flight flight"] == play.told(since=2)
    play.answer("flight", FlightCanceled(trip_id=TRIP))
    assert TripFailed(trip_id=TRIP, reason="hotel_full") == messages(play)[-1]


def test_with_neither_seat_nor_room_there_is_nothing_to_undo() -> None:
    """Both refusals end it at once."""
    play = requested()
    play.answer("flight", FlightUnavailable(trip_id=TRIP, reason="sold_out"))
    play.answer("hotel", HotelUnavailable(trip_id=TRIP, reason="full"))
    assert [TripFailed(trip_id=TRIP, reason="hotel_full")] == messages(play, since=2)


def test_an_airline_that_never_answers_is_canceled_all_the_same() -> None:
    """After three attempts the seat is in doubt, so it is given back with the room."""
    play = requested()
    play.answer("hotel", HotelBooked(trip_id=TRIP, reference="H-1"))
    play.deadlines(3)
    assert ["book_flight flight"] * 2 + ["cancel_flight flight", "cancel_hotel hotel"] == play.told(since=2)
    play.answer("flight", FlightCanceled(trip_id=TRIP))
    play.answer("hotel", HotelCanceled(trip_id=TRIP))
    assert TripFailed(trip_id=TRIP, reason="booking_timeout") == messages(play)[-1]


def test_a_traveler_may_withdraw_while_it_cools_off() -> None:
    """Both bookings are given back."""
    play = booked()
    play.event(TripWithdrawn(trip_id=TRIP))
    assert ["cancel_flight flight", "cancel_hotel hotel"] == play.told(since=2)
    play.answer("hotel", HotelCanceled(trip_id=TRIP))
    play.answer("flight", FlightCanceled(trip_id=TRIP))
    assert TripFailed(trip_id=TRIP, reason="withdrawn") == messages(play)[-1]


def test_a_traveler_cannot_withdraw_once_the_charge_is_sent() -> None:
    """The charge is the point of no return."""
    play = booked()
    play.deadline()
    transition = play.event(TripWithdrawn(trip_id=TRIP))
    assert (Verdict.LATE, "the pivot 'charge' has begun: there is no way back") == (
        transition.verdict,
        transition.note,
    )


def test_a_declined_charge_gives_everything_back() -> None:
    """The pivot may be refused; then there is a way back after all."""
    play = booked()
    play.deadline()
    play.answer("charge", ChargeDeclined(trip_id=TRIP, reason="insufficient_funds"))
    play.answer("flight", FlightCanceled(trip_id=TRIP))
    play.answer("hotel", HotelCanceled(trip_id=TRIP))
    assert TripFailed(trip_id=TRIP, reason="insufficient_funds") == messages(play)[-1]


def test_tickets_are_sent_until_they_have_arrived() -> None:
    """Neither charge nor tickets are ever given up."""
    play = booked()
    play.deadlines(20)
    play.answer("charge", TravelerCharged(trip_id=TRIP, amount=usd(40_000)))
    play.deadlines(50)
    play.answer("tickets", TicketsSent(trip_id=TRIP))
    assert "completed" == play.status


def test_the_catalog_loads_it_by_its_module_name() -> None:
    """What AMENDS_SAGAS names is found, and somebody answers every command of it."""
    found = catalog.load(["docs.examples.trip.saga"])
    assert BOOK_TRIP is found.get("book_trip", 1)
    commands = {command.wire_type for command in (*BOOK_TRIP.commands.values(), *BOOK_TRIP.compensations.values())}
    assert commands == set(travel.commands())
    assert ("trip.booked", "trip.failed") == travel.events()
