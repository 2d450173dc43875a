"""Payments in this service's own database: a whole batch inside the batch's transaction.

Also the bookkeeping of a gateway: what it did is written down by the same domain and in the same journal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import structlog
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
from messaging.participant import RetryLater
from services.payment.domain import (
    Account,
    Authorization,
    ContractViolation,
    PutOff,
    Status,
    objection,
)
from services.payment.store import close_books, open_books


class Ledger:
    """Decides batches of commands, each call in the transaction of the session it is given.

    Accounts that are not there are opened with `default_credit_limit`, minor units of the order's currency.
    Every call raises ContractViolation where a command asks for what cannot be; nothing is written then.
    """

    def __init__(self, *, default_credit_limit: int, now: Callable[[], datetime]) -> None:
        self._default_credit_limit = default_credit_limit
        self._now = now

    async def authorize(
        self, commands: Sequence[AuthorizePayment], db: AsyncSession
    ) -> list[PaymentAuthorized | PaymentFailed | RetryLater]:
        """Hold each amount, in this order: the second command of a customer sees what the first one took."""
        now = self._now()
        books = await open_books(db, [each.order_id for each in commands], self._accounts_for(commands), now=now)
        answers = [books.authorize(each, now) for each in commands]
        await close_books(db, books, now=now)
        return [_later(each) if isinstance(each, PutOff) else each for each in answers]

    async def void(self, commands: Sequence[VoidPayment], db: AsyncSession) -> list[PaymentVoided]:
        """Let go of each hold."""
        now = self._now()
        books = await open_books(db, [each.order_id for each in commands], now=now)
        answers = [books.void(each) for each in commands]
        await close_books(db, books, now=now)
        return answers

    async def capture(self, commands: Sequence[CapturePayment], db: AsyncSession) -> list[PaymentCaptured]:
        """Take each held amount."""
        now = self._now()
        books = await open_books(db, [each.order_id for each in commands], now=now)
        answers = [books.capture(each) for each in commands]
        await close_books(db, books, now=now)
        return answers

    async def refund(self, commands: Sequence[RefundPayment], db: AsyncSession) -> list[PaymentRefunded]:
        """Give back each captured amount."""
        now = self._now()
        books = await open_books(db, [each.order_id for each in commands], now=now)
        answers = [books.refund(each) for each in commands]
        await close_books(db, books, now=now)
        return answers

    async def record_authorization(
        self,
        command: AuthorizePayment,
        answer: PaymentAuthorized | PaymentFailed,
        db: AsyncSession,
    ) -> None:
        """Write down what a gateway answered. A refusal moves nothing and leaves no row."""
        if isinstance(answer, PaymentFailed):
            return
        now = self._now()
        books = await open_books(db, [command.order_id], self._accounts_for([command]), now=now)
        books.hold(command, answer.authorization_id)
        held = books.known(command.order_id)
        if not (isinstance(held, Authorization) and held.status in (Status.HELD, Status.CAPTURED)):
            structlog.get_logger().warning(
                "authorization_already_voided",
                order_id=str(command.order_id),
                authorization_id=answer.authorization_id,
            )
        await close_books(db, books, now=now)

    async def record_refund(self, command: RefundPayment, answer: PaymentRefunded, db: AsyncSession) -> None:
        """Write down a gateway's refund. Raises ContractViolation where our journal knows another amount."""
        (ours,) = await self.refund([command], db)
        if ours.amount.amount != answer.amount.amount:
            raise ContractViolation(
                command.order_id,
                f"the gateway gave back {answer.amount}, but {ours.amount} is captured in our journal; "
                "compare the two and write the difference off by hand",
            )

    def _accounts_for(self, commands: Sequence[AuthorizePayment]) -> list[Account]:
        return [
            Account(each.customer_id, each.amount.currency, self._default_credit_limit)
            for each in commands
            if objection(each) is None
        ]


def _later(put_off: PutOff) -> RetryLater:
    return RetryLater(put_off.reason, after=put_off.after, attempts=put_off.attempts, otherwise=put_off.otherwise)
