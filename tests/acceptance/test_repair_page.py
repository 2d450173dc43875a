"""docs/repair.md: its saga is a saga, and every command on it does what the page says, one after the other."""

from __future__ import annotations

import asyncio
import importlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from messaging import migrate
from messaging.database import Database
from orchestrator import versions
from orchestrator.assembly import MIGRATIONS
from tests import laying
from tests.acceptance.pages import ROOT, blocks, sessions
from tests.acceptance.programs import AMENDS, finished
from tests.contract.orchestrator.office import Office

PAGE = ROOT / "docs" / "repair.md"
STUCK = ("A-1001", "A-1002")
WAITING = ("A-1003", "A-1004", "A-1005", "A-1006", "A-1007")
ASKING = ("list", "show")
"""Commands that change nothing and have no --yes."""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The page's modules, as its reader would have them."""
    for block in blocks(PAGE, "python"):
        assert block.file is not None
        path = tmp_path / block.file
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("shop.checkout")
    for name in [each for each in sys.modules if each.partition(".")[0] == "shop"]:
        del sys.modules[name]


async def _prepare(office: Office, shop: Any) -> None:
    """The sagas the page speaks of: two whose refund is never answered, five that wait for their charge."""
    await office.employ(shop.CHECKOUT)
    placed = {key: shop.OrderPlaced(order_id=key, cents=500) for key in (*STUCK, *WAITING)}
    await office.handle(*[office.delivery(placed[key], correlation_id=None) for key in STUCK])
    charged, sold_out = shop.CardCharged(charge_id="ch_1"), shop.SoldOut(reason="sold_out")
    for key in STUCK:
        await office.handle(office.answer(key, "charge_card", charged, name="checkout"))
        await office.handle(office.answer(key, "ship", sold_out, name="checkout"))
    async with asyncio.timeout(30):
        while {(await office.sagas())[key].status for key in STUCK} != {"stuck"}:
            office.clock.advance(5)
            await asyncio.sleep(0.005)
    await office.handle(*[office.delivery(placed[key], correlation_id=None) for key in WAITING])
    await office.retire()
    await office.employ(shop.CHECKOUT, importlib.import_module("shop.checkout_2").CHECKOUT_2)
    await versions.check(office.database, office.catalog, (), office.clock.now())
    await office.retire()


async def test_every_command_of_the_page_does_what_it_says(shop: Any, sqlite_url: str, tmp_path: Path) -> None:
    """In the order of the page, each ends well; what is printed there is printed; and all is in the histories."""
    database = Database(sqlite_url)
    await laying.migrated(database, [migrate.MESSAGING, MIGRATIONS])
    office = Office(database)
    try:
        await _prepare(office, shop)
        ran = []
        for session in sessions(PAGE):
            for line in session.commands.splitlines():
                words = shlex.split(line)
                assert words[0] == "amends"
                quiet = words[1] in ASKING or words[1] == "migrate-instances" or "--dry-run" in words
                given = {
                    "DATABASE_URL": sqlite_url,
                    "AMENDS_SAGAS": "shop.checkout,shop.checkout_2",
                    "COLUMNS": "120",
                    "PYTHONPATH": f"{tmp_path}:{ROOT}",
                }
                ended = await asyncio.to_thread(
                    finished, (*AMENDS, *words[1:], *([] if quiet else ["--yes"])), tmp_path, **given
                )
                assert ended.returncode == 0, (line, ended.stdout, ended.stderr)
                ran.append(words[1])
            if session.printed is not None:
                assert [row.rstrip() for row in ended.stdout.splitlines()] == session.printed.splitlines()
        assert set(ran) == {
            *ASKING,
            "retry",
            "resolve",
            "skip",
            "cancel",
            "compensate",
            "abandon",
            "reschedule",
            "migrate-instances",
        }
        rows = await office.sagas()
        assert {key: (row.status, row.version) for key, row in rows.items()} == {
            "A-1001": ("compensating", 2),
            "A-1002": ("compensated", 1),
            "A-1003": ("running", 2),
            "A-1004": ("compensating", 2),
            "A-1005": ("compensating", 2),
            "A-1006": ("abandoned", 1),
            "A-1007": ("running", 2),
        }
        assert await office.audit() == 7
    finally:
        await office.close()
