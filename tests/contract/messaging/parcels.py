"""A made-up domain for the tests of the messaging core: parcels that are packed and unpacked."""

from __future__ import annotations

from typing import Never

from sqlalchemy import Column, Integer, MetaData, String, Table, select
from sqlalchemy.ext.asyncio import AsyncSession

from contracts.message import Command, Event
from messaging.database import Database
from messaging.participant import Participant

metadata = MetaData()

packing = Table(
    "packing",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("parcel", String(40), nullable=False),
    Column("done", String(10), nullable=False),
)


class Packed(Event, type="parcel.packed", key="parcel"):
    parcel: str


class Refused(Event, type="parcel.refused", key="parcel"):
    parcel: str
    reason: str


class Pack(Command[Packed, Refused], type="parcel.pack", key="parcel"):
    parcel: str
    note: str = ""


class Unpacked(Event, type="parcel.unpacked", key="parcel"):
    parcel: str


class Unpack(Command[Unpacked, Never], type="parcel.unpack", key="parcel"):
    parcel: str


class Ordered(Event, type="parcel.ordered", key="parcel"):
    parcel: str
    note: str = ""


async def note(db: AsyncSession, parcel: str, done: str) -> None:
    """Write that something was done to a parcel."""
    await db.execute(packing.insert().values(parcel=parcel, done=done))


async def done(database: Database) -> list[tuple[str, str]]:
    """What was done to which parcel, in order."""
    async with database.reading() as connection:
        rows = await connection.execute(select(packing.c.parcel, packing.c.done).order_by(packing.c.id))
        return [(row.parcel, row.done) for row in rows]


def packer() -> Participant:
    """A participant that packs and unpacks, a message at a time."""
    participant = Participant("depot")

    @participant.handles(Pack)
    async def pack(command: Pack, db: AsyncSession) -> Packed | Refused:
        await note(db, command.parcel, "packed")
        return Packed(parcel=command.parcel)

    @participant.handles(Unpack)
    async def unpack(command: Unpack, db: AsyncSession) -> Unpacked:
        await note(db, command.parcel, "unpacked")
        return Unpacked(parcel=command.parcel)

    return participant
