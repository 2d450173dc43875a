"""The night of docs/debugging.md: an orchestrator that really runs, and the services it talks to, told by us.

Everything happens on a clock of ours, so that every moment on the page is the same whenever it is told, and on
whatever database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from contracts.money import Money
from contracts.order import OrderCanceled, OrderConfirmed, OrderCreated, OrderRejected
from contracts.payment import PaymentAuthorized, PaymentCaptured, PaymentVoided
from messaging.bus import Outgoing
from messaging.dead_letters import announcement, letter_id
from orchestrator.dead_letters import Collector
from orchestrator.sagas.fulfill_order import FULFILL_ORDER
from tests.contract.orchestrator.letters import announced, dead_letter
from tests.contract.orchestrator.office import Office
from tests.golden.stage import Stage

EVENING = datetime(2026, 3, 1, 2, 10, tzinfo=UTC)
DEPLOYED = EVENING + timedelta(minutes=20)
MENDED = EVENING + timedelta(minutes=62)
"""In between, payment's void raises, each time it is sent."""
RAISED = """Traceback (most recent call last):
  File "/app/services/payment/handlers.py", line 61, in void
    hold = await store.hold_of(db, command.authorization_id)
AttributeError: 'VoidPayment' object has no attribute 'authorization_id'
"""
_ORDERS = UUID("0195d3a2-7c00-7000-8000-0000000000de")


def order(name: str) -> UUID:
    """The id of an order that the page speaks of."""
    return uuid5(_ORDERS, name)


class Night(Stage):
    """Orders of a shop whose payment service cannot void since half past two."""

    async def begin(self) -> None:
        """The orchestrator runs, and orders went well until now: some were paid, some out of stock and undone."""
        self.clock.moment = EVENING
        await self.put_on(FULFILL_ORDER, "night")
        self._heard = 0
        self._collecting = Office(self.database)
        await self._collecting.serve(Collector())
        for number in range(1, 9):
            self.turn_to(order(f"paid {number}"))
            await self._authorized(900 + 100 * number, number / 10)
            await self.answers("confirm_order", OrderConfirmed(order_id=self.key))
            await self.answers("capture_payment", PaymentCaptured(order_id=self.key, amount=self._price))
        for number in range(1, 4):
            self.turn_to(order(f"undone {number}"))
            await self._out_of_stock(2000 + 100 * number)
            await self._undone(number / 5)
        await self._sent()

    async def close(self) -> None:
        await self._collecting.retire()
        await super().close()

    async def get_stuck(self) -> None:
        """Two orders are out of stock after the bug was deployed; their voids fail until they are given up."""
        self.clock.moment = EVENING + timedelta(minutes=28)
        self.turn_to(order("ada"))
        await self._out_of_stock(5990, customer="ada")
        await self._sent()
        await self._until(self.clock.now() + timedelta(minutes=3))
        self.turn_to(order("ben"))
        await self._out_of_stock(1499, customer="ben")
        await self._sent()
        await self._until(EVENING + timedelta(minutes=52))

    async def void_answered(self, name: str, now: datetime) -> None:
        """The mended payment service answers the void that somebody has sent again; the order is canceled."""
        await self._turn_to_later(name, now)
        await self._undone(0.3, round=2)

    async def order_canceled(self, name: str, now: datetime) -> None:
        """The order service answers, as nothing else is left to be undone."""
        await self._turn_to_later(name, now)
        await self._canceled()

    async def shop_goes_on(self, now: datetime) -> None:
        """An order whose money is held and whose stock is being confirmed, if there is none yet."""
        if str(order("cleo")) not in await self.sagas():
            await self._turn_to_later("cleo", now)
            await self._authorized(3200, 0.4, customer="cleo")
            await self._sent()

    async def _turn_to_later(self, name: str, now: datetime) -> None:
        """Half a minute after somebody has acted: what the action sends has left."""
        await self._until(now + timedelta(seconds=30))
        self.turn_to(order(name))
        await self.relay.sweep()
        await self._sent()

    async def _until(self, moment: datetime) -> None:
        """It becomes this moment; whatever is due on the way happens in its time."""
        while any(row.deadline is not None and row.deadline < moment for row in (await self.sagas()).values()):
            await self.next_deadline()
            await self._sent()
        self.clock.moment = moment
        await self._sent()

    async def _sent(self) -> None:
        """What is written has left, and payment has failed at what it fails at."""
        await self.flush()
        heard, self._heard = self.bus.published[self._heard :], len(self.bus.published)
        for message in heard:
            if message.type == "payment.void" and DEPLOYED < self.clock.now() < MENDED:
                await self._buried(message)

    async def _buried(self, message: Outgoing) -> None:
        letter = dead_letter(
            letter=letter_id(message.message_id, "payment"),
            at=self.clock.now() + timedelta(milliseconds=41),
            error=RAISED,
            message_id=message.message_id,
            type=message.type,
            correlation_id=message.correlation_id,
            routing_key=message.routing_key,
            body=message.body,
            attempts=0,
        )
        await self._collecting.handle(announced(self._collecting, announcement(letter)))

    # -- what services say ---------------------------------------------------------------------------------------

    async def _authorized(self, cents: int, seconds: float, *, customer: str = "somebody") -> None:
        self._price = Money(amount=cents, currency="USD")
        created = OrderCreated(order_id=self.key, customer_id=customer, total=self._price, items=1)
        await self.comes(created, "order")
        self.clock.advance(seconds)
        held = PaymentAuthorized(order_id=self.key, authorization_id=f"auth-{cents}", amount=self._price)
        await self.answers("authorize_payment", held)

    async def _out_of_stock(self, cents: int, *, customer: str = "somebody") -> None:
        await self._authorized(cents, 0.35, customer=customer)
        self.clock.advance(0.11)
        await self.answers("confirm_order", OrderRejected(order_id=self.key, reason="out_of_stock"))

    async def _undone(self, seconds: float, *, round: int = 1) -> None:
        self.clock.advance(seconds)
        await self.undone("authorize_payment", PaymentVoided(order_id=self.key), round=round)
        await self._canceled()

    async def _canceled(self) -> None:
        self.clock.advance(0.12)
        await self.undone("place_order", OrderCanceled(order_id=self.key))
