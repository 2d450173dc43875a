"""Whose word about dead letters counts, where senders are looked at."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.engine import Row

from messaging.bus import Delivery
from messaging.database import Database
from messaging.dead_letters import DeadLetter, announcement, resolution
from messaging.envelope import CONTENT_TYPE
from messaging.outbox_rows import OutboxRow
from messaging.senders import Senders
from orchestrator.dead_letters import Collector
from orchestrator.schema import collected_letter
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.conftest import make_tables
from tests.contract.orchestrator.letters import LETTER, announced, dead_letter
from tests.contract.orchestrator.office import Office


@pytest.fixture
async def office(database_url: str) -> AsyncIterator[Office]:
    """A collector that looks at senders."""
    database = Database(database_url)
    await make_tables(database)
    office = Office(database)
    await office.serve(Collector(Senders()))
    yield office
    await office.close()


def _from(user: str | None, office: Office, row: OutboxRow) -> Delivery:
    return replace(announced(office, row), user_id=user)


async def _collected(office: Office) -> list[tuple[Any, ...]]:
    rows: list[Row[Any]] = await office.rows(collected_letter)
    return sorted((row.service, row.reason, row.state, row.failures) for row in rows)


async def test_a_service_tells_of_its_own_letters_only(office: Office) -> None:
    """What order tells of payment's is kept as what it is: something that order may not say."""
    await office.handle(_from("order", office, announcement(dead_letter())))
    assert await _collected(office) == [("order", "forbidden_sender", "open", 1)]
    (kept,) = await office.rows(collected_letter)
    assert "it tells of a dead letter of payment: user 'order' may not say payment; that is for 'payment'" in kept.error

    await office.handle(_from("payment", office, announcement(dead_letter())))
    await office.handle(_from("order", office, resolution(LETTER, "payment", NOON + timedelta(hours=1))))
    assert await _collected(office) == [
        ("order", "forbidden_sender", "open", 1),
        ("order", "forbidden_sender", "open", 1),
        ("payment", "handler_failed", "open", 1),
    ]
    await office.handle(_from("payment", office, resolution(LETTER, "payment", NOON + timedelta(hours=1))))
    assert ("payment", "handler_failed", "handled", 1) in await _collected(office)


async def test_a_service_does_not_change_anothers_letter(office: Office) -> None:
    """Told under the other's id, it is a letter beside that; nor does it settle that."""
    mine: DeadLetter = dead_letter()
    await office.handle(_from("payment", office, announcement(mine)))
    theirs = dead_letter(service="order", queue="order.events", body=b"forged", at=NOON + timedelta(hours=1))
    await office.handle(_from("order", office, announcement(theirs)), _from("order", office, announcement(theirs)))
    await office.handle(_from("order", office, resolution(LETTER, "order", NOON + timedelta(hours=2))))

    rows = {row.service: (row.id == LETTER, row.body, row.state) for row in await office.rows(collected_letter)}
    assert rows == {"payment": (True, '{"specversion":"1.0"}', "open"), "order": (False, "forged", "open")}


async def test_a_letter_of_ones_own_did_not_die_in_anothers_queue(office: Office) -> None:
    """Sent again by a person, it would come to the other; a queue that is not called as ours are may be anybody's."""
    for queue in ("payment.commands", "payment.events.3"):
        theirs = dead_letter(service="order", queue=queue, letter=UUID(int=len(queue)))
        await office.handle(_from("order", office, announcement(theirs)))
    refused = await office.rows(collected_letter)
    assert [(row.service, row.reason) for row in refused] == [("order", "forbidden_sender")] * 2
    assert "it tells of a dead letter of order in the queue payment.commands of payment" in " ".join(
        row.error for row in refused
    )
    mine = dead_letter(service="order", queue="parcels", letter=UUID(int=1))
    await office.handle(_from("order", office, announcement(mine)))
    assert ("order", "handler_failed", "open", 1) in await _collected(office)


async def test_what_the_broker_gave_up_counts_as_its_senders_word(office: Office) -> None:
    """Headers that say where it died may be anybody's: a command that payment has sent is none."""
    body = {
        "specversion": "1.0",
        "id": "018e0000-0000-7000-8000-000000000001",
        "source": "orchestrator",
        "type": "order.cancel",
        "time": "2026-03-01T11:00:00Z",
        "data": {},
    }
    death = {"count": 1, "reason": "delivery_limit", "queue": "order.commands", "exchange": "amends.commands"}
    given: dict[str, Any] = {
        "exchange": "amends.dead-letters",
        "routing_key": "payment.sent",
        "content_type": CONTENT_TYPE,
        "headers": {"x-death": [death], "x-first-death-queue": "order.commands"},
    }
    await office.handle(office.raw(json.dumps(body).encode(), **given, user_id="payment"))
    assert await _collected(office) == [("order", "forbidden_sender", "open", 1)]

    given["headers"] = {"x-death": [death | {"queue": "order.commands"}], "x-first-death-queue": "order.commands"}
    await office.handle(office.raw(json.dumps(body | {"id": "2"}).encode(), **given, user_id="orchestrator"))
    assert ("order", "delivery_limit", "open", 1) in await _collected(office)


async def test_who_may_not_say_it_takes_no_letters_place_here_either(office: Office) -> None:
    """With the headers of one that the broker gave up, and the id or the name of a letter that is there."""
    mine: DeadLetter = dead_letter()
    await office.handle(_from("payment", office, announcement(mine)))
    death = {"count": 1, "reason": "delivery_limit", "queue": mine.queue, "exchange": "amends.events"}
    body = {
        "specversion": "1.0",
        "id": str(mine.message_id),
        "source": "order",
        "type": "order.canceled",
        "time": "2026-03-01T11:00:00Z",
        "redrives": str(LETTER),
        "data": {},
    }
    forged = office.raw(
        json.dumps(body).encode(),
        exchange="amends.dead-letters",
        routing_key="payment.sent",
        content_type=CONTENT_TYPE,
        headers={"x-death": [death], "x-first-death-queue": mine.queue},
        user_id="shop",
    )
    await office.handle(forged)

    rows = {row.reason: (row.id == LETTER, row.body, row.failures) for row in await office.rows(collected_letter)}
    assert rows.pop("handler_failed") == (True, '{"specversion":"1.0"}', 1)
    assert [here for here, _, _ in rows.values()] == [False]
    assert set(rows) == {"forbidden_sender"}
