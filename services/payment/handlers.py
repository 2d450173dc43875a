"""The payment participant: which command is answered by what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

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
from messaging.database import Database
from messaging.participant import Participant, RetryLater
from services.payment.asking import GatewayDesk
from services.payment.gateway import Gateway
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
    database: Database | None = None,
) -> Participant:
    """The participant, on the ledger in its own database or, where one is given, on a gateway outside.

    `default_credit_limit` (minor units) is that of an account opened on demand; a gateway has its own limits.
    `database` is where the gateway's journal is kept: there a void or refund, which names no amount, finds out
    that its order is one of zero and no gateway's business. Without it the gateway is asked.
    """
    ledger = Ledger(default_credit_limit=default_credit_limit, now=now)
    if gateway is None:
        return _on_ledger(ledger)
    return _on_gateway(GatewayDesk(gateway, database), ledger, gateway_time_limit + MARGIN)


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


def _on_gateway(desk: GatewayDesk, ledger: Ledger, time_limit: timedelta) -> Participant:
    payment = Participant(NAME)

    async def record_void(command: VoidPayment, _answer: PaymentVoided, db: AsyncSession) -> None:
        await ledger.void([command], db)

    async def record_capture(command: CapturePayment, _answer: PaymentCaptured, db: AsyncSession) -> None:
        await ledger.capture([command], db)

    payment.handles_outside(AuthorizePayment, time_limit=time_limit, record=ledger.record_authorization)(desk.authorize)
    payment.handles_outside(VoidPayment, time_limit=time_limit, record=record_void)(desk.void)
    payment.handles_outside(CapturePayment, time_limit=time_limit, record=record_capture)(desk.capture)
    payment.handles_outside(RefundPayment, time_limit=time_limit, record=ledger.record_refund)(desk.refund)
    return payment
