"""A card gateway that keeps its promises (services.payment.gateway) and nothing else: slow, and often silent."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from contracts.money import Money
from services.payment.gateway import Approved, Declined, GatewayRefused, GatewayUnclear
from tests.simulation.plan import Account

HELD, CAPTURED, VOIDED = "held", "captured", "voided"


@dataclass
class Card:
    """What the gateway knows of one order."""

    status: str
    customer: str = ""
    amount: int = 0


class Issuer:
    """Outlives the services; a request that has reached it takes effect even if whoever sent it dies."""

    def __init__(self, loop: asyncio.AbstractEventLoop, chance: random.Random, accounts: Sequence[Account]) -> None:
        self.unclear = 0.0
        self.cards: dict[UUID, Card] = {}
        self.worked: dict[UUID, int] = {}
        """How often each idempotency key took effect."""
        self._accounts = {account.customer: account for account in accounts}
        self._answers: dict[UUID, Approved | Declined | GatewayRefused | None] = {}
        self._loop = loop
        self._chance = chance

    async def authorize(self, order_id: UUID, customer_id: str, amount: Money, *, key: UUID) -> Approved | Declined:
        def act() -> Approved | Declined:
            known = self.cards.get(order_id)
            if known is not None:
                return Declined("voided", "no second payment") if known.status == VOIDED else Approved(f"A{order_id}")
            taken = sum(card.amount for card in self.cards.values() if card.customer == customer_id)
            if amount.amount > self._accounts[customer_id].limit - taken:
                return Declined("card_declined", "over the limit")
            self.cards[order_id] = Card(HELD, customer_id, amount.amount)
            return Approved(f"A{order_id}")

        if self._loop.time() < self._accounts[customer_id].offline:
            await asyncio.sleep(self._chance.random())
            raise GatewayUnclear("the issuer is silent")
        answer = await self._ask(key, act)
        if answer is None:
            raise TypeError("an authorization is approved or declined")
        return answer

    async def capture(self, order_id: UUID, amount: Money, *, key: UUID) -> None:
        def act() -> GatewayRefused | None:
            card = self.cards.get(order_id)
            if card is None or card.status == VOIDED or card.amount != amount.amount:
                return GatewayRefused(f"capture of {amount}, but there is {card}")
            card.status = CAPTURED
            return None

        await self._ask(key, act)

    async def void(self, order_id: UUID, *, key: UUID) -> None:
        def act() -> GatewayRefused | None:
            card = self.cards.setdefault(order_id, Card(VOIDED))
            if card.status == CAPTURED:
                return GatewayRefused("captured already")
            card.status, card.amount = VOIDED, 0
            return None

        await self._ask(key, act)

    async def refund(self, order_id: UUID, *, key: UUID) -> Money:
        raise NotImplementedError("no saga of the simulation refunds")

    async def _ask(
        self, key: UUID, act: Callable[[], Approved | Declined | GatewayRefused | None]
    ) -> Approved | Declined | None:
        there, back = self._chance.random() ** 2, self._chance.random() ** 2
        lost = self._chance.random() < self.unclear
        if lost and self._chance.random() < 0.5:
            await asyncio.sleep(there + back)
            raise GatewayUnclear("the request was lost")
        self._loop.call_later(there, self._work, key, act)
        await asyncio.sleep(there + back + 1e-6)
        if lost:
            raise GatewayUnclear("the answer was lost")
        answer = self._answers[key]
        if isinstance(answer, GatewayRefused):
            raise answer
        return answer

    def _work(self, key: UUID, act: Callable[[], Approved | Declined | GatewayRefused | None]) -> None:
        if key not in self._answers:
            self._answers[key] = act()
            self.worked[key] = self.worked.get(key, 0) + 1
