"""From a wish to go to tickets, or to nothing booked and nothing paid.

Flight and hotel are booked at the same time. An expensive trip waits for somebody's approval, every trip for the end of
its cooling-off time. The charge is the point of no return: until then the traveler may withdraw. Then the tickets are
sent, however often it takes.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from contracts import Money, Sensitive
from docs.examples.trip.contracts import (
    BookFlight,
    BookHotel,
    CancelFlight,
    CancelHotel,
    ChargeDeclined,
    ChargeTraveler,
    FlightBooked,
    FlightUnavailable,
    HotelBooked,
    HotelUnavailable,
    SendTickets,
    TravelerCharged,
    TripApproved,
    TripBooked,
    TripFailed,
    TripRequested,
    TripWithdrawn,
)
from orchestrator import (
    COMPENSATE,
    PIVOT,
    RETRIABLE,
    Cancel,
    Delay,
    Parallel,
    Retry,
    Saga,
    Start,
    Step,
    Wait,
    days,
    minutes,
    seconds,
)

APPROVAL_FROM = 50_000
"""Minor units from which somebody has to approve a trip."""


class Trip(BaseModel):
    """What the saga knows of one trip."""

    model_config = ConfigDict(frozen=True)

    trip_id: UUID
    traveler: Sensitive[str]
    flight: str
    hotel: str
    price: Money
    cooling_off_minutes: int
    flight_reference: str = ""
    hotel_reference: str = ""
    approved_by: Sensitive[str] = ""
    failure: str = "not_approved"


def begin(event: TripRequested) -> Trip:
    return Trip(
        trip_id=event.trip_id,
        traveler=event.traveler,
        flight=event.flight,
        hotel=event.hotel,
        price=event.price,
        cooling_off_minutes=event.cooling_off_minutes,
    )


def book_flight(data: Trip) -> BookFlight:
    return BookFlight(trip_id=data.trip_id, flight=data.flight)


def flight_booked(data: Trip, event: FlightBooked) -> Trip:
    return data.model_copy(update={"flight_reference": event.reference})


def no_flight(data: Trip, event: FlightUnavailable) -> Trip:
    return data.model_copy(update={"failure": f"flight_{event.reason}"})


def cancel_flight(data: Trip) -> CancelFlight:
    return CancelFlight(trip_id=data.trip_id)


def book_hotel(data: Trip) -> BookHotel:
    return BookHotel(trip_id=data.trip_id, hotel=data.hotel)


def hotel_booked(data: Trip, event: HotelBooked) -> Trip:
    return data.model_copy(update={"hotel_reference": event.reference})


def no_hotel(data: Trip, event: HotelUnavailable) -> Trip:
    return data.model_copy(update={"failure": f"hotel_{event.reason}"})


def cancel_hotel(data: Trip) -> CancelHotel:
    return CancelHotel(trip_id=data.trip_id)


def unanswered(data: Trip) -> Trip:
    return data.model_copy(update={"failure": "booking_timeout"})


def expensive(data: Trip) -> bool:
    return data.price.amount >= APPROVAL_FROM


def approved(data: Trip, event: TripApproved) -> Trip:
    return data.model_copy(update={"approved_by": event.by})


def cooling_off(data: Trip) -> timedelta:
    return minutes(data.cooling_off_minutes)


def withdrawn(data: Trip, event: TripWithdrawn) -> Trip:
    return data.model_copy(update={"failure": "withdrawn"})


def charge(data: Trip) -> ChargeTraveler:
    return ChargeTraveler(trip_id=data.trip_id, traveler=data.traveler, amount=data.price)


def declined(data: Trip, event: ChargeDeclined) -> Trip:
    return data.model_copy(update={"failure": event.reason})


def charged(data: Trip, event: TravelerCharged) -> Trip:
    return data.model_copy(update={"price": event.amount})


def send_tickets(data: Trip) -> SendTickets:
    return SendTickets(
        trip_id=data.trip_id, flight_reference=data.flight_reference, hotel_reference=data.hotel_reference
    )


def booked(data: Trip) -> TripBooked:
    return TripBooked(trip_id=data.trip_id, paid=data.price)


def failed(data: Trip) -> TripFailed:
    return TripFailed(trip_id=data.trip_id, reason=data.failure)


BOOK_TRIP = Saga(
    name="book_trip",
    version=1,
    data=Trip,
    starts_on=Start(TripRequested, begin, key=lambda event: event.trip_id),
    cancel_on=Cancel(TripWithdrawn, key=lambda event: event.trip_id, on_event=withdrawn),
    steps=(
        Parallel(
            Step(
                "flight",
                book_flight,
                on_success=flight_booked,
                on_failure=no_flight,
                on_in_doubt=unanswered,
                compensation=cancel_flight,
                timeout=seconds(20),
                retry=Retry(attempts=3, backoff=seconds(5)),
            ),
            Step(
                "hotel",
                book_hotel,
                on_success=hotel_booked,
                on_failure=no_hotel,
                on_in_doubt=unanswered,
                compensation=cancel_hotel,
                timeout=seconds(20),
                retry=Retry(attempts=3, backoff=seconds(5)),
            ),
        ),
        Wait(
            TripApproved,
            key=lambda event: event.trip_id,
            name="approval",
            on_event=approved,
            when=expensive,
            timeout=days(2),
            on_timeout=COMPENSATE,
        ),
        Delay(cooling_off, name="cooling_off"),
        Step("charge", charge, kind=PIVOT, on_success=charged, on_failure=declined),
        Step("tickets", send_tickets, kind=RETRIABLE),
    ),
    on_completed=booked,
    on_compensated=failed,
)
