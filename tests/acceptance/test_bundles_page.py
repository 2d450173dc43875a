"""docs/bundles.md: its commands say what the page says they say."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from contracts.sensitive import Shape
from messaging import migrate
from messaging.database import Database
from orchestrator.assembly import MIGRATIONS
from orchestrator.schema import saga, saga_history
from orchestrator.testing.bundles import replay_bundle
from tests.acceptance.pages import ROOT, blocks
from tests.golden.files import FOLDER, read

PAGE = ROOT / "docs" / "bundles.md"
HASTY = """
from orchestrator import Retry, seconds
from orchestrator.sagas.fulfill_order import fulfill_order

SAGA = fulfill_order(timeout=seconds(45))
"""


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody whose orchestrator has seen one order."""
    url = f"sqlite:///{tmp_path / 'orchestrator.db'}"
    asyncio.run(_one_declined_order(url))
    # pytest-asyncio, which a team may have or not, warns of what is not said.
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n", "utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"DATABASE_URL": url, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"}


async def _one_declined_order(url: str) -> None:
    database = Database(url)
    await migrate.upgrade(database, [migrate.MESSAGING, MIGRATIONS])
    recorded = read(FOLDER / "fulfill_order_v1" / "card_declined.json")
    row = asdict(recorded) | {"revision": len(recorded.transitions)}
    lines = [asdict(each) | {"saga_id": recorded.id} for each in recorded.transitions]
    async with database.transaction() as connection:
        await connection.execute(saga.insert(), {each.name: row[each.name] for each in saga.c})
        await connection.execute(saga_history.insert(), lines)
    await database.close()


def _run(commands: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ("bash", "-c", commands),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
        timeout=120,
    )
    return _told(done.stdout)


def _told(text: str) -> str:
    """Without what is another each time: tokens, and how long it took."""
    text = re.sub(r"redacted-[0-9a-f]{16}", "redacted-0", text)
    text = re.sub(r"in [0-9.]+s", "in 0s", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def test_the_commands_of_the_page_say_what_it_says(shop: dict[str, str], tmp_path: Path) -> None:
    """Each block of commands, in order, in one folder; its output is the block of text that comes next."""
    texts = {block.line: block.text for block in blocks(PAGE, "text")}
    for block in blocks(PAGE, "sh"):
        said = next(text for line, text in sorted(texts.items()) if line > block.line)
        assert _told(said) == _run(block.text, tmp_path, shop), block.text


def test_the_explanation_on_the_page_is_that_of_a_failing_test(
    shop: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another timeout in the code, the generated test says so."""
    _run("amends export 0257 -o declined.json", tmp_path, shop)
    (tmp_path / "hasty_for_the_page.py").write_text(HASTY, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AssertionError) as caught:
        replay_bundle(tmp_path / "declined.json", sagas=("hasty_for_the_page",))
    (said,) = [block.text for block in blocks(PAGE, "text") if "What has changed" in block.text]
    assert _told(said) == _told(str(caught.value))


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
