"""docs/security.md: its commands run, and its tables say what the program grants."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

from sqlalchemy import Table

from messaging.privileges import APPENDED
from messaging.rabbitmq_definitions import MONITOR
from messaging.senders import OPERATOR
from orchestrator.schema import saga_history
from services.payment.schema import metadata
from tests.acceptance.pages import ROOT, blocks
from tests.acceptance.programs import finished

PAGE = ROOT / "docs" / "security.md"


async def test_the_definitions_are_made_as_the_page_says(tmp_path: Path) -> None:
    """Each command, in a folder with a password for each user; no password is in what comes of them."""
    (tmp_path / "passwords").mkdir()
    users = ("orchestrator", "order", "payment", OPERATOR, MONITOR)
    for user in users:
        (tmp_path / "passwords" / user).write_text(f"secret-of-{user}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    found = blocks(PAGE, "sh")
    assert len(found) == 1
    ended = await asyncio.to_thread(finished, ("sh", "-e", "-c", found[0].text), tmp_path, PATH=path)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    text = (tmp_path / "definitions.json").read_text()
    made = json.loads(text)
    assert "secret-of" not in text
    assert [each["name"] for each in made["users"]] == list(users)
    assert all(len(each["password_hash"]) == 48 for each in made["users"])
    content = PAGE.read_text(encoding="utf-8")
    for user in users[:3]:
        assert re.search(rf"^\| `{user}` \|", content, re.MULTILINE), user


def test_the_page_names_all_that_is_only_appended_to() -> None:
    """The tables of the shipped services that their roles cannot change."""
    tables: list[Table] = [saga_history, *metadata.tables.values()]
    appended = {table.name for table in tables if table.info == APPENDED}

    (said,) = re.findall(r"what is only appended to \((.*?)\)", PAGE.read_text(encoding="utf-8"))
    assert set(re.findall(r"`(\w+)`", said)) == appended
