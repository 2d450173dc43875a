"""The broker and the database go away under load and come back: the services wait, say so, and go on by themselves."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.inspection import opened, progress
from deploy.killing import three_processes, three_services
from deploy.servers import PostgresServer, RabbitServer, ServerUnavailable
from deploy.up import Backends
from services.order.order_file import FileOrder
from tests.chaos import shop
from tests.chaos.waiting import eventually


class Shop:
    """Three processes, and the two servers they stand on."""

    def __init__(self, rabbit: RabbitServer, postgres: PostgresServer, logs: Path) -> None:
        self.rabbit = rabbit
        self.postgres = postgres
        wanted = three_services("restart")
        found = Backends(rabbit.url, {each.name: postgres.create_database(each.database) for each in wanted})
        environment = os.environ | {
            "ORDER_DEFAULT_STOCK": str(shop.DEFAULT_STOCK),
            "AMENDS_OUTBOX_GRACE": "2",
            "AMENDS_LOG_FORMAT": "json",
        }
        self.system = three_processes(found, wanted, environment, logs)

    async def obstacles(self) -> dict[str, set[str]]:
        """What each service names at /readyz as being in its way."""
        found = {}
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
            for name, url in self.system.urls.items():
                answer = await http.get(f"{url}/readyz")
                assert answer.status_code in (200, 503), answer.text
                found[name] = set(answer.json()["waiting_for"])
        return found

    async def all_name(self, obstacle: str) -> bool:
        """Whether every service comes to name it."""

        async def named() -> bool:
            return all(obstacle in each for each in (await self.obstacles()).values())

        return await eventually(named)

    async def placed(self, count: int) -> bool:
        """Whether so many orders come to be placed."""
        async with opened(self.system.databases) as databases:

            async def enough() -> bool:
                return (await progress(databases))[0] >= count

            return await eventually(enough)

    def crash_database(self) -> None:
        """PostgreSQL's immediate shutdown: as if its machine had lost power."""
        os.kill(self.postgres.pid, signal.SIGQUIT)

    async def database_gone(self) -> bool:
        async def gone() -> bool:
            try:
                return not self.postgres.pid
            except ServerUnavailable:
                return True

        return await eventually(gone)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Shop]:
    """Three processes on a broker and a database of their own, which may be stopped."""
    with RabbitServer() as rabbit, PostgresServer() as postgres:
        for server in (rabbit, postgres):
            server.launch()
        for server in (rabbit, postgres):
            server.wait()
        here = Shop(rabbit, postgres, tmp_path)
        yield here
        here.system.stop()


def _part(wanted: list[FileOrder], number: int) -> list[FileOrder]:
    return wanted[number * 50 : (number + 1) * 50]


async def test_broker_and_database_come_back(running: Shop) -> None:
    """A restarted broker and a crashed database are waited for, seen at /readyz, and cost no order and no cent."""
    system, url = running.system, running.system.urls["order"]
    system.start()
    await system.ready()
    await shop.open_accounts(dict(system.urls))
    wanted = shop.orders()
    async with asyncio.TaskGroup() as group:
        group.create_task(shop.place(url, _part(wanted, 0)))
        group.create_task(asyncio.to_thread(running.rabbit.stop))
    assert await running.all_name("broker"), await running.obstacles()
    # Orders are taken while there is no broker: the events wait in the outbox.
    await shop.place(url, _part(wanted, 1))
    await asyncio.to_thread(running.rabbit.start)
    await system.ready()

    async with asyncio.TaskGroup() as group:
        group.create_task(shop.place(url, _part(wanted, 2)))
        assert await running.placed(110)
        running.crash_database()
        assert await running.database_gone()
        assert await running.all_name("database"), await running.obstacles()
        await asyncio.to_thread(running.postgres.start)
    await system.ready()

    async with opened(system.databases) as databases:
        found = await shop.at_the_end(databases)
        assert (await progress(databases), found.findings) == ((150, 150), ())
    assert (found.ended, found.audit.captured) == (shop.ENDS, shop.CAPTURED)
    assert system.deserters() == []
