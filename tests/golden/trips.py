"""What can become of a trip."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from contracts.money import Money
from docs.examples.trip.contracts import (
    FlightBooked,
    FlightCanceled,
    HotelBooked,
    HotelCanceled,
    HotelUnavailable,
    TicketsSent,
    TravelerCharged,
    TripApproved,
    TripRequested,
    TripWithdrawn,
)
from tests.golden.stage import Stage


def _price(amount: int) -> Money:
    return Money(amount=amount, currency="EUR")


async def _requested(stage: Stage, price: int) -> None:
    event = TripRequested(
        trip_id=stage.key, traveler="ann", flight="TP 571", hotel="River", price=_price(price), cooling_off_minutes=30
    )
    await stage.comes(event, "desk")


async def _both_booked(stage: Stage) -> None:
    await stage.answers("hotel", HotelBooked(trip_id=stage.key, reference="H-1"))
    await stage.answers("flight", FlightBooked(trip_id=stage.key, reference="F-1"))


async def _both_undone(stage: Stage) -> None:
    await stage.undone("flight", FlightCanceled(trip_id=stage.key))
    await stage.undone("hotel", HotelCanceled(trip_id=stage.key))


async def approved(stage: Stage) -> None:
    """An expensive one: booked, approved, cooled off, charged."""
    await _requested(stage, 90_000)
    await _both_booked(stage)
    await stage.comes(TripApproved(trip_id=stage.key, by="cem"), "desk")
    await stage.silence()
    await stage.answers("charge", TravelerCharged(trip_id=stage.key, amount=_price(90_000)))
    await stage.answers("tickets", TicketsSent(trip_id=stage.key))


async def cheap(stage: Stage) -> None:
    """Nobody has to approve it."""
    await _requested(stage, 12_000)
    await _both_booked(stage)
    await stage.silence()
    await stage.answers("charge", TravelerCharged(trip_id=stage.key, amount=_price(12_000)))
    await stage.answers("tickets", TicketsSent(trip_id=stage.key))


async def hotel_full(stage: Stage) -> None:
    """One of two that were booked together fails."""
    await _requested(stage, 12_000)
    await stage.answers("hotel", HotelUnavailable(trip_id=stage.key, reason="full"))
    await stage.answers("flight", FlightBooked(trip_id=stage.key, reference="F-1"))
    await stage.undone("flight", FlightCanceled(trip_id=stage.key))


async def not_approved(stage: Stage) -> None:
    """Two days pass."""
    await _requested(stage, 90_000)
    await _both_booked(stage)
    await stage.silence()
    await _both_undone(stage)


async def withdrawn(stage: Stage) -> None:
    """The traveler changes their mind while it cools off."""
    await _requested(stage, 12_000)
    await _both_booked(stage)
    await stage.comes(TripWithdrawn(trip_id=stage.key), "desk")
    await _both_undone(stage)


TRIPS: tuple[Callable[[Stage], Awaitable[None]], ...] = (approved, cheap, hotel_full, not_approved, withdrawn)
