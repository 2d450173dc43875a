"""docs/bundles.md: its commands say what the page says they say."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from contracts.sensitive import Shape
from messaging import migrate
from messaging.database import Database
from orchestrator.assembly import MIGRATIONS
from orchestrator.testing.bundles import replay_bundle
from tests import laying
from tests.acceptance.pages import ROOT, blocks, sessions
from tests.acceptance.terminal import Terminal, told
from tests.golden.files import FOLDER, read, store

PAGE = ROOT / "docs" / "bundles.md"
HASTY = """
from orchestrator import Retry, seconds
from orchestrator.sagas.fulfill_order import fulfill_order

SAGA = fulfill_order(timeout=seconds(45))
"""


@pytest.fixture
def shop(tmp_path: Path) -> Terminal:
    """The terminal of somebody whose orchestrator has seen one order."""
    url = f"sqlite:///{tmp_path / 'orchestrator.db'}"
    asyncio.run(_one_declined_order(url))
    # pytest-asyncio, which a team may have or not, warns of what is not said.
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n", "utf-8")
    return Terminal(tmp_path, {"DATABASE_URL": url})


async def _one_declined_order(url: str) -> None:
    database = Database(url)
    await laying.migrated(database, [migrate.MESSAGING, MIGRATIONS])
    await store(database, read(FOLDER / "fulfill_order_v1" / "card_declined.json"))
    await database.close()


def test_the_commands_of_the_page_say_what_it_says(shop: Terminal) -> None:
    """Each block of commands, in order, in one folder; its output is the block of text that comes next."""
    for session in sessions(PAGE):
        assert session.printed is not None
        assert told(session.printed) == told(shop.types(session.commands)), session.commands


def test_the_explanation_on_the_page_is_that_of_a_failing_test(
    shop: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another timeout in the code, the generated test says so."""
    shop.types("amends export 0257 -o declined.json")
    (tmp_path / "hasty_for_the_page.py").write_text(HASTY, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AssertionError) as caught:
        replay_bundle(tmp_path / "declined.json", sagas=("hasty_for_the_page",))
    (said,) = [block.text for block in blocks(PAGE, "text") if "What has changed" in block.text]
    assert told(said) == told(str(caught.value))


def test_the_marks_on_the_page_are_marks() -> None:
    """The contract on the page is one, and what it marks is marked, in the list too."""
    (block,) = blocks(PAGE, "python")
    space: dict[str, Any] = {}
    exec(compile(block.text, str(PAGE), "exec", dont_inherit=True), space)
    marked: list[object] = []

    def look(shape: Shape, leaf: Any) -> Any:
        if shape.marked:
            marked.append(leaf)
        return leaf

    arrived = {"email": "e", "phone": "p", "companions": ["c"], "room": "r", "deposit": {"amount": 1, "currency": "x"}}
    Shape.of(space["GuestArrived"]).rebuilt(arrived, look)
    assert marked == ["e", "p", "c"]
