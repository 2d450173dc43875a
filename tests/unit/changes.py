"""Copies of fulfill_order, each with one deliberate change, as a developer might make it without a new version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Never
from uuid import UUID

from contracts.message import Command, Event
from contracts.money import Money
from contracts.order import CancelOrder, OrderCreated
from contracts.payment import AuthorizePayment, PaymentAuthorized
from orchestrator import PIVOT, RETRIABLE, Retry, Saga, Start, Step, seconds
from orchestrator.sagas import fulfill_order as shipped
from orchestrator.sagas.fulfill_order import FULFILL_ORDER, Fulfillment


class Cleared(Event, type="fraud.cleared", key="order_id"):
    """Nothing is suspicious."""

    order_id: UUID


class Suspected(Event, type="fraud.suspected", key="order_id"):
    """Something is."""

    order_id: UUID
    reason: str


class CheckFraud(Command[Cleared, Suspected], type="fraud.check", key="order_id"):
    """Look at the order."""

    order_id: UUID


class ReceiptSent(Event, type="mail.receipt_sent", key="order_id"):
    """It is on its way."""

    order_id: UUID


class SendReceipt(Command[ReceiptSent, Never], type="mail.send_receipt", key="order_id"):
    """Send a receipt."""

    order_id: UUID


class Reserved(Event, type="payment.reserved", key="order_id"):
    """The new answer."""

    order_id: UUID


class ReservePayment(Command[Reserved, Never], type="payment.reserve", key="order_id"):
    """The new name for it."""

    order_id: UUID


class AuthorizeOrAsk(Command[PaymentAuthorized, Suspected], type="payment.authorize", key="order_id"):
    """The same command, whose refusal is another event."""

    order_id: UUID
    customer_id: str
    amount: Money


# -- functions of the changed copies -------------------------------------------------------------------------


def begin_stumbling(event: OrderCreated) -> Fulfillment:
    """A customer id of one kind is taken apart, those of the other were forgotten."""
    region, _ = event.customer_id.split("/")
    return Fulfillment(order_id=event.order_id, customer_id=region, total=event.total)


def authorize_with_a_fee(data: Fulfillment) -> AuthorizePayment:
    """Half a dollar more."""
    return AuthorizePayment(
        order_id=data.order_id,
        customer_id=data.customer_id,
        amount=Money(amount=data.total.amount + 50, currency=data.total.currency),
    )


def authorized_without_its_id(data: Fulfillment, event: PaymentAuthorized) -> Fulfillment:
    """Nobody needs it, somebody thought."""
    return data


def cancel_kindly(data: Fulfillment) -> CancelOrder:
    """With another reason."""
    return CancelOrder(order_id=data.order_id, reason=f"sorry: {data.failure}")


def reserve(data: Fulfillment) -> ReservePayment:
    """Another command."""
    return ReservePayment(order_id=data.order_id)


def authorize_or_ask(data: Fulfillment) -> AuthorizeOrAsk:
    """The same on the wire."""
    return AuthorizeOrAsk(order_id=data.order_id, customer_id=data.customer_id, amount=data.total)


def check(data: Fulfillment) -> CheckFraud:
    """Before the money is held."""
    return CheckFraud(order_id=data.order_id)


def receipt(data: Fulfillment) -> SendReceipt:
    """When all is paid."""
    return SendReceipt(order_id=data.order_id)


# -- the steps as they ship, to be changed -------------------------------------------------------------------

PLACE = Step("place_order", compensation=shipped.cancel)
CONFIRM = Step("confirm_order", shipped.confirm, kind=PIVOT, on_failure=shipped.rejected)
CAPTURE = Step("capture_payment", shipped.capture, kind=RETRIABLE, on_success=shipped.captured)


def authorize(name: str = "authorize_payment", **changed: Any) -> Step[Fulfillment]:
    """The step that holds the money, changed."""
    given: dict[str, Any] = {
        "action": shipped.authorize,
        "on_success": shipped.authorized,
        "on_failure": shipped.declined,
        "on_in_doubt": shipped.unanswered,
        "compensation": shipped.void,
        "timeout": seconds(30),
        "retry": Retry(attempts=3, backoff=seconds(2)),
    }
    return Step(name, **given | changed)


def order_saga(*steps: Step[Fulfillment], **changed: Any) -> Saga[Fulfillment]:
    """The saga of the same name and version, changed."""
    given: dict[str, Any] = {
        "starts_on": FULFILL_ORDER.starts_on,
        "cancel_on": FULFILL_ORDER.cancel_on,
        "on_completed": FULFILL_ORDER.on_completed,
        "on_compensated": FULFILL_ORDER.on_compensated,
    }
    steps = steps or (PLACE, authorize(), CONFIRM, CAPTURE)
    return Saga(name="fulfill_order", version=1, data=Fulfillment, steps=steps, **given | changed)


@dataclass(frozen=True)
class Change:
    """What a developer did, and the copy in which they did it."""

    words: str
    make: Callable[[], Saga[Fulfillment]]


CONFIRM_FIRST = Step("confirm_order", shipped.confirm, on_failure=shipped.rejected, compensation=shipped.cancel)

CHANGES = {
    "nothing": Change("nothing but the layout", order_saga),
    "reorder": Change(
        "confirm the order before the money is held",
        lambda: order_saga(PLACE, CONFIRM_FIRST, authorize(kind=PIVOT, compensation=None, on_in_doubt=None), CAPTURE),
    ),
    "rename": Change(
        "call `authorize_payment` `hold_payment`",
        lambda: order_saga(PLACE, authorize("hold_payment"), CONFIRM, CAPTURE),
    ),
    "drop_compensation": Change(
        "drop the compensation of `authorize_payment`",
        lambda: order_saga(PLACE, authorize(compensation=None), CONFIRM, CAPTURE),
    ),
    "amount": Change(
        "authorize half a dollar more",
        lambda: order_saga(PLACE, authorize(action=authorize_with_a_fee), CONFIRM, CAPTURE),
    ),
    "add_before_pivot": Change(
        "add `check_fraud` before the money is held",
        lambda: order_saga(PLACE, Step("check_fraud", check), authorize(), CONFIRM, CAPTURE),
    ),
    "add_after_pivot": Change(
        "add `send_receipt` at the end",
        lambda: order_saga(PLACE, authorize(), CONFIRM, CAPTURE, Step("send_receipt", receipt, kind=RETRIABLE)),
    ),
    "timeout": Change(
        "`timeout=seconds(45)` for `authorize_payment`",
        lambda: order_saga(PLACE, authorize(timeout=seconds(45)), CONFIRM, CAPTURE),
    ),
    "more_attempts": Change(
        "`Retry(attempts=5)` for `authorize_payment`",
        lambda: order_saga(PLACE, authorize(retry=Retry(attempts=5, backoff=seconds(2))), CONFIRM, CAPTURE),
    ),
    "fewer_attempts": Change(
        "`Retry(attempts=2)` for `authorize_payment`",
        lambda: order_saga(PLACE, authorize(retry=Retry(attempts=2, backoff=seconds(2))), CONFIRM, CAPTURE),
    ),
    "remove": Change("remove `capture_payment`", lambda: order_saga(PLACE, authorize(), CONFIRM)),
    "stores_less": Change(
        "an `on_success` that no longer stores the authorization's id",
        lambda: order_saga(PLACE, authorize(on_success=authorized_without_its_id), CONFIRM, CAPTURE),
    ),
    "begin_raises": Change(
        "a `begin` that expects another form of customer id",
        lambda: order_saga(starts_on=Start(OrderCreated, begin_stumbling, key=lambda event: event.order_id)),
    ),
    "no_cancel_on": Change("remove `cancel_on`", lambda: order_saga(cancel_on=None)),
    "other_refusal": Change(
        "`payment.authorize` is refused with another event",
        lambda: order_saga(PLACE, authorize(action=authorize_or_ask, on_failure=None), CONFIRM, CAPTURE),
    ),
    "other_command": Change(
        "send `payment.reserve` instead of `payment.authorize`",
        lambda: order_saga(PLACE, authorize(action=reserve, on_success=None, on_failure=None), CONFIRM, CAPTURE),
    ),
    "no_failure_kept": Change(
        "an `on_failure` that no longer stores why the card was declined",
        lambda: order_saga(PLACE, authorize(on_failure=None), CONFIRM, CAPTURE),
    ),
    "compensation_text": Change(
        "cancel orders with another reason",
        lambda: order_saga(Step("place_order", compensation=cancel_kindly), authorize(), CONFIRM, CAPTURE),
    ),
    "no_announcement": Change("remove `on_completed`", lambda: order_saga(on_completed=None)),
    "skips": Change(
        "skip `authorize_payment` for small orders",
        lambda: order_saga(PLACE, authorize(when=lambda data: data.total.amount > 5000), CONFIRM, CAPTURE),
    ),
    "key": Change(
        "instances keyed by customer",
        lambda: order_saga(starts_on=Start(OrderCreated, shipped.begin, key=lambda event: event.customer_id)),
    ),
}
