"""The desk of the travel service: domain code that writes its own rows and says what has happened.

`emit` adds the event to the session it is given: it leaves if and only if the caller's transaction commits.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from contracts import Money
from docs.examples.trip.contracts import TripApproved, TripRequested, TripWithdrawn
from docs.examples.trip.store import Journey
from messaging.outbox import emit


class NotPossible(Exception):
    """The desk cannot do that with this trip; says why."""


async def request(
    db: AsyncSession,
    trip_id: UUID,
    traveler: str,
    *,
    flight: str,
    hotel: str,
    price: Money,
    cooling_off_minutes: int = 0,
) -> None:
    """Take down a traveler's wish; raises NotPossible where this trip is known already."""
    if await db.get(Journey, trip_id) is not None:
        raise NotPossible(f"trip {trip_id} is known already; take another id")
    db.add(Journey(trip_id=trip_id, traveler=traveler, status="requested"))
    event = TripRequested(
        trip_id=trip_id,
        traveler=traveler,
        flight=flight,
        hotel=hotel,
        price=price,
        cooling_off_minutes=cooling_off_minutes,
    )
    emit(db, event)


async def approve(db: AsyncSession, trip_id: UUID, *, by: str) -> None:
    """Agree to the price; raises NotPossible where the trip is unknown or the traveler would approve it themselves."""
    journey = await _known(db, trip_id)
    if journey.traveler == by:
        raise NotPossible(f"{by} cannot approve their own trip; ask somebody else")
    journey.status = f"approved by {by}"
    emit(db, TripApproved(trip_id=trip_id, by=by))


async def withdraw(db: AsyncSession, trip_id: UUID) -> None:
    """The traveler does not want to go any more; raises NotPossible where the trip is unknown or booked."""
    journey = await _known(db, trip_id)
    if journey.status == "booked":
        raise NotPossible(f"trip {trip_id} is booked and paid; there is no way back")
    journey.status = "withdrawn"
    emit(db, TripWithdrawn(trip_id=trip_id))


async def _known(db: AsyncSession, trip_id: UUID) -> Journey:
    journey = await db.get(Journey, trip_id)
    if journey is None:
        raise NotPossible(f"there is no trip {trip_id}; request it first")
    return journey
