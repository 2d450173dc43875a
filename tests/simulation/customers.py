"""Customers: they order and travel, ask again when nobody answers, ask twice all the same, and change their minds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar
from uuid import UUID, uuid5

from contracts.money import Money
from docs.examples.trip import desk as travel_desk
from docs.examples.trip.desk import NotPossible
from messaging.database import DATABASE_ERRORS, is_transient
from messaging.service import Service
from messaging.subject_keys import KeysUnavailable
from services.order.api import OrderDesk
from services.order.problems import Problem
from services.order.views import NewLine, NewOrder
from tests.simulation.life import Killed
from tests.simulation.plan import ORDER, TRAVEL, TripWish, Wish
from tests.simulation.world import World

T = TypeVar("T")
ASK_AGAIN = 0.7
"""Seconds after which a customer who got no answer tries again."""
_TRIPS = UUID("7c9b6f4e-0d55-5c0b-9a57-2f6d1c0e8b11")


class Customers:
    """Everybody who wants something of this run; `placed` is what they were promised."""

    def __init__(self, world: World) -> None:
        self.placed: dict[str, UUID] = {}
        self._world = world

    async def act(self) -> None:
        """Do all that the plan says they wish."""
        plan = self._world.plan
        await asyncio.gather(*map(self._order, plan.wishes), *map(self._travel, plan.trips))

    # -- orders ----------------------------------------------------------------------------------------------

    async def _order(self, wish: Wish) -> None:
        await asyncio.sleep(wish.at)
        order = NewOrder(
            customer_id=wish.customer,
            currency="USD",
            lines=[NewLine(sku=sku, quantity=quantity, amount=amount) for sku, quantity, amount in wish.lines],
        )
        await self._place(wish, order)
        await asyncio.gather(self._place_again(wish, order), self._cancel(wish))

    async def _place(self, wish: Wish, order: NewOrder) -> None:
        stored, _ = await self._insist(ORDER, wish.key, lambda service: _desk(service).place(order, wish.key))
        identity: UUID = stored.order.id
        self._world.note(wish.customer, f"placed {wish.key}: {identity}, {stored.total} cents")
        known = self.placed.setdefault(wish.key, identity)
        if known != identity:
            self._world.problem(f"{wish.key} was placed twice: {known} and {identity}")

    async def _place_again(self, wish: Wish, order: NewOrder) -> None:
        if wish.again is not None:
            await asyncio.sleep(wish.again)
            await self._place(wish, order)

    async def _cancel(self, wish: Wish) -> None:
        if wish.cancel is None:
            return
        await asyncio.sleep(wish.cancel)
        identity = self.placed[wish.key]
        try:
            await self._insist(ORDER, wish.key, lambda service: _desk(service).request_cancellation(identity))
            self._world.note(wish.customer, f"wants {wish.key} canceled")
        except Problem as refusal:
            self._world.note(wish.customer, f"cannot cancel {wish.key}: {refusal}")

    # -- trips -----------------------------------------------------------------------------------------------

    async def _travel(self, wish: TripWish) -> None:
        await asyncio.sleep(wish.at)
        identity = uuid5(_TRIPS, f"{self._world.plan.seed} {wish.key}")
        # Whoever asks again after an answer was lost hears that this trip is known.
        await self._at_the_desk(wish, "requests", partial(_request, identity, wish))
        self.placed[wish.key] = identity
        await asyncio.gather(self._approve(wish, identity), self._withdraw(wish, identity))

    async def _approve(self, wish: TripWish, identity: UUID) -> None:
        await asyncio.sleep(wish.approve)
        await self._at_the_desk(wish, "has the approval of", partial(_approve, identity))

    async def _withdraw(self, wish: TripWish, identity: UUID) -> None:
        if wish.withdraw is not None:
            await asyncio.sleep(wish.withdraw)
            await self._at_the_desk(wish, "withdraws", partial(_withdraw, identity))

    async def _at_the_desk(self, wish: TripWish, what: str, ask: Callable[[Service], Awaitable[None]]) -> None:
        try:
            await self._insist(TRAVEL, wish.key, ask)
            self._world.note(wish.traveler, f"{what} {wish.key}")
        except NotPossible as refusal:
            self._world.note(wish.traveler, f"hears of {wish.key}: {refusal}")

    # -- both ------------------------------------------------------------------------------------------------

    async def _insist(self, name: str, what: str, ask: Callable[[Service], Awaitable[T]]) -> T:
        """Ask a service until it answers. Raises its refusal."""
        while True:
            found = self._world.running.get(name)
            if found is not None:
                life, service = found
                asking = life.spawn(_awaited(ask, service), f"request {what}")
                await asyncio.wait([asking])
                error = None if asking.cancelled() else asking.exception()
                if error is None and not asking.cancelled() and not life.dead:
                    return asking.result()
                if error is not None and not isinstance(error, Killed) and not _passes(error):
                    raise error
            await asyncio.sleep(ASK_AGAIN)


async def _awaited(ask: Callable[[Service], Awaitable[T]], service: Service) -> T:
    return await ask(service)


def _desk(service: Service) -> OrderDesk:
    return OrderDesk(
        service.database,
        info=service.info,
        now=service.clock.now,
        new_id=lambda: service.entropy.message_id(service.clock.now()),
        default_stock=None,
    )


async def _request(identity: UUID, wish: TripWish, service: Service) -> None:
    async with service.database.session(**service.info) as db:
        await travel_desk.request(
            db,
            identity,
            wish.traveler,
            flight=wish.flight,
            hotel=wish.hotel,
            price=Money(amount=wish.price, currency="USD"),
            cooling_off_minutes=wish.cooling_off_minutes,
        )


async def _approve(identity: UUID, service: Service) -> None:
    async with service.database.session(**service.info) as db:
        await travel_desk.approve(db, identity, by="bea")


async def _withdraw(identity: UUID, service: Service) -> None:
    async with service.database.session(**service.info) as db:
        await travel_desk.withdraw(db, identity)


def _passes(error: BaseException) -> bool:
    return isinstance(error, KeysUnavailable) or (isinstance(error, DATABASE_ERRORS) and is_transient(error))
