"""What the payment service says and answers."""

from __future__ import annotations

from typing import Never
from uuid import UUID

from contracts.marks import Sensitive
from contracts.message import Command, Event
from contracts.money import Money


class PaymentAuthorized(Event, type="payment.authorized", key="order_id"):
    """The amount is held for this order until captured or voided."""

    order_id: UUID
    authorization_id: str
    amount: Money


class PaymentFailed(Event, type="payment.failed", key="order_id"):
    """The amount was refused; `reason` is a word for programs, `detail` a sentence for people."""

    order_id: UUID
    reason: str
    detail: str = ""


class AuthorizePayment(Command[PaymentAuthorized, PaymentFailed], type="payment.authorize", key="order_id"):
    """Hold the amount on the customer's account, or refuse."""

    order_id: UUID
    customer_id: Sensitive[str]
    amount: Money


class PaymentVoided(Event, type="payment.voided", key="order_id"):
    """Nothing is held for this order any more."""

    order_id: UUID


class VoidPayment(Command[PaymentVoided, Never], type="payment.void", key="order_id"):
    """Let go of what is held for this order; nothing to let go of is success."""

    order_id: UUID


class PaymentCaptured(Event, type="payment.captured", key="order_id"):
    """The held amount has moved from the customer to us."""

    order_id: UUID
    amount: Money


class CapturePayment(Command[PaymentCaptured, Never], type="payment.capture", key="order_id"):
    """Take the amount that is held for this order; cannot be refused, only repeated until it works."""

    order_id: UUID
    amount: Money


class PaymentRefunded(Event, type="payment.refunded", key="order_id"):
    """The captured amount has moved back to the customer."""

    order_id: UUID
    amount: Money


class RefundPayment(Command[PaymentRefunded, Never], type="payment.refund", key="order_id"):
    """Give back what was captured for this order; nothing captured is success with amount zero."""

    order_id: UUID
