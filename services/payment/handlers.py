"""The payment participant: which command is answered by what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from contracts.payment import (
    AuthorizePayment,
    CapturePayment,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentFailed,
    PaymentRefunded,
    PaymentVoided,
    RefundPayment,
    VoidPayment,
)
from messaging.participant import Participant, RetryLater
from services.payment.domain import ContractViolation, objection
from services.payment.gateway import Declined, Gateway, GatewayRefused, GatewayUnclear
from services.payment.ledger import Ledger

NAME = "payment"

MARGIN = timedelta(seconds=1)
"""What a handler gets beyond the gateway's time limit, so that the gateway can say what it waited for."""


def participant(
    *,
    default_credit_limit: int,
    now: Callable[[], datetime],
    gateway: Gateway | None = None,
    gateway_time_limit: timedelta = timedelta(seconds=10),
) -> Participant:
    """The participant, on the ledger in its own database or, where one is given, on a gateway outside.

    `default_credit_limit` (minor units) is that of an account opened on demand; a gateway has its own limits.
    """
    ledger = Ledger(default_credit_limit=default_credit_limit, now=now)
    if gateway is None:
        return _on_ledger(ledger)
    return _on_gateway(gateway, ledger, gateway_time_limit + MARGIN)


def _on_ledger(ledger: Ledger) -> Participant:
    payment = Participant(NAME)

    @payment.handles_batch(AuthorizePayment)
    async def authorize(
        commands: Sequence[AuthorizePayment], db: AsyncSession
    ) -> Sequence[PaymentAuthorized | PaymentFailed | RetryLater]:
        return await ledger.authorize(commands, db)

    @payment.handles_batch(VoidPayment)
    async def void(commands: Sequence[VoidPayment], db: AsyncSession) -> Sequence[PaymentVoided]:
        return await ledger.void(commands, db)

    @payment.handles_batch(CapturePayment)
    async def capture(commands: Sequence[CapturePayment], db: AsyncSession) -> Sequence[PaymentCaptured]:
        return await ledger.capture(commands, db)

    @payment.handles_batch(RefundPayment)
    async def refund(commands: Sequence[RefundPayment], db: AsyncSession) -> Sequence[PaymentRefunded]:
        return await ledger.refund(commands, db)

    return payment


def _on_gateway(gateway: Gateway, ledger: Ledger, time_limit: timedelta) -> Participant:
    payment = Participant(NAME)

    async def record_void(command: VoidPayment, _answer: PaymentVoided, db: AsyncSession) -> None:
        await ledger.void([command], db)

    async def record_capture(command: CapturePayment, _answer: PaymentCaptured, db: AsyncSession) -> None:
        await ledger.capture([command], db)

    @payment.handles_outside(AuthorizePayment, time_limit=time_limit, record=ledger.record_authorization)
    async def authorize(command: AuthorizePayment, key: UUID) -> PaymentAuthorized | PaymentFailed:
        order_id = command.order_id
        refusal = objection(command)
        if refusal is not None:
            return refusal
        with _asking(order_id):
            answer = await gateway.authorize(order_id, command.customer_id, command.amount, key=key)
        if isinstance(answer, Declined):
            return PaymentFailed(order_id=order_id, reason=answer.reason, detail=answer.detail)
        return PaymentAuthorized(order_id=order_id, authorization_id=answer.authorization_id, amount=command.amount)

    @payment.handles_outside(VoidPayment, time_limit=time_limit, record=record_void)
    async def void(command: VoidPayment, key: UUID) -> PaymentVoided:
        with _asking(command.order_id):
            await gateway.void(command.order_id, key=key)
        return PaymentVoided(order_id=command.order_id)

    @payment.handles_outside(CapturePayment, time_limit=time_limit, record=record_capture)
    async def capture(command: CapturePayment, key: UUID) -> PaymentCaptured:
        with _asking(command.order_id):
            await gateway.capture(command.order_id, command.amount, key=key)
        return PaymentCaptured(order_id=command.order_id, amount=command.amount)

    @payment.handles_outside(RefundPayment, time_limit=time_limit, record=ledger.record_refund)
    async def refund(command: RefundPayment, key: UUID) -> PaymentRefunded:
        with _asking(command.order_id):
            amount = await gateway.refund(command.order_id, key=key)
        return PaymentRefunded(order_id=command.order_id, amount=amount)

    return payment


@contextmanager
def _asking(order_id: UUID) -> Iterator[None]:
    """What a gateway raises, in the participant kit's words."""
    try:
        yield
    except GatewayUnclear as error:
        raise RetryLater(str(error)) from error
    except GatewayRefused as error:
        raise ContractViolation(order_id, str(error)) from error
