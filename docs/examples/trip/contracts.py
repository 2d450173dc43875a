"""What is said about a trip: by the travel service (`travel.*`) and, of its end, by the orchestrator (`trip.*`)."""

from __future__ import annotations

from typing import Annotated, Never
from uuid import UUID

from pydantic import Field, StrictInt

from contracts import Carried, Command, Event, Money, Sensitive


class TripRequested(Event, type="travel.requested", key="trip_id", subject="trip_id"):
    """A traveler wants to go; nothing is booked yet. Who that is, each trip has a key of its own for."""

    trip_id: UUID
    traveler: Sensitive[str]
    flight: str
    hotel: str
    price: Money
    cooling_off_minutes: Annotated[StrictInt, Field(ge=0)]


class TripApproved(Event, type="travel.approved", key="trip_id", subject="trip_id"):
    """Somebody who may has agreed to the price."""

    trip_id: UUID
    by: Sensitive[str]


class TripWithdrawn(Event, type="travel.withdrawn", key="trip_id"):
    """The traveler wants it no more; heeded until the money is asked for."""

    trip_id: UUID


class FlightBooked(Event, type="travel.flight_booked", key="trip_id"):
    """A seat is taken."""

    trip_id: UUID
    reference: str


class FlightUnavailable(Event, type="travel.flight_unavailable", key="trip_id"):
    """There is no seat; `reason` is a word for programs."""

    trip_id: UUID
    reason: str


class BookFlight(Command[FlightBooked, FlightUnavailable], type="travel.book_flight", key="trip_id"):
    """Take a seat."""

    trip_id: UUID
    flight: str


class FlightCanceled(Event, type="travel.flight_canceled", key="trip_id"):
    """No seat is taken for this trip any more."""

    trip_id: UUID


class CancelFlight(Command[FlightCanceled, Never], type="travel.cancel_flight", key="trip_id"):
    """Give the seat back; no seat to give back is success."""

    trip_id: UUID


class HotelBooked(Event, type="travel.hotel_booked", key="trip_id"):
    """A room is taken."""

    trip_id: UUID
    reference: str


class HotelUnavailable(Event, type="travel.hotel_unavailable", key="trip_id"):
    """There is no room; `reason` is a word for programs."""

    trip_id: UUID
    reason: str


class BookHotel(Command[HotelBooked, HotelUnavailable], type="travel.book_hotel", key="trip_id"):
    """Take a room."""

    trip_id: UUID
    hotel: str


class HotelCanceled(Event, type="travel.hotel_canceled", key="trip_id"):
    """No room is taken for this trip any more."""

    trip_id: UUID


class CancelHotel(Command[HotelCanceled, Never], type="travel.cancel_hotel", key="trip_id"):
    """Give the room back; no room to give back is success."""

    trip_id: UUID


class TravelerCharged(Event, type="travel.charged", key="trip_id"):
    """The price has been paid."""

    trip_id: UUID
    amount: Money


class ChargeDeclined(Event, type="travel.charge_declined", key="trip_id"):
    """The price was not paid; `reason` is a word for programs."""

    trip_id: UUID
    reason: str


class ChargeTraveler(Command[TravelerCharged, ChargeDeclined], type="travel.charge", key="trip_id", subject="trip_id"):
    """Take the price from the traveler."""

    trip_id: UUID
    traveler: Annotated[Sensitive[str], Carried("travel.requested", "traveler")]
    amount: Money


class TicketsSent(Event, type="travel.tickets_sent", key="trip_id"):
    """The traveler has the tickets."""

    trip_id: UUID


class SendTickets(Command[TicketsSent, Never], type="travel.send_tickets", key="trip_id"):
    """Send the tickets; cannot be refused, only repeated until it works."""

    trip_id: UUID
    flight_reference: str
    hotel_reference: str


class TripBooked(Event, type="trip.booked", key="trip_id"):
    """All is booked and paid."""

    trip_id: UUID
    paid: Money


class TripFailed(Event, type="trip.failed", key="trip_id"):
    """Nothing is booked and nothing was paid; `reason` is a word for programs."""

    trip_id: UUID
    reason: str
