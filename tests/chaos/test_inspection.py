"""The inspection that ends every run of chaos sees what it is there to see: each kind of damage, one at a time."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from contracts.money import Money
from deploy.embedded import services
from deploy.inspection import Inspection, inspect, opened, work_left
from messaging.process import Running
from services.order.order_file import FileOrder
from tests.chaos import shop
from tests.chaos.waiting import eventually

SERVICES = ("orchestrator", "order", "payment")

LEFT_OVER = (
    "INSERT INTO {table} (message_id, exchange, routing_key, type, source, body, created_at, available_at) "
    "VALUES ('00000000000000000000000000000001', 'e', 'k', 't', 's', '{{}}', '2026-01-01 00:00:00.000000', "
    "'2026-01-01 00:00:00.000000')"
)


@pytest.fixture(scope="module")
async def at_rest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The databases of a system that has completed two orders of 29.33 and refused one of 9,999.99."""
    place = tmp_path_factory.mktemp("at_rest")
    amounts = (2933, 2933, 999_999)
    wanted = [
        FileOrder(number, f"order-{number}", f"customer-{number}", "CD", 1, Money(amount=amount, currency="USD"))
        for number, amount in enumerate(amounts, start=1)
    ]
    async with Running(services(place, port=0)) as running:
        await running.start()
        await shop.place(running.urls["order"], wanted)
        async with opened(_urls(place)) as databases:

            async def done() -> bool:
                return not await work_left(databases)

            assert await eventually(done)
    return place


def _urls(place: Path) -> dict[str, str]:
    return {name: f"sqlite:///{place / name}.db" for name in SERVICES}


async def _inspect(place: Path) -> Inspection:
    async with opened(_urls(place)) as databases:
        return await inspect(databases, default_stock=20_000)


async def test_a_sound_system_has_no_findings(at_rest: Path) -> None:
    """Where all is well nothing is found, and the counts are those of the orders placed."""
    found = await _inspect(at_rest)
    assert found.findings == ()
    assert found.ended == {"card_declined": 1, "completed": 2}
    assert found.sagas == {"compensated": 1, "completed": 2}
    assert (found.completed_total, found.audit.captured, found.audit.held) == ({"USD": 5866}, {"USD": 5866}, {"USD": 0})
    assert found.on_hand == {"CD": 19_998}


@pytest.mark.parametrize(
    ("where", "damage", "finding"),
    [
        ("orchestrator", "DELETE FROM saga_history WHERE seq = 2", "3 sagas have a history with a gap"),
        ("orchestrator", "UPDATE saga SET data = replace(data, '2933', '2934')", "2 sagas are not what their history"),
        ("orchestrator", "UPDATE saga_history SET facts = '[{}]' WHERE seq = 2", "3 sagas have a history with a gap"),
        ("orchestrator", "UPDATE saga SET progress = '{}'", "3 sagas are not what their history"),
        ("orchestrator", "DELETE FROM saga WHERE status = 'compensated'", "1 orders or their sagas have not ended"),
        ("orchestrator", "UPDATE saga SET status = 'running' WHERE status = 'compensated'", "1 orders or their sagas"),
        ("order", "UPDATE orders SET captured = 2932 WHERE status = 'completed'", "2 completed orders are not paid"),
        (
            "order",
            "UPDATE orders SET status = 'canceled', captured = NULL, reason = 'why' WHERE status = 'completed'",
            "2 orders ended otherwise than their sagas",
        ),
        ("order", "UPDATE stock SET on_hand = on_hand - 1", "CD: 20000 at first, 2 in completed orders, but 19997"),
        ("order", "UPDATE orders SET total = 2934 WHERE status = 'completed'", "captured {'USD': 5866}, but the comp"),
        ("order", LEFT_OVER.format(table="outbox"), "1 rows are left in outbox of order"),
        ("payment", "DELETE FROM payment_authorization", "completed orders are not paid in full"),
        ("payment", "UPDATE payment_authorization SET status = 'held'", "held: the journal says 0 USD"),
        ("payment", "UPDATE account SET captured = captured + 1", "accounts differ from the journal"),
    ],
)
async def test_damage_is_found(at_rest: Path, tmp_path: Path, where: str, damage: str, finding: str) -> None:
    """Whatever is lost, doubled or changed in one of the databases is named."""
    for name in SERVICES:
        shutil.copy(at_rest / f"{name}.db", tmp_path)
    connection = sqlite3.connect(tmp_path / f"{where}.db")
    with connection:
        changed = connection.execute(damage).rowcount
    connection.close()
    assert changed > 0
    found = await _inspect(tmp_path)
    assert any(finding in each for each in found.findings), found.findings
