"""docs/erasure.md: its commands print what it says, and its figures are the program's."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from contracts import Erased, Sealed
from messaging.participant import RetryLater
from messaging.subjects.store import REMEMBERED_SECONDS
from tests.acceptance.pages import ROOT, blocks, sessions
from tests.acceptance.programs import finished

PAGE = ROOT / "docs" / "erasure.md"


async def test_the_commands_print_what_the_page_says(tmp_path: Path) -> None:
    """In an empty folder; what is said of processes that run goes to stderr."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    (session,) = sessions(PAGE)
    ended = await asyncio.to_thread(finished, ("sh", "-e", "-c", session.commands), tmp_path, PATH=path)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == session.printed
    assert ended.stderr == "amends: processes that have used a key forget it within 10 s\n"
    assert REMEMBERED_SECONDS == 10.0
    assert "no process uses it ten seconds later" in PAGE.read_text(encoding="utf-8")


async def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks are a program that ends well; a token is what it says, and its handler decides as it says."""
    monkeypatch.chdir(tmp_path)
    module = ModuleType("page_erasure")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks(PAGE, "python"):
        code = compile(block.text, f"{PAGE}:{block.line}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        pending = eval(code, module.__dict__)
        if inspect.iscoroutine(pending):
            await pending
    (token,) = blocks(PAGE, "json")
    told = json.loads(token.text)
    assert list(Sealed("t", "f", "k", "n", "d").token) == list(told)
    assert module.MAILING.seals
    order, command = module.order.order_id, module.SendReceipt
    answers = [
        await module.send(command(order_id=order, customer_id="c-7", to=to), None)
        for to in ("ada@example.com", Erased())
    ]
    assert ["ada@example.com"] == module.sent_to
    assert [None, "erased"] == [getattr(each, "reason", None) for each in answers]
    sealed = Sealed("shop.order_created", "email", "k", "n", "d")
    with pytest.raises(RetryLater, match="no keys yet"):
        await module.send(command(order_id=order, customer_id="c-7", to=sealed), None)
