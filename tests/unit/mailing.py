"""A saga that is told who somebody is: it has a receipt sent to an address that it cannot read."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from contracts import SENSITIVE, Carried, Command, Event, Personal, Sensitive
from orchestrator import PIVOT, Saga, Start, Step


class Parcel(BaseModel):
    """One of those that were ordered."""

    model_config = ConfigDict(frozen=True)

    weight: int
    recipient: Sensitive[str]


class Ordered(Event, type="shop.ordered", key="order_id", subject="customer_id"):
    """Somebody has ordered something."""

    order_id: UUID
    customer_id: str
    email: Personal[str]
    phone: Annotated[str | None, Field(max_length=20), SENSITIVE] = None
    parcels: tuple[Parcel, ...] = ()
    greeting: str = "hello"


class ReceiptSent(Event, type="mail.receipt_sent", key="order_id", subject="customer_id"):
    """It is on its way."""

    order_id: UUID
    customer_id: str
    server: Personal[str]


class ReceiptRefused(Event, type="mail.receipt_refused", key="order_id"):
    """There is nobody to send it to."""

    order_id: UUID
    reason: str


class SendReceipt(
    Command[ReceiptSent, ReceiptRefused], type="mail.send_receipt", key="order_id", subject="customer_id"
):
    """Tell somebody what was ordered."""

    order_id: UUID
    customer_id: str
    to: Annotated[Personal[str], Carried("shop.ordered", "email")]


class OrderTold(Event, type="told.ordered", key="order_id"):
    """The end of it."""

    order_id: UUID


class Mailing(BaseModel):
    """What the saga knows."""

    model_config = ConfigDict(frozen=True)

    order_id: UUID
    customer_id: str
    email: Personal[str]
    server: Personal[str] | None = None


def begin(event: Ordered) -> Mailing:
    """The order, and where to write to."""
    return Mailing(order_id=event.order_id, customer_id=event.customer_id, email=event.email)


def send(data: Mailing) -> SendReceipt:
    """The address goes on as it came."""
    return SendReceipt(order_id=data.order_id, customer_id=data.customer_id, to=data.email)


def sent(data: Mailing, event: ReceiptSent) -> Mailing:
    """Who has taken it."""
    return data.model_copy(update={"server": event.server})


def told(data: Mailing) -> OrderTold:
    """It is done."""
    return OrderTold(order_id=data.order_id)


def mailing(**changed: Any) -> Saga[Mailing]:
    """The saga, with some of it said otherwise."""
    given: dict[str, Any] = {
        "name": "mailing",
        "version": 1,
        "data": Mailing,
        "starts_on": Start(Ordered, begin, key=lambda event: event.order_id),
        "steps": (Step("send_receipt", send, on_success=sent, kind=PIVOT),),
        "on_completed": told,
        "search": ("customer_id",),
    }
    return Saga(**(given | changed))


MAILING = mailing()
