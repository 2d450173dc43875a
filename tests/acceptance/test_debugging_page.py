"""docs/debugging.md: every command of the page, in order, on one night's sagas, prints what the page says."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from messaging import migrate
from messaging.database import Database
from orchestrator import versions
from orchestrator.assembly import MIGRATIONS
from orchestrator.queries import counts
from tests import laying
from tests.acceptance.night import Night
from tests.acceptance.pages import ROOT, sessions
from tests.acceptance.terminal import Terminal, told

PAGE = ROOT / "docs" / "debugging.md"
WOKEN = datetime(2026, 3, 1, 3, 4, tzinfo=UTC)
"""When the first command is typed; each block of commands is typed a minute after the one before."""


@pytest.fixture
async def night(database_url: str) -> AsyncIterator[Night]:
    """The database at four minutes past three: two sagas are stuck, and the orchestrator still runs."""
    database = Database(database_url)
    await laying.migrated(database, [migrate.MESSAGING, MIGRATIONS])
    night = Night(database)
    await night.begin()
    await versions.check(database, night.catalog, (), night.clock.now())
    await night.get_stuck()
    yield night
    await night.close()


@pytest.fixture
def terminal(database_url: str, tmp_path: Path) -> Terminal:
    """A checkout of the shop's code, in which it may be broken, and the settings of its orchestrator."""
    checkout = tmp_path / "shop"
    for package in ("contracts", "messaging", "orchestrator"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    # pytest-asyncio, which a team may have or not, warns of what is not said.
    (checkout / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n", "utf-8")
    return Terminal(checkout, {"DATABASE_URL": database_url, "AMQP_URL": "memory://"})


async def test_the_commands_of_the_page_print_what_it_says(night: Night, terminal: Terminal) -> None:
    """To the letter, on both databases; what the services do meanwhile is told where the page tells of it."""
    for number, session in enumerate(sessions(PAGE)):
        now = WOKEN + timedelta(minutes=number)
        if session.commands.startswith("sed "):
            # From here on it is the checkout's code that counts.
            terminal = replace(terminal, given={**terminal.given, "PYTHONPATH": f"{terminal.folder}:{ROOT}"})
        if "preflight" in session.commands:
            await night.shop_goes_on(now)
        # In a thread: the engine beside it may be in a transaction that has to go on.
        printed = await asyncio.to_thread(terminal.types, session.commands, at=now)
        assert session.printed is None or told(session.printed) == told(printed), session.commands
        if "resolve" in session.commands and "--yes" in session.commands:
            await night.order_canceled("ada", now)
        if "retry" in session.commands and "--yes" in session.commands:
            await night.void_answered("ben", now)
    async with night.database.reading() as connection:
        assert await counts(connection) == {
            ("fulfill_order", "completed"): 8,
            ("fulfill_order", "compensated"): 5,
            ("fulfill_order", "running"): 1,
        }
    assert await night.audit() == 14


async def test_a_file_tells_what_the_database_tells(night: Night, terminal: Terminal) -> None:
    """The bundle of a stuck saga is shown, replayed and forked as the saga is, with no database to be had."""
    apart = replace(terminal, given={**terminal.given, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"})

    def both(command: str) -> tuple[str, str]:
        return terminal.types(command.format("9d28"), at=WOKEN), apart.types(command.format("ada.json"), at=WOKEN)

    assert await asyncio.to_thread(terminal.types, "amends export 9d28 -o ada.json", at=WOKEN) == "written: ada.json"
    for command in (
        "amends show {} --data --messages",
        "amends replay {}",
        "amends fork {} --at 2 --drop 3 --silence",
        "amends export {}",
    ):
        from_database, from_file = await asyncio.to_thread(both, command)
        assert from_database == from_file
        assert "9d28b174-a3a8-5204-8c2c-f32d006bc40c" in from_file, from_file
    assert await night.audit() == 13
