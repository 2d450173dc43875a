"""What an order may do, and when stock suffices. Pure: knows no broker, no SQL, no clock.

                 confirm                complete
    placed ───────────────► confirmed ───────────────► completed
      │  stock of every line    │                          ▲
      │  is taken, or of none   │ cancel: stock goes back  │ complete: a person answered
      ▼                         ▼                          │ in the order's place
    canceled ◄──────────────────┘        placed ───────────┘

Every method may be called again: a repetition changes nothing and gives the same answer. What cannot be
done for a business reason is an answer (`OrderRejected`); what must never have been asked is an
`OrderConflict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from contracts.message import Event
from contracts.money import Money
from contracts.order import (
    OrderCanceled,
    OrderCancellationRequested,
    OrderConfirmed,
    OrderCreated,
    OrderRejected,
)

OUT_OF_STOCK = "out_of_stock"
CANCELED = "canceled"
UNKNOWN_ORDER = "unknown_order"


class OrderStatus(StrEnum):
    """Where an order is in its life."""

    PLACED = "placed"
    CONFIRMED = "confirmed"
    COMPLETED = "completed"
    CANCELED = "canceled"


class OrderConflict(Exception):
    """Somebody asked of an order what its contract rules out; a person must look, nobody may try again."""

    def __init__(self, order_id: UUID, problem: str) -> None:
        super().__init__(f"order {order_id}: {problem}")
        self.order_id = order_id


@dataclass(frozen=True, slots=True)
class Line:
    """So many of one sku; `amount` is the price of the whole line in minor units."""

    sku: str
    quantity: int
    amount: int

    def __post_init__(self) -> None:
        if not self.sku:
            raise ValueError("a line names a sku")
        if self.quantity < 1:
            raise ValueError(f"{self.sku}: quantity is {self.quantity}; at least 1 is ordered")
        if self.amount < 0:
            raise ValueError(f"{self.sku}: amount is {self.amount}; a line costs nothing or more")


class Stock:
    """What is on hand of the skus that matter now; `changed` is what has to be written back."""

    def __init__(self, on_hand: Mapping[str, int]) -> None:
        self._on_hand = dict(on_hand)
        self._before = dict(on_hand)

    @property
    def changed(self) -> dict[str, int]:
        """The skus whose number differs from the one this stock began with, and that number."""
        return {sku: now for sku, now in self._on_hand.items() if now != self._before.get(sku, 0)}

    def on_hand(self, sku: str) -> int:
        """How many there are; a sku nobody has heard of is simply not there."""
        return self._on_hand.get(sku, 0)

    def take(self, wanted: Mapping[str, int]) -> str | None:
        """Take all of it and return None, or take none of it and say which sku is short."""
        for sku, quantity in wanted.items():
            if quantity > self.on_hand(sku):
                return f"{sku}: {quantity} wanted, {self.on_hand(sku)} on hand"
        for sku, quantity in wanted.items():
            self._on_hand[sku] = self.on_hand(sku) - quantity
        return None

    def give_back(self, returned: Mapping[str, int]) -> None:
        """Put it on the shelf again."""
        for sku, quantity in returned.items():
            self._on_hand[sku] = self.on_hand(sku) + quantity


@dataclass(slots=True)
class Order:
    """An order and what has become of it.

    `captured` is what the customer has paid, in minor units of `currency`; None until the order is completed.
    `pending_events` is what has happened and nobody has been told yet.
    """

    id: UUID
    customer_id: str
    currency: str
    lines: tuple[Line, ...]
    status: OrderStatus = OrderStatus.PLACED
    reason: str | None = None
    captured: int | None = None
    pending_events: list[Event] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def place(cls, id: UUID, customer_id: str, currency: str, lines: Iterable[Line]) -> Order:
        """A new order; takes no stock yet. Raises ValueError where it has no line."""
        order = cls(id, customer_id, currency, tuple(lines))
        if not order.lines:
            raise ValueError("an order has at least one line")
        order.pending_events.append(
            OrderCreated(order_id=id, customer_id=customer_id, total=order.total, items=order.items)
        )
        return order

    @property
    def total(self) -> Money:
        """The price of all lines; zero is a price."""
        return Money(amount=sum(line.amount for line in self.lines), currency=self.currency)

    @property
    def items(self) -> int:
        """How many things were ordered."""
        return sum(line.quantity for line in self.lines)

    @property
    def wanted(self) -> dict[str, int]:
        """How many of each sku; two lines of one sku add up."""
        quantities: dict[str, int] = {}
        for line in self.lines:
            quantities[line.sku] = quantities.get(line.sku, 0) + line.quantity
        return quantities

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in (OrderStatus.COMPLETED, OrderStatus.CANCELED)

    def confirm(self, stock: Stock) -> OrderConfirmed | OrderRejected:
        """Take the stock of every line, or of none and say what is short."""
        match self.status:
            case OrderStatus.CONFIRMED | OrderStatus.COMPLETED:
                return OrderConfirmed(order_id=self.id)
            case OrderStatus.CANCELED:
                return OrderRejected(
                    order_id=self.id,
                    reason=CANCELED,
                    detail=f"canceled before it was confirmed: {self.reason}",
                )
            case OrderStatus.PLACED:
                shortage = stock.take(self.wanted)
                if shortage is not None:
                    return OrderRejected(order_id=self.id, reason=OUT_OF_STOCK, detail=shortage)
                self.status = OrderStatus.CONFIRMED
                return OrderConfirmed(order_id=self.id)

    def cancel(self, reason: str, stock: Stock) -> OrderCanceled:
        """Cancel it, and give its stock back if it holds any; the first reason stays.

        Raises OrderConflict when it is completed: the customer has paid, and what was sold does not come back
        by itself.
        """
        match self.status:
            case OrderStatus.COMPLETED:
                raise OrderConflict(
                    self.id, f"asked to cancel it ({reason}), but it is completed and paid; refund it instead"
                )
            case OrderStatus.CANCELED:
                return OrderCanceled(order_id=self.id)
            case OrderStatus.CONFIRMED:
                stock.give_back(self.wanted)
        self.status = OrderStatus.CANCELED
        self.reason = reason
        return OrderCanceled(order_id=self.id)

    def complete(self, captured: Money) -> None:
        """Note that it is paid.

        An order that was never confirmed is completed too: a person may have answered in its place, and
        what the customer has paid is true all the same. Raises OrderConflict when it is canceled, or was
        paid in another currency.
        """
        if captured.currency != self.currency:
            raise OrderConflict(self.id, f"{captured} was captured for an order in {self.currency}")
        if self.status is OrderStatus.CANCELED:
            raise OrderConflict(self.id, f"{captured} was captured, but it is canceled ({self.reason}); refund it")
        if self.status is OrderStatus.COMPLETED:
            return
        self.status = OrderStatus.COMPLETED
        self.captured = captured.amount

    def note_failure(self, reason: str) -> None:
        """Keep why it failed, where nothing was said before."""
        if self.reason is None and self.status is not OrderStatus.COMPLETED:
            self.reason = reason

    def request_cancellation(self) -> None:
        """The customer wants it canceled: said to whoever runs the saga, which decides.

        A canceled order needs no second cancellation. Raises OrderConflict when it is confirmed or completed:
        there is no way back by then.
        """
        if self.status is OrderStatus.CANCELED:
            return
        if self.status is not OrderStatus.PLACED:
            raise OrderConflict(self.id, f"it is {self.status} and can no longer be canceled")
        self.pending_events.append(OrderCancellationRequested(order_id=self.id))
