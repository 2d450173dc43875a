"""docs/erasure.md: its commands print what it says, and its figures are the program's."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from messaging.subjects.store import REMEMBERED_SECONDS
from tests.acceptance.pages import ROOT, sessions
from tests.acceptance.programs import finished

PAGE = ROOT / "docs" / "erasure.md"


async def test_the_commands_print_what_the_page_says(tmp_path: Path) -> None:
    """In an empty folder; what is said of processes that run goes to stderr."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    (session,) = sessions(PAGE)
    ended = await asyncio.to_thread(finished, ("sh", "-e", "-c", session.commands), tmp_path, PATH=path)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == session.printed
    assert ended.stderr.splitlines()[0] == "amends: processes that have used a key forget it within 10 s"
    assert "erased before: customer-7 was erased" in ended.stderr
    assert REMEMBERED_SECONDS == 10.0
    assert "no process uses it ten seconds later" in PAGE.read_text(encoding="utf-8")
