"""The travel service as a participant: which command is answered by what.

    DATABASE_URL=... AMQP_URL=... python -m messaging serve docs.examples.trip.participant:travel

Each handler runs once for a command, in one transaction with its answer; a refusal is a value.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from docs.examples.trip import store
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
    TripBooked,
    TripFailed,
)
from docs.examples.trip.store import FLIGHT, HOTEL, Journey
from messaging.participant import Participant

travel = Participant("travel")


@travel.handles(BookFlight)
async def book_flight(command: BookFlight, db: AsyncSession) -> FlightBooked | FlightUnavailable:
    taken = await store.reserve(db, command.trip_id, FLIGHT, command.flight)
    if taken is None:
        return FlightUnavailable(trip_id=command.trip_id, reason="sold_out")
    return FlightBooked(trip_id=command.trip_id, reference=taken.reference)


@travel.handles(CancelFlight)
async def cancel_flight(command: CancelFlight, db: AsyncSession) -> FlightCanceled:
    await store.release(db, command.trip_id, FLIGHT)
    return FlightCanceled(trip_id=command.trip_id)


@travel.handles(BookHotel)
async def book_hotel(command: BookHotel, db: AsyncSession) -> HotelBooked | HotelUnavailable:
    taken = await store.reserve(db, command.trip_id, HOTEL, command.hotel)
    if taken is None:
        return HotelUnavailable(trip_id=command.trip_id, reason="full")
    return HotelBooked(trip_id=command.trip_id, reference=taken.reference)


@travel.handles(CancelHotel)
async def cancel_hotel(command: CancelHotel, db: AsyncSession) -> HotelCanceled:
    await store.release(db, command.trip_id, HOTEL)
    return HotelCanceled(trip_id=command.trip_id)


@travel.handles(ChargeTraveler)
async def charge(command: ChargeTraveler, db: AsyncSession) -> TravelerCharged | ChargeDeclined:
    refusal = await store.pay(db, command.traveler, command.amount)
    if refusal is not None:
        return ChargeDeclined(trip_id=command.trip_id, reason=refusal)
    return TravelerCharged(trip_id=command.trip_id, amount=command.amount)


@travel.handles(SendTickets)
async def send_tickets(command: SendTickets, db: AsyncSession) -> TicketsSent:
    journey = await db.get(Journey, command.trip_id)
    if journey is not None:
        journey.tickets = f"{command.flight_reference} {command.hotel_reference}"
    return TicketsSent(trip_id=command.trip_id)


@travel.on(TripBooked)
async def note_booked(event: TripBooked, db: AsyncSession) -> None:
    journey = await db.get(Journey, event.trip_id)
    if journey is not None:
        journey.status, journey.paid = "booked", event.paid.amount


@travel.on(TripFailed)
async def note_failed(event: TripFailed, db: AsyncSession) -> None:
    journey = await db.get(Journey, event.trip_id)
    if journey is not None:
        journey.status = f"failed: {event.reason}"
