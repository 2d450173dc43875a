"""From a placed order to a paid one, or to amends made.

The customer has placed the order when the saga starts. The money is held, the stock confirmed (the point of no return),
the money taken. Whatever fails before that gives the money back and cancels the order.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from contracts.fulfillment import FulfillmentCompleted, FulfillmentFailed
from contracts.marks import Sensitive
from contracts.money import Money
from contracts.order import (
    CancelOrder,
    ConfirmOrder,
    OrderCancellationRequested,
    OrderCreated,
    OrderRejected,
)
from contracts.payment import (
    AuthorizePayment,
    CapturePayment,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentFailed,
    VoidPayment,
)
from orchestrator.saga.definition import Saga
from orchestrator.saga.steps import PIVOT, RETRIABLE, Cancel, Retry, Start, Step, seconds


class Fulfillment(BaseModel):
    """What the saga knows of one order."""

    model_config = ConfigDict(frozen=True)

    order_id: UUID
    customer_id: Sensitive[str]
    total: Money
    authorization_id: str | None = None
    captured: Money | None = None
    failure: str = "unknown"


def begin(event: OrderCreated) -> Fulfillment:
    return Fulfillment(order_id=event.order_id, customer_id=event.customer_id, total=event.total)


def cancel(data: Fulfillment) -> CancelOrder:
    return CancelOrder(order_id=data.order_id, reason=data.failure)


def authorize(data: Fulfillment) -> AuthorizePayment:
    return AuthorizePayment(order_id=data.order_id, customer_id=data.customer_id, amount=data.total)


def authorized(data: Fulfillment, event: PaymentAuthorized) -> Fulfillment:
    return data.model_copy(update={"authorization_id": event.authorization_id})


def declined(data: Fulfillment, event: PaymentFailed) -> Fulfillment:
    return data.model_copy(update={"failure": event.reason})


def unanswered(data: Fulfillment) -> Fulfillment:
    return data.model_copy(update={"failure": "payment_timeout"})


def void(data: Fulfillment) -> VoidPayment:
    return VoidPayment(order_id=data.order_id)


def confirm(data: Fulfillment) -> ConfirmOrder:
    return ConfirmOrder(order_id=data.order_id)


def rejected(data: Fulfillment, event: OrderRejected) -> Fulfillment:
    return data.model_copy(update={"failure": event.reason})


def capture(data: Fulfillment) -> CapturePayment:
    return CapturePayment(order_id=data.order_id, amount=data.total)


def captured(data: Fulfillment, event: PaymentCaptured) -> Fulfillment:
    return data.model_copy(update={"captured": event.amount})


def withdrawn(data: Fulfillment, event: OrderCancellationRequested) -> Fulfillment:
    return data.model_copy(update={"failure": "canceled_by_customer"})


def fulfilled(data: Fulfillment) -> FulfillmentCompleted:
    return FulfillmentCompleted(order_id=data.order_id, captured=data.captured or data.total)


def failed(data: Fulfillment) -> FulfillmentFailed:
    return FulfillmentFailed(order_id=data.order_id, reason=data.failure)


def fulfill_order(
    *, timeout: timedelta = seconds(30), retry: Retry = Retry(attempts=3, backoff=seconds(2))
) -> Saga[Fulfillment]:
    """The saga, as patient with the payment service as `timeout` and `retry` say."""
    return Saga(
        name="fulfill_order",
        version=1,
        data=Fulfillment,
        starts_on=Start(OrderCreated, begin, key=lambda event: event.order_id),
        cancel_on=Cancel(OrderCancellationRequested, key=lambda event: event.order_id, on_event=withdrawn),
        steps=(
            Step("place_order", compensation=cancel),
            Step(
                "authorize_payment",
                authorize,
                on_success=authorized,
                on_failure=declined,
                on_in_doubt=unanswered,
                compensation=void,
                timeout=timeout,
                retry=retry,
            ),
            Step("confirm_order", confirm, kind=PIVOT, on_failure=rejected),
            Step("capture_payment", capture, kind=RETRIABLE, on_success=captured),
        ),
        on_completed=fulfilled,
        on_compensated=failed,
        search=("customer_id",),
    )


FULFILL_ORDER = fulfill_order()
