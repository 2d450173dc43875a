"""What the travel service keeps: seats and rooms on offer, who has taken them, and what travelers can pay.

Rows that are counted down are locked first, so that two batches cannot sell the last seat twice. Nothing here commits:
the session is the caller's.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import CheckConstraint, MetaData, Uuid
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from contracts import Money

FLIGHT, HOTEL = "flight", "hotel"


class Table(DeclarativeBase):
    """The tables of this service."""

    metadata = MetaData()


class Offer(Table):
    """Seats of a flight, rooms of a hotel: how many are free."""

    __tablename__ = "travel_offer"
    __table_args__ = (CheckConstraint("free >= 0", name="travel_offer_not_oversold"),)

    kind: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    free: Mapped[int]


class Reservation(Table):
    """A seat or room taken for a trip; at most one of each kind."""

    __tablename__ = "travel_reservation"

    trip_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]

    @property
    def reference(self) -> str:
        """What the ticket says: the same for the same trip, however often it is asked for."""
        return f"{self.kind[0].upper()}-{self.trip_id.hex[-8:]}"


class Traveler(Table):
    """What a traveler can pay, in minor units."""

    __tablename__ = "travel_traveler"
    __table_args__ = (CheckConstraint("balance >= 0", name="travel_traveler_not_overdrawn"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[int]
    currency: Mapped[str]


class Journey(Table):
    """A trip as the desk sees it."""

    __tablename__ = "travel_journey"

    trip_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    traveler: Mapped[str]
    status: Mapped[str]
    paid: Mapped[int] = mapped_column(default=0)
    tickets: Mapped[str] = mapped_column(default="")


async def reserve(db: AsyncSession, trip_id: UUID, kind: str, name: str) -> Reservation | None:
    """Take one for this trip, or the one it has already; None where none is free."""
    known = await db.get(Reservation, (trip_id, kind))
    if known is not None:
        return known
    offer = await db.get(Offer, (kind, name), with_for_update=True)
    if offer is None or offer.free == 0:
        return None
    offer.free -= 1
    made = Reservation(trip_id=trip_id, kind=kind, name=name)
    db.add(made)
    return made


async def release(db: AsyncSession, trip_id: UUID, kind: str) -> None:
    """Give back what this trip has taken; nothing taken is fine."""
    known = await db.get(Reservation, (trip_id, kind))
    if known is None:
        return
    offer = await db.get(Offer, (kind, known.name), with_for_update=True)
    if offer is not None:
        offer.free += 1
    await db.delete(known)


async def pay(db: AsyncSession, traveler: str, amount: Money) -> str | None:
    """Take the amount from the traveler; says in one word why not, or None."""
    known = await db.get(Traveler, traveler, with_for_update=True)
    if known is None:
        return "unknown_traveler"
    if known.currency != amount.currency:
        return "wrong_currency"
    if known.balance < amount.amount:
        return "insufficient_funds"
    known.balance -= amount.amount
    return None
