"""What the order service says and answers."""

from __future__ import annotations

from typing import Annotated, Never
from uuid import UUID

from pydantic import Field, StrictInt

from contracts.marks import Sensitive
from contracts.message import Command, Event
from contracts.money import Money


class OrderCreated(Event, type="order.created", key="order_id"):
    """A customer has placed an order; stock is not promised yet."""

    order_id: UUID
    customer_id: Sensitive[str]
    total: Money
    items: Annotated[StrictInt, Field(ge=1)]


class OrderConfirmed(Event, type="order.confirmed", key="order_id"):
    """Every line was in stock and is now reserved."""

    order_id: UUID


class OrderRejected(Event, type="order.rejected", key="order_id"):
    """The order cannot be fulfilled; `reason` is a word for programs, `detail` a sentence for people."""

    order_id: UUID
    reason: str
    detail: str = ""


class ConfirmOrder(Command[OrderConfirmed, OrderRejected], type="order.confirm", key="order_id"):
    """Reserve the stock of every line, or refuse."""

    order_id: UUID


class OrderCanceled(Event, type="order.canceled", key="order_id"):
    """The order is canceled and holds no stock."""

    order_id: UUID


class CancelOrder(Command[OrderCanceled, Never], type="order.cancel", key="order_id"):
    """Cancel the order and give back its stock; cannot be refused."""

    order_id: UUID
    reason: str


class OrderCancellationRequested(Event, type="order.cancellation_requested", key="order_id"):
    """The customer wants the order canceled; heeded until the order is sent for confirmation."""

    order_id: UUID
