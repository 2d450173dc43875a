"""The pages under docs/: their code runs, their SQL runs, and what they name is there."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import json
import re
import shlex
import sys
from datetime import timedelta
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import bindparam, text
from typer.testing import CliRunner

from contracts.payment import PaymentFailed
from deploy import settings_table, state_diagram
from messaging import migrate, schema
from messaging.clock import SystemClock
from messaging.database import Database
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from messaging.settings import ServiceSettings
from orchestrator.assembly import MIGRATIONS
from orchestrator.cli.app import app
from orchestrator.dead_letters import STRAY
from orchestrator.schema import collected_letter
from orchestrator.settings import OrchestratorSettings
from services.order.settings import OrderSettings
from services.payment.settings import PaymentSettings
from tests import laying
from tests.acceptance.pages import ROOT, Block, blocks, pages
from tests.acceptance.programs import finished

PROGRAMS = ("writing-sagas.md", "writing-participants.md", "emitting.md")
OPERATIONS = ROOT / "docs" / "operations.md"
ONLY_POSTGRESQL = "-- PostgreSQL"
EVERYWHERE = {"AMENDS_SOURCE", "ORDER_URL", "ORDER_DATABASE_URL", "PAYMENT_DATABASE_URL"}
"""Variables that are read outside the settings classes."""


def _compiled(block: Block) -> CodeType:
    # Padded, so that a traceback names the line of the page.
    padded = "\n" * (block.line - 1) + block.text
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(padded, str(block.page), "exec", flags=flags, dont_inherit=True)
    return code


@pytest.mark.parametrize("name", PROGRAMS)
async def test_the_code_of_a_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's Python blocks, one after the other, are a program that ends well; so do its commands before it."""
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / name
    for block in blocks(page, "sh"):
        if "migrate" in block.text:
            words = shlex.split(block.text)
            given = dict(word.split("=", 1) for word in words if "=" in word)
            ended = await asyncio.to_thread(finished, (sys.executable, *words[len(given) + 1 :]), tmp_path, **given)
            assert ended.returncode == 0, ended.stderr
    module = ModuleType(f"page_{name.partition('.')[0].replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    program = blocks(page, "python")
    assert len(program) >= 4
    for block in program:
        pending = eval(_compiled(block), module.__dict__)
        if inspect.iscoroutine(pending):
            await pending


@pytest.fixture
async def orchestrators(database_url: str) -> Any:
    """An orchestrator's database at head."""
    database = Database(database_url)
    await laying.migrated(database, [migrate.MESSAGING, MIGRATIONS])
    yield database
    await database.close()


async def test_every_query_of_the_operations_page_runs(orchestrators: Database) -> None:
    """Each SQL block that is not marked for PostgreSQL runs on both databases."""
    found = [block.text for block in (*blocks(OPERATIONS, "sql"), *blocks(ROOT / "docs" / "emitting.md", "sql"))]
    portable = [each for each in found if not each.startswith(ONLY_POSTGRESQL)]
    assert len(portable) == 7
    now = SystemClock().now()
    async with orchestrators.transaction() as connection:
        for query in portable:
            moments = re.findall(r":([a-z_]+)", query)
            typed = [bindparam(name, now, type_=schema.UTCDateTime()) for name in moments]
            await connection.execute(text(query).bindparams(*typed))


LETTER = UUID("7b1e09c2-3f5b-5d0c-9a51-0c8f3c1d7e42")


async def test_every_command_about_dead_letters_does_what_the_page_says(
    orchestrators: Database, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line of the pages, on a database with one letter that is open before each, ends well."""
    monkeypatch.chdir(tmp_path)
    order = UUID(int=4)
    (tmp_path / "corrected.json").write_text(json.dumps({"order_id": str(order), "reason": "card_declined"}))
    event = PaymentFailed(order_id=order, reason="card_decline")
    envelope = Envelope(UUID(int=5), event.wire_type, 1, "payment", SystemClock().now())
    row = {
        "id": LETTER,
        "service": "order",
        "queue": "order.events",
        "reason": "handler_failed",
        "error": "ValueError: no such reason",
        "message_id": str(envelope.id),
        "type": event.wire_type,
        "exchange": "",
        "routing_key": event.wire_type,
        "properties": json.dumps({"content_type": CONTENT_TYPE}),
        "body": encode(envelope, event),
        "encoding": "text",
        "size": 1,
        "attempts": 0,
        "failures": 1,
        "first_at": envelope.time - timedelta(days=40),
        "at": envelope.time - timedelta(days=40),
        "state": "open",
    }
    lines = [
        line
        for page in (ROOT / "docs" / "dead-letters.md", OPERATIONS)
        for block in blocks(page, "sh")
        for line in block.text.splitlines()
        if "amends dead-letters" in line
    ]
    assert len(lines) >= 15
    for line in lines:
        async with orchestrators.transaction() as connection:
            await connection.execute(collected_letter.delete())
            # The filter for payment's letters finds one too.
            service = {"service": "payment"} if "--service payment" in line else {}
            await connection.execute(collected_letter.insert(), row | service)
        words = shlex.split(line)
        ended = await asyncio.to_thread(
            CliRunner().invoke, app, words[words.index("amends") + 1 :], env={"DATABASE_URL": database_url}
        )
        assert ended.exit_code == 0, (line, ended.stderr)


# -- what the pages name -------------------------------------------------------------------------------------


def test_the_generated_pages_are_current() -> None:
    """docs/configuration.md is what the settings say, and the diagrams are how the machine moves."""
    assert settings_table.PAGE.read_text(encoding="utf-8") == settings_table.page()
    there = state_diagram.PAGE.read_text(encoding="utf-8")
    assert there == state_diagram.rewritten(there)


def test_a_diagram_that_lies_is_found_out() -> None:
    """With an arrow taken away or a setting renamed, the pages would no longer be current."""
    there = state_diagram.PAGE.read_text(encoding="utf-8")
    arrow = "    compensating --> compensated: the last compensation was answered / a person (resolve)\n"
    assert there.count(arrow) == 1
    assert state_diagram.rewritten(there.replace(arrow, "")) == there
    assert "`AMENDS_BATCH_SIZE` | `500` |" in settings_table.page()


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to another file of the project leads to a file that is there, and to a heading in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{page}: {target}"
        assert not anchor or anchor in _anchors(found), f"{page}: {target}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    """Every command, make target, module, file and variable that a page names exists."""
    content = page.read_text(encoding="utf-8")
    commands = {each.name or getattr(each.callback, "__name__", "") for each in app.registered_commands}
    commands |= {each.name for each in app.registered_groups}
    assert "show" in commands
    for name in re.findall(r"`(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?amends ([a-z-]+)", content):
        assert name in commands, f"{page}: amends {name}"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for name in re.findall(r"(?:`|^    )make ([a-z]+)", content, re.MULTILINE):
        assert name in targets, f"{page}: make {name}"
    for name in re.findall(r"python -m ([a-z_.]+[a-z_])", content):
        assert importlib.util.find_spec(name) is not None, f"{page}: python -m {name}"
    # What a command makes where it is called is in no checkout, and git is told so.
    made = tuple(each for each in (ROOT / ".gitignore").read_text(encoding="utf-8").split() if each.startswith("/"))
    for name in re.findall(r"`((?:contracts|messaging|orchestrator|services|deploy|tests|docs)/[\w./-]*)`", content):
        assert (ROOT / name).exists() or f"/{name}/".startswith(made), f"{page}: {name}"
    kinds = (ServiceSettings, OrchestratorSettings, OrderSettings, PaymentSettings)
    known = EVERYWHERE | {str(field.validation_alias) for kind in kinds for field in kind.model_fields.values()}
    for name in re.findall(r"\b((?:AMENDS|ORDER|PAYMENT)_[A-Z_]*[A-Z])\b", content):
        assert name.removesuffix("_FILE") in known, f"{page}: {name}"


def test_every_decision_says_why_and_what_would_change_it() -> None:
    """Each decision has its four parts, carries its number, and is listed."""
    folder = ROOT / "docs" / "decisions"
    found = sorted(folder.glob("[0-9]*.md"))
    assert len(found) >= 13
    listed = (folder / "README.md").read_text(encoding="utf-8")
    for number, page in enumerate(found, 1):
        content = page.read_text(encoding="utf-8")
        assert page.name.startswith(f"{number:04d}-"), page
        assert content.startswith(f"# {number}. "), page
        assert [
            part for part in ("**Decision.**", "**Why.**", "**Price.**", "**Revisit when**") if part not in content
        ] == []
        assert f"]({page.name})" in listed, page


def test_the_reasons_of_dead_letters_are_all_explained() -> None:
    """The page about them has a row for every reason that the code gives."""
    content = (ROOT / "docs" / "dead-letters.md").read_text(encoding="utf-8")
    for reason in (
        "malformed",
        "oversized",
        "forbidden_header",
        "forbidden_sender",
        "bad_signature",
        "unknown",
        "invalid",
        "unhandled",
        "handler_failed",
        "retries_exhausted",
        "expired",
        "delivery_limit",
        "rejected",
        STRAY,
    ):
        assert re.search(rf"^\|.*`{reason}`", content, re.MULTILINE), reason
