"""What can become of an order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from contracts.money import Money
from contracts.order import (
    OrderCanceled,
    OrderCancellationRequested,
    OrderConfirmed,
    OrderCreated,
    OrderRejected,
)
from contracts.payment import PaymentAuthorized, PaymentCaptured, PaymentFailed, PaymentVoided
from orchestrator.saga.inputs import Action
from tests.golden.stage import Stage

PRICE = Money(amount=2933, currency="USD")


async def _placed(stage: Stage) -> None:
    await stage.comes(OrderCreated(order_id=stage.key, customer_id="customer-42", total=PRICE, items=2), "order")


async def _authorized(stage: Stage) -> None:
    await stage.answers(
        "authorize_payment", PaymentAuthorized(order_id=stage.key, authorization_id="auth-1", amount=PRICE)
    )


async def _undone(stage: Stage) -> None:
    await stage.undone("authorize_payment", PaymentVoided(order_id=stage.key))
    await stage.undone("place_order", OrderCanceled(order_id=stage.key))


async def completed(stage: Stage) -> None:
    """Every step succeeds."""
    await _placed(stage)
    await _authorized(stage)
    await stage.answers("confirm_order", OrderConfirmed(order_id=stage.key))
    await stage.answers("capture_payment", PaymentCaptured(order_id=stage.key, amount=PRICE))


async def card_declined(stage: Stage) -> None:
    """The first command is refused."""
    await _placed(stage)
    declined = PaymentFailed(order_id=stage.key, reason="card_declined", detail="the limit is 10.00 USD")
    await stage.answers("authorize_payment", declined)
    await stage.undone("place_order", OrderCanceled(order_id=stage.key))


async def out_of_stock(stage: Stage) -> None:
    """The pivot is refused, after the money was held."""
    await _placed(stage)
    await _authorized(stage)
    rejected = OrderRejected(order_id=stage.key, reason="out_of_stock", detail="no more of 8711")
    await stage.answers("confirm_order", rejected)
    await _undone(stage)


async def payment_silent(stage: Stage) -> None:
    """Nobody answers three times: in doubt, voided."""
    await _placed(stage)
    await stage.silence(3)
    await _undone(stage)


async def canceled_by_customer(stage: Stage) -> None:
    """The customer thinks better of it while the money is being held."""
    await _placed(stage)
    await stage.comes(OrderCancellationRequested(order_id=stage.key), "order")
    await _undone(stage)


async def stuck_void_resolved(stage: Stage) -> None:
    """The void is never answered; somebody calls the bank, and says so."""
    await _placed(stage)
    await _authorized(stage)
    await stage.answers("confirm_order", OrderRejected(order_id=stage.key, reason="out_of_stock"))
    await stage.silence(10)
    await stage.person(Action.RESOLVE, "the bank has voided auth-1, reference 77-12", "authorize_payment")
    await stage.undone("place_order", OrderCanceled(order_id=stage.key))


async def late_answers(stage: Stage) -> None:
    """The authorization comes when it has been given up, and a second one when all is over."""
    await _placed(stage)
    await stage.silence(3)
    await _authorized(stage)
    await _undone(stage)
    await _authorized(stage)


ORDERS: tuple[Callable[[Stage], Awaitable[None]], ...] = (
    completed,
    card_declined,
    out_of_stock,
    payment_silent,
    canceled_by_customer,
    stuck_void_resolved,
    late_answers,
)
