"""The pages under docs/: their code runs, their SQL runs, and what they name is there."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import re
import shlex
import sys
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Never
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from contracts.message import Command, Event
from deploy import settings_table, state_diagram
from messaging import migrate, schema
from messaging.clock import SystemClock
from messaging.database import Database
from messaging.envelope import Envelope
from messaging.memory import MemoryBroker, MemoryBus
from messaging.outbox import outgoing
from messaging.participant import Participant
from messaging.service import participant_service
from messaging.settings import ServiceSettings
from orchestrator.assembly import MIGRATIONS
from orchestrator.cli.app import app
from orchestrator.settings import OrchestratorSettings
from services.order.settings import OrderSettings
from services.payment.settings import PaymentSettings
from tests.acceptance.pages import ROOT, Block, blocks, pages
from tests.acceptance.programs import finished
from tests.chaos.waiting import eventually

PROGRAMS = ("writing-sagas.md", "writing-participants.md", "emitting.md")
OPERATIONS = ROOT / "docs" / "operations.md"
ONLY_POSTGRESQL = "-- PostgreSQL"
EVERYWHERE = {"AMENDS_SOURCE", "ORDER_URL"}
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
    await migrate.upgrade(database, [migrate.MESSAGING, MIGRATIONS])
    yield database
    await database.close()


async def test_every_query_of_the_operations_page_runs(orchestrators: Database) -> None:
    """Each SQL block that is not marked for PostgreSQL runs on both databases."""
    found = [block.text for block in (*blocks(OPERATIONS, "sql"), *blocks(ROOT / "docs" / "emitting.md", "sql"))]
    portable = [each for each in found if not each.startswith(ONLY_POSTGRESQL)]
    assert len(portable) >= 8
    now = SystemClock().now()
    async with orchestrators.transaction() as connection:
        for query in portable:
            moments = re.findall(r":([a-z_]+)", query)
            typed = [bindparam(name, now, type_=schema.UTCDateTime()) for name in moments]
            await connection.execute(text(query).bindparams(*typed))


class _Swept(Event, type="yard.swept"):
    pass


class _Sweep(Command[_Swept, Never], type="yard.sweep"):
    pass


async def test_a_dead_letter_that_is_sent_again_by_hand_is_handled(postgres_url: str) -> None:
    """After the page's SQL, a command whose handler had raised is handled once and answered, and the letter is gone."""
    handled: list[str] = []
    broken = True
    yard = Participant("yard")

    @yard.handles(_Sweep)
    async def sweep(command: _Sweep, db: AsyncSession) -> _Swept:
        if broken:
            raise ValueError("no broom")
        handled.append("swept")
        return _Swept()

    broker = MemoryBroker()
    settings = ServiceSettings(database_url=SecretStr(postgres_url), migrate_on_start=True, port=0)
    service = participant_service(yard, settings, MemoryBus(broker, service="yard"))
    await service.start()
    try:
        row = outgoing(_Sweep(), Envelope(uuid4(), "yard.sweep", 1, "test", SystemClock().now()))
        async with service.database.transaction() as connection:
            fields = {name: getattr(row, name) for name in row.__dataclass_fields__}
            await connection.execute(schema.outbox.insert(), fields | {"available_at": row.created_at})

        async def count(table: str) -> int:
            async with service.database.reading() as connection:
                return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())

        async def buried() -> bool:
            return await count("dead_letter") == 1

        assert await eventually(buried)
        assert handled == []
        broken = False
        (script,) = [block.text for block in blocks(OPERATIONS, "sql") if block.text.startswith(ONLY_POSTGRESQL)]
        async with service.database.transaction() as connection:
            for statement in script.split(";"):
                bare = re.sub(r"^--.*$", "", statement, flags=re.MULTILINE).strip()
                if bare and bare not in ("BEGIN", "COMMIT"):
                    await connection.execute(text(bare.replace("::uuid", "\\:\\:uuid")))

        async def swept() -> bool:
            return handled == ["swept"]

        assert await eventually(swept)
        assert await count("dead_letter") == 0
    finally:
        await service.drain()


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
    assert "`AMENDS_BATCH_SIZE` | `100` |" in settings_table.page()


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
    for name in re.findall(r"`(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?amends ([a-z]+)", content):
        assert name in commands, f"{page}: amends {name}"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for name in re.findall(r"(?:`|^    )make ([a-z]+)", content, re.MULTILINE):
        assert name in targets, f"{page}: make {name}"
    for name in re.findall(r"python -m ([a-z_.]+[a-z_])", content):
        assert importlib.util.find_spec(name) is not None, f"{page}: python -m {name}"
    for name in re.findall(r"`((?:contracts|messaging|orchestrator|services|deploy|tests|docs)/[\w./-]*)`", content):
        assert (ROOT / name).exists(), f"{page}: {name}"
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
    """The operations page has a row for every reason that the code gives."""
    content = OPERATIONS.read_text(encoding="utf-8")
    for reason in (
        "malformed",
        "oversized",
        "forbidden_header",
        "unknown",
        "invalid",
        "unhandled",
        "handler_failed",
        "retries_exhausted",
        "expired",
    ):
        assert re.search(rf"^\|.*`{reason}`", content, re.MULTILINE), reason
