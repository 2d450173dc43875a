"""The `amends dead-letters` command, and letters for it to find."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.engine import Row
from typer.testing import CliRunner, Result

from contracts.message import Message
from contracts.money import Money
from contracts.order import OrderCanceled
from contracts.payment import AuthorizePayment, PaymentFailed
from messaging import schema
from messaging.clock import SystemClock
from messaging.database import Database
from messaging.dead_letters import DeadLetter, letter_id
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from orchestrator.cli.app import app
from orchestrator.saga.state import saga_id
from orchestrator.schema import collected_letter
from tests.contract.orchestrator.letters import dead_letter

SAGA = saga_id("fulfill_order", "A-1")
ORDER = UUID(int=4)
COMMAND, EVENT, OLD, GARBAGE, LARGE = (UUID(int=number) for number in (11, 12, 13, 14, 15))


def died(
    message: Message, id: UUID, *, queue: str, minutes: float, saga_id: str | None = None, **more: Any
) -> DeadLetter:
    """A letter of this message, that failed so many minutes ago."""
    service, now = queue.partition(".")[0], SystemClock().now()
    envelope = Envelope(id, message.wire_type, 1, "tester", now, saga_id, key=message.ordering_key)
    given: dict[str, Any] = {
        "letter": letter_id(str(id), service),
        "at": now - timedelta(minutes=minutes),
        "service": service,
        "queue": queue,
        "type": message.wire_type,
        "routing_key": message.wire_type,
        "message_id": str(id),
        "correlation_id": saga_id,
        "properties": json.dumps({"content_type": CONTENT_TYPE}),
        "body": encode(envelope, message).encode(),
    }
    return dead_letter(**given | more)


def five_letters() -> list[DeadLetter]:
    """Two services' letters: a command, events, one that is no text, and one too large to be announced whole."""
    money = Money(amount=1200, currency="USD")
    authorize = AuthorizePayment(order_id=ORDER, customer_id="c-1", amount=money)
    return [
        died(authorize, COMMAND, queue="payment.commands", minutes=10, saga_id=str(SAGA)),
        died(PaymentFailed(order_id=ORDER, reason="x"), EVENT, queue="order.events", minutes=20),
        died(
            PaymentFailed(order_id=ORDER, reason="y"),
            OLD,
            queue="order.events",
            minutes=300,
            reason="retries_exhausted",
        ),
        died(
            OrderCanceled(order_id=ORDER),
            GARBAGE,
            queue="order.events",
            minutes=30,
            reason="malformed",
            body=b"\xff\x00",
        ),
        died(
            OrderCanceled(order_id=ORDER),
            LARGE,
            queue="order.events",
            minutes=40,
            type="order.large",
            body=b'{"specversion":"1.0","id":"x","source":"s","type":"order.large","data":"' + b"x" * 70_000 + b'"}',
        ),
    ]


class Post:
    """The command and the database it looks at."""

    def __init__(self, url: str, database: Database) -> None:
        self.url = url
        self.database = database

    async def amends(self, *words: str, typed: str | None = None, **more: str) -> Result:
        """Run `amends dead-letters …`; `more` are further variables."""
        environment = {"DATABASE_URL": self.url, "COLUMNS": "140", "AMENDS_SAGAS": "orchestrator.sagas.fulfill_order"}
        environment |= more
        return await asyncio.to_thread(CliRunner().invoke, app, ["dead-letters", *words], input=typed, env=environment)

    async def listed(self, *words: str) -> list[int]:
        """Message ids of the listing, as numbers."""
        result = await self.amends("list", "--output", "json", *words)
        assert result.exit_code == 0, result.stderr
        return [UUID(each["message_id"]).int for each in json.loads(result.stdout)]

    async def outbox(self) -> list[Row[Any]]:
        """What is to leave."""
        async with self.database.reading() as connection:
            return list((await connection.execute(select(schema.outbox).order_by(schema.outbox.c.id))).all())

    async def states(self) -> dict[int, str]:
        """The state of every letter by its message's number."""
        async with self.database.reading() as connection:
            rows = (await connection.execute(select(collected_letter.c.message_id, collected_letter.c.state))).all()
        return {UUID(row.message_id).int: row.state for row in rows}
