"""The middle of a roll-out: the next version's migrations have run, and this version's processes are still at work."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from contracts.money import Money
from deploy.inspection import opened
from deploy.killing import System, three_processes, three_services
from deploy.up import Backends
from messaging.database import Database, held_up
from services.order.order_file import FileOrder
from tests.chaos import shop

EACH_TIME = 30
BOUND = 30.0


@pytest.fixture
def system(amqp_url: str, fresh_postgres: Callable[[], str], tmp_path: Path) -> Iterator[System]:
    """Three processes on a broker and databases of their own."""
    wanted = three_services("next")
    found = Backends(amqp_url, {each.name: fresh_postgres() for each in wanted})
    environment = os.environ | {"ORDER_DEFAULT_STOCK": str(shop.DEFAULT_STOCK), "AMENDS_LOG_FORMAT": "json"}
    running = three_processes(found, wanted, environment, tmp_path)
    yield running
    running.stop()


async def _migrate_to_the_next(address: str) -> None:
    """What the migrations of a next version may do at most: add to every table, and say that they have been there.

    As ours do, it begins anew where it is in the way of those who work.
    """
    database = Database(address)
    try:
        async with asyncio.timeout(BOUND):
            while True:
                try:
                    async with database.transaction() as connection:
                        await connection.run_sync(_add_to_every_table)
                except DBAPIError as error:
                    if not held_up(error):
                        raise
                else:
                    return
    finally:
        await database.close()


def _add_to_every_table(connection: Connection) -> None:
    for table in inspect(connection).get_table_names():
        if table.startswith("alembic_version_"):
            connection.execute(text(f"UPDATE {table} SET version_num = 'next'"))
        else:
            connection.execute(text(f"ALTER TABLE {table} ADD COLUMN of_the_next TEXT NOT NULL DEFAULT 'new'"))
    connection.execute(text("CREATE TABLE of_the_next (id BIGINT PRIMARY KEY)"))


def _orders(turn: str) -> list[FileOrder]:
    amount = Money(amount=2933, currency="USD")
    return [
        FileOrder(number, f"{turn}-{number}", f"{turn}-{number}", "CD", 1, amount) for number in range(1, EACH_TIME + 1)
    ]


async def _obstacles(system: System) -> dict[str, object]:
    found: dict[str, object] = {}
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        for name, url in system.urls.items():
            found |= {
                f"{name}: {what}": why for what, why in (await http.get(f"{url}/readyz")).json()["waiting_for"].items()
            }
    return found


async def test_this_version_works_on_the_tables_of_the_next(system: System) -> None:
    """It stays ready, goes on, comes up again on them, and every order ends as it should."""
    system.start()
    await system.ready()
    url = system.urls["order"]
    placed = await shop.place(url, _orders("before"))
    for address in system.databases.values():
        await _migrate_to_the_next(address)

    assert await _obstacles(system) == {}
    placed |= await shop.place(url, _orders("during"))
    for process in system.processes.values():
        process.kill()
        process.start()
    await system.ready()
    placed |= await shop.place(url, _orders("after"))

    async with opened(system.databases) as databases:
        found = await shop.at_the_end(databases)
    assert found.findings == ()
    assert found.ended == {"completed": 3 * EACH_TIME}
    assert len(placed) == 3 * EACH_TIME
