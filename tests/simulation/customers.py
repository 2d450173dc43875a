"""Customers: they place orders, ask again when nobody answers, ask twice all the same, and change their minds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from messaging.database import is_transient
from messaging.service import Service
from services.order.api import OrderDesk
from services.order.problems import Problem
from services.order.views import NewLine, NewOrder
from tests.simulation.life import Killed
from tests.simulation.plan import ORDER, Wish
from tests.simulation.world import World

T = TypeVar("T")
ASK_AGAIN = 0.7
"""Seconds after which a customer who got no answer tries again."""


class Customers:
    """Everybody who wants something of this run; `placed` is what they were promised."""

    def __init__(self, world: World) -> None:
        self.placed: dict[str, UUID] = {}
        self._world = world

    async def act(self) -> None:
        """Do all that the plan says they wish."""
        await asyncio.gather(*(self._wish(wish) for wish in self._world.plan.wishes))

    async def _wish(self, wish: Wish) -> None:
        await asyncio.sleep(wish.at)
        order = NewOrder(
            customer_id=wish.customer,
            currency="USD",
            lines=[NewLine(sku=sku, quantity=quantity, amount=amount) for sku, quantity, amount in wish.lines],
        )
        await self._place(wish, order)
        await asyncio.gather(self._place_again(wish, order), self._cancel(wish))

    async def _place(self, wish: Wish, order: NewOrder) -> None:
        stored, _ = await self._insist(wish.key, lambda desk: desk.place(order, wish.key))
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
        try:
            await self._insist(wish.key, lambda desk: desk.request_cancellation(self.placed[wish.key]))
            self._world.note(wish.customer, f"wants {wish.key} canceled")
        except Problem as refusal:
            self._world.note(wish.customer, f"cannot cancel {wish.key}: {refusal}")

    async def _insist(self, what: str, ask: Callable[[OrderDesk], Awaitable[T]]) -> T:
        """Ask the order service until it answers. Raises Problem."""
        while True:
            found = self._world.running.get(ORDER)
            if found is not None:
                life, service = found
                desk = _desk(service)
                asking = life.spawn(_awaited(ask, desk), f"request {what}")
                await asyncio.wait([asking])
                if not asking.cancelled():
                    error = asking.exception()
                    if error is None and not life.dead:
                        return asking.result()
                    if error is not None and not isinstance(error, Killed) and not _passes(error):
                        raise error
            await asyncio.sleep(ASK_AGAIN)


async def _awaited(ask: Callable[[OrderDesk], Awaitable[T]], desk: OrderDesk) -> T:
    return await ask(desk)


def _desk(service: Service) -> OrderDesk:
    now: Callable[[], Any] = service.clock.now
    return OrderDesk(
        service.database,
        info=service.info,
        now=now,
        new_id=partial(_new_id, service),
        default_stock=None,
    )


def _new_id(service: Service) -> UUID:
    return service.entropy.message_id(service.clock.now())


def _passes(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and is_transient(error)
