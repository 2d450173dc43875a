"""The desk of the travel service at the terminal: python -m docs.examples.trip. DATABASE_URL names its database."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID, uuid4

import typer
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from contracts import Money
from docs.examples.trip import desk
from docs.examples.trip.store import FLIGHT, HOTEL, Journey, Offer, Table, Traveler
from messaging import migrate
from messaging.database import Database

app = typer.Typer(help="The desk of the travel service.", rich_markup_mode=None, add_completion=False)
TripId = Annotated[UUID, typer.Argument(metavar="TRIP", help="The trip's id, as `request` printed it.")]


@app.command()
def prepare() -> None:
    """Make the tables, with two seats to Lisbon, one room by the river, and ann with 1000.00 USD."""

    async def act(database: Database) -> None:
        await migrate.upgrade(database, (migrate.MESSAGING,))
        async with database.transaction() as connection:
            await connection.run_sync(Table.metadata.create_all)
        async with database.session() as db:
            await db.merge(Offer(kind=FLIGHT, name="TP 571", free=2))
            await db.merge(Offer(kind=HOTEL, name="River", free=1))
            await db.merge(Traveler(name="ann", balance=100_000, currency="USD"))

    _on_database(act)


@app.command()
def request(
    traveler: Annotated[str, typer.Argument()] = "ann",
    flight: str = "TP 571",
    hotel: str = "River",
    price: Annotated[int, typer.Option(help="In cents; from 50000 on somebody has to approve.")] = 40_000,
    cooling_off: Annotated[int, typer.Option(help="Minutes in which nothing is paid yet.")] = 0,
) -> None:
    """Request a trip and print its id."""
    trip_id = uuid4()

    async def act(db: AsyncSession) -> None:
        money = Money(amount=price, currency="USD")
        await desk.request(
            db, trip_id, traveler, flight=flight, hotel=hotel, price=money, cooling_off_minutes=cooling_off
        )

    _in_session(act)
    typer.echo(trip_id)


@app.command()
def approve(trip: TripId, by: Annotated[str, typer.Option(help="Who approves.")] = "bea") -> None:
    """Approve a trip."""
    _in_session(lambda db: desk.approve(db, trip, by=by))


@app.command()
def withdraw(trip: TripId) -> None:
    """Withdraw a trip."""
    _in_session(lambda db: desk.withdraw(db, trip))


@app.command()
def show() -> None:
    """Show every trip."""

    async def act(db: AsyncSession) -> None:
        for journey in await db.scalars(select(Journey).order_by(Journey.trip_id)):
            typer.echo(f"{journey.trip_id}  {journey.traveler}  {journey.status}  {journey.tickets}")

    _in_session(act)


def _in_session(act: Callable[[AsyncSession], Awaitable[None]]) -> None:
    async def acting(database: Database) -> None:
        async with database.session() as db:
            await act(db)

    try:
        _on_database(acting)
    except desk.NotPossible as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from error


def _on_database(act: Callable[[Database], Awaitable[None]]) -> None:
    async def acting() -> None:
        database = Database(os.environ.get("DATABASE_URL", "sqlite:///travel.db"))
        try:
            await act(database)
        finally:
            await database.close()

    asyncio.run(acting())


if __name__ == "__main__":
    app()
