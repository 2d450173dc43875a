"""What the order service's HTTP interface takes and gives: the shapes of its JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StringConstraints

from services.order.domain import Line, Order, OrderStatus
from services.order.store import StoredOrder

MAX_LINES = 100
MAX_AMOUNT = 2**53 - 1
"""Minor units of one line: what JavaScript reads exactly, and a hundred of them still fit a BIGINT."""

_PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
_VISIBLE_ASCII = r"^[\x21-\x7e]+$"
_CURRENCY = r"^[A-Z]{3}$"

PATTERNS_IN_WORDS = {
    _PRINTABLE: "must not contain control characters",
    _VISIBLE_ASCII: "may only contain visible ASCII characters",
    _CURRENCY: "must be three capital letters, like USD",
}
"""What people read instead of a regular expression."""

CustomerId = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PRINTABLE)]
Sku = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_PRINTABLE)]
IdempotencyKey = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=_VISIBLE_ASCII)]


class NewLine(BaseModel):
    """One line of an order."""

    model_config = ConfigDict(extra="forbid")

    sku: Sku = Field(description="What is ordered.", examples=["CD"])
    quantity: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = Field(description="How many of it.", examples=[2])
    amount: Annotated[StrictInt, Field(ge=0, le=MAX_AMOUNT)] = Field(
        description="The price of the whole line in minor units (cents).", examples=[2933]
    )


class NewOrder(BaseModel):
    """An order as a customer sends it."""

    model_config = ConfigDict(extra="forbid")

    customer_id: CustomerId = Field(description="Who orders and pays.", examples=["00004"])
    currency: Annotated[str, StringConstraints(pattern=_CURRENCY)] = Field(
        description="ISO 4217 code of all amounts.", examples=["USD"]
    )
    lines: Annotated[list[NewLine], Field(min_length=1, max_length=MAX_LINES)] = Field(
        description=f"What is ordered: 1 to {MAX_LINES} lines."
    )

    def as_order(self, order_id: UUID) -> Order:
        """The new aggregate, which has recorded that it was created."""
        lines = [Line(line.sku, line.quantity, line.amount) for line in self.lines]
        return Order.place(order_id, self.customer_id, self.currency, lines)


class OrderSummary(BaseModel):
    """An order in a listing."""

    id: UUID
    customer_id: str = Field(examples=["00004"])
    currency: str = Field(examples=["USD"])
    total: int = Field(description="Price of all lines in minor units.", examples=[2933])
    items: int = Field(description="How many things were ordered.", examples=[2])
    status: OrderStatus
    reason: str | None = Field(description="Why it was canceled; null as long as it was not.")
    captured: int | None = Field(description="What the customer has paid in minor units; null until completed.")
    placed_at: datetime

    @classmethod
    def of(cls, stored: StoredOrder) -> OrderSummary:
        return cls.model_validate(_fields(stored))


class LineView(BaseModel):
    """A line of an order."""

    sku: str = Field(examples=["CD"])
    quantity: int = Field(examples=[2])
    amount: int = Field(description="The price of the whole line in minor units.", examples=[2933])


class OrderView(OrderSummary):
    """An order with its lines."""

    lines: list[LineView]

    @classmethod
    def of(cls, stored: StoredOrder) -> OrderView:
        lines = [{"sku": line.sku, "quantity": line.quantity, "amount": line.amount} for line in stored.order.lines]
        return cls.model_validate({**_fields(stored), "lines": lines})


class OrderPage(BaseModel):
    """Some orders, in the order they were placed."""

    orders: list[OrderSummary]
    next: str | None = Field(description="Where the following orders are (a relative URL); null on the last page.")


class OrderQuery(BaseModel):
    """Which orders to list."""

    model_config = ConfigDict(extra="forbid")

    status: OrderStatus | None = Field(default=None, description="Only orders in this state.")
    customer_id: CustomerId | None = Field(default=None, description="Only this customer's orders.")
    limit: int = Field(default=100, ge=1, le=1000, description="At most so many.")
    after: UUID | None = Field(default=None, description="Only orders behind this id; how one page follows another.")


class Cancellation(BaseModel):
    """The wish to cancel an order has been noted; what comes of it shows in the order."""

    order_id: UUID
    status: OrderStatus = Field(description="The order's state when the wish was noted.")


class StockLevel(BaseModel):
    """How many of a sku are on hand."""

    model_config = ConfigDict(extra="forbid")

    on_hand: Annotated[StrictInt, Field(ge=0, le=MAX_AMOUNT)] = Field(examples=[100])


def _fields(stored: StoredOrder) -> dict[str, object]:
    order = stored.order
    return {
        "id": order.id,
        "customer_id": order.customer_id,
        "currency": order.currency,
        "total": stored.total,
        "items": stored.items,
        "status": order.status,
        "reason": order.reason,
        "captured": order.captured,
        "placed_at": stored.placed_at,
    }
