"""The payment participant, called as the participant kit calls it, and the words its tests are written in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from contracts.message import Command, Event
from contracts.money import Money
from contracts.payment import AuthorizePayment, PaymentAuthorized
from messaging.database import Database
from messaging.participant import Handler, RetryLater
from services.payment.domain import authorization_id
from services.payment.gateway import Gateway
from services.payment.handlers import participant

HISTORY = "services.payment:migrations"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LIMIT = 1000
PATIENT = timedelta(seconds=30)
HASTY = timedelta(seconds=0.3)


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        """The moment it stands at."""
        return self.moment


class Service:
    """The payment participant on a database, called as the participant kit calls it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.clock = clock
        self._participant = participant(default_credit_limit=LIMIT, now=clock.now)

    async def send(self, *commands: Command[Any, Any]) -> list[Event | RetryLater]:
        """One batch of commands of one type, in one transaction."""
        handler = self._participant.handlers[commands[0].wire_type]
        async with self.database.session() as db:
            return list(await handler.call(commands, db))


class Outside:
    """The payment participant on a gateway, called as the participant kit calls it."""

    def __init__(self, gateway: Gateway, database: Database) -> None:
        self._database = database
        self.handlers = participant(
            default_credit_limit=1000, now=Clock().now, gateway=gateway, database=database
        ).handlers

    async def ask(self, command: Command[Any, Any], key: UUID) -> Event:
        """Only the call, as before a crash."""
        answer = await self._handler(command).call(command, key)
        assert isinstance(answer, Event)
        return answer

    async def send(self, command: Command[Any, Any], key: UUID) -> Event:
        """The call, and its record in the transaction of the answer."""
        answer = await self.ask(command, key)
        record = self._handler(command).record
        assert record is not None
        async with self._database.session() as db:
            await record(command, answer, db)
        return answer

    def _handler(self, command: Command[Any, Any]) -> Handler:
        return self.handlers[command.wire_type]


def usd(amount: int) -> Money:
    """Minor units of US dollars."""
    return Money(amount=amount, currency="USD")


def ask(amount: int, order_id: UUID | None = None, customer_id: str = "ann") -> AuthorizePayment:
    """The command to authorize, for a new order where none is named."""
    return AuthorizePayment(order_id=order_id or uuid4(), customer_id=customer_id, amount=usd(amount))


def authorized(command: AuthorizePayment) -> PaymentAuthorized:
    """The answer to a command that was granted."""
    return PaymentAuthorized(
        order_id=command.order_id,
        authorization_id=authorization_id(command.order_id),
        amount=command.amount,
    )
