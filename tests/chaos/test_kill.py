"""kill -9, for real: processes die while orders run through them, and nothing is lost or happens twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.inspection import opened, progress
from deploy.killing import System, embedded, kill_all, kills_of, three_processes, three_services
from deploy.up import Backends
from tests.chaos import shop

SEED = int(os.environ.get("CHAOS_SEED", "1"))
"""Decides when they are killed and how long they stay dead."""


def _environment() -> dict[str, str]:
    return os.environ | {
        "ORDER_DEFAULT_STOCK": str(shop.DEFAULT_STOCK),
        "AMENDS_OUTBOX_GRACE": "2",
        "AMENDS_LOG_FORMAT": "json",
    }


@pytest.fixture
def three(amqp_url: str, fresh_postgres: Callable[[], str], tmp_path: Path) -> Iterator[System]:
    """Orchestrator, order and payment as processes of their own on RabbitMQ and PostgreSQL."""
    wanted = three_services("unused")
    found = Backends(amqp_url, {each.name: fresh_postgres() for each in wanted})
    system = three_processes(found, wanted, _environment(), tmp_path)
    yield system
    system.stop()


@pytest.fixture
def one(tmp_path: Path) -> Iterator[System]:
    """All three in one process on SQLite."""
    system = embedded(_environment(), tmp_path)
    yield system
    system.stop()


async def _a_day_of_killing(system: System, victims: tuple[str, ...], times: int) -> None:
    system.start()
    await system.ready()
    await shop.open_accounts(dict(system.urls))
    wanted = shop.orders()
    told: list[str] = []
    async with opened(system.databases) as databases:

        async def done() -> float:
            placed, ended = await progress(databases)
            return (placed + ended) / (2 * len(wanted))

        async with asyncio.TaskGroup() as group:
            group.create_task(kill_all(system, kills_of(victims, times, SEED), done, told.append))
            placing = group.create_task(shop.place(system.urls["order"], wanted))
        first = await shop.at_the_end(databases)
        assert first.findings == (), told
        assert (first.ended, first.audit.captured) == (shop.ENDS, shop.CAPTURED), told
        assert len(told) == len(victims) * times
        again = await shop.place(system.urls["order"], wanted)
        assert again.keys() == placing.result().keys()
        assert {each.before for each in again.values()} == {True}
        assert await shop.at_the_end(databases) == first
    assert system.deserters() == []


async def test_three_processes_survive_kill_9(three: System) -> None:
    """Orders placed while all three processes are killed again and again each end once and rightly, to the cent."""
    await _a_day_of_killing(three, ("orchestrator", "order", "payment"), 2)


async def test_the_embedded_mode_survives_kill_9(one: System) -> None:
    """Orders placed while the one process is killed again and again each end once and rightly, to the cent."""
    await _a_day_of_killing(one, ("embedded",), 3)
