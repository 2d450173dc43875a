"""A gateway's part of each command: what it is asked, and what it is never asked.

An order of zero is no gateway's business, because gateways refuse to hold, take or give back nothing: it is
answered here and only recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard
from uuid import UUID

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
from messaging.database import DATABASE_ERRORS, Database, in_words, is_transient
from messaging.participant import RetryLater
from services.payment.domain import (
    Authorization,
    ContractViolation,
    Tombstone,
    authorization_id,
    authorize_again,
    objection,
)
from services.payment.gateway import Declined, Gateway, GatewayRefused, GatewayUnclear
from services.payment.store import authorization_of


class GatewayDesk:
    """Answers commands with what `gateway` says, outside any transaction; what was answered others record.

    `database` is where it is recorded: there a void or refund, which names no amount, finds out that its order
    is one of zero. Without it the gateway is asked. Every call raises RetryLater where the outcome is unknown
    and ContractViolation where the gateway says that this must never have been asked.
    """

    def __init__(self, gateway: Gateway, database: Database | None) -> None:
        self._gateway = gateway
        self._database = database

    async def authorize(self, command: AuthorizePayment, key: UUID) -> PaymentAuthorized | PaymentFailed:
        """Hold the amount, or refuse."""
        order_id = command.order_id
        refusal = objection(command)
        if refusal is not None:
            return refusal
        known = await self._known(order_id)
        # Neither may a hold hide behind an order that is known to be of zero: its void would not reach it.
        if command.amount.amount == 0 or _of_zero(known):
            return _authorize_here(command, known)
        with _asking(order_id):
            answer = await self._gateway.authorize(order_id, command.customer_id, command.amount, key=key)
        if isinstance(answer, Declined):
            return PaymentFailed(order_id=order_id, reason=answer.reason, detail=answer.detail)
        return PaymentAuthorized(order_id=order_id, authorization_id=answer.authorization_id, amount=command.amount)

    async def void(self, command: VoidPayment, key: UUID) -> PaymentVoided:
        """Let go of what is held."""
        if not _of_zero(await self._known(command.order_id)):
            with _asking(command.order_id):
                await self._gateway.void(command.order_id, key=key)
        return PaymentVoided(order_id=command.order_id)

    async def capture(self, command: CapturePayment, key: UUID) -> PaymentCaptured:
        """Take what is held. Whether zero is what was authorized, the journal finds out when it is recorded."""
        if command.amount.amount != 0:
            with _asking(command.order_id):
                await self._gateway.capture(command.order_id, command.amount, key=key)
        return PaymentCaptured(order_id=command.order_id, amount=command.amount)

    async def refund(self, command: RefundPayment, key: UUID) -> PaymentRefunded:
        """Give back what was captured."""
        known = await self._known(command.order_id)
        if _of_zero(known):
            return PaymentRefunded(order_id=command.order_id, amount=known.amount)
        with _asking(command.order_id):
            amount = await self._gateway.refund(command.order_id, key=key)
        return PaymentRefunded(order_id=command.order_id, amount=amount)

    async def _known(self, order_id: UUID) -> Authorization | Tombstone | None:
        if self._database is None:
            return None
        try:
            async with self._database.reading() as connection:
                return await authorization_of(connection, order_id)
        except DATABASE_ERRORS as error:
            if not is_transient(error):
                raise
            raise RetryLater(f"what is known of order {order_id} cannot be read: {in_words(error)}") from error


def _of_zero(known: Authorization | Tombstone | None) -> TypeGuard[Authorization]:
    return isinstance(known, Authorization) and known.amount.amount == 0


def _authorize_here(
    command: AuthorizePayment, known: Authorization | Tombstone | None
) -> PaymentAuthorized | PaymentFailed:
    if known is not None:
        return authorize_again(command, known)
    return PaymentAuthorized(
        order_id=command.order_id, authorization_id=authorization_id(command.order_id), amount=command.amount
    )


@contextmanager
def _asking(order_id: UUID) -> Iterator[None]:
    """What a gateway raises, in the participant kit's words."""
    try:
        yield
    except GatewayUnclear as error:
        raise RetryLater(str(error)) from error
    except GatewayRefused as error:
        raise ContractViolation(order_id, str(error)) from error
