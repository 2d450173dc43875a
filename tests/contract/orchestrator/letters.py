"""Dead letters as services announce them, for the tests of those who collect and redrive them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from messaging.bus import Delivery
from messaging.consumer import Batch
from messaging.dead_letters import DeadLetter, announcement
from messaging.envelope import CONTENT_TYPE
from messaging.outbox_rows import OutboxRow
from messaging.received import Received
from messaging.work import Work
from orchestrator.dead_letters import Collector
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.office import Office

LETTER = UUID(int=77)


def dead_letter(*, at: datetime = NOON, letter: UUID = LETTER, **changed: Any) -> DeadLetter:
    """A command that payment could not handle, but for what is changed."""
    told = DeadLetter(
        letter_id=letter,
        service="payment",
        queue="payment.commands",
        reason="handler_failed",
        error="ValueError: no gateway",
        message_id=str(UUID(int=7)),
        type="payment.authorize",
        correlation_id="saga-1",
        exchange="",
        routing_key="payment.authorize",
        properties='{"app_id": "orchestrator"}',
        body=b'{"specversion":"1.0"}',
        attempts=2,
        at=at,
    )
    return replace(told, **changed)


def announced(office: Office, row: OutboxRow) -> Delivery:
    """The announcement as it comes to the collector."""
    return office.raw(
        row.body.encode(),
        content_type=CONTENT_TYPE,
        message_id=str(row.message_id),
        type=row.type,
        exchange=row.exchange,
        routing_key=row.routing_key,
    )


async def collected(office: Office, *letters: DeadLetter) -> None:
    """These letters, announced by their services and collected by the orchestrator."""
    collector = Collector()
    told = [collector.read(announced(office, announcement(each))) for each in letters]
    async with office.database.transaction() as connection:
        work = Work(connection, office.clock.now(), "orchestrator", collector.name)
        await collector.handle(work, Batch(fresh=[each for each in told if isinstance(each, Received)]))
