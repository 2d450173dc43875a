"""docs/searching.md and the page on retention: their code and their commands run, and tables look as they are shown."""

from __future__ import annotations

import asyncio
import importlib
import shlex
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from messaging import migrate
from messaging.database import Database
from orchestrator import search
from orchestrator.assembly import MIGRATIONS
from orchestrator.catalog import Catalog
from orchestrator.cli.app import app
from orchestrator.sagas.fulfill_order import FULFILL_ORDER
from services.order.assembly import MIGRATIONS as OF_ORDER
from services.payment.assembly import MIGRATIONS as OF_PAYMENT
from tests import laying
from tests.acceptance.pages import ROOT, blocks
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.records import store
from tests.unit.begun import RecordedPlay
from tests.unit.work import Done, pivot, step, work_saga

PAGE = ROOT / "docs" / "searching.md"
OPERATIONS = ROOT / "docs" / "operations.md"
KEY = "01a21355-44f7-7dab-a97e-7b8251f58b12"
"""The saga that the page looks at."""
DATA = f'{{"order_id":"{KEY}","customer_id":"ann","total":{{"amount":1999,"currency":"USD"}}}}'


@pytest.fixture
def at_head(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that has the tables of every service, and two sagas in it, one of today."""

    async def prepare() -> None:
        database = Database(database_url)
        await laying.migrated(database, [migrate.MESSAGING, MIGRATIONS, OF_ORDER, OF_PAYMENT])
        await search.declare(database, Catalog([FULFILL_ORDER]), NOON)
        ended, other = (RecordedPlay(work_saga(step("dig"), pivot("sign"), name="fulfill_order"), n) for n in (1, 2))
        ended.at(1).answer("dig", Done())
        ended.at(2).answer("sign", Done())
        today = {"data": DATA, "updated_at": datetime.now(UTC)}
        await store(
            database,
            [replace(ended.recorded, key=KEY, data=DATA), replace(other.recorded, **today)],  # type: ignore[arg-type]
        )
        await database.close()

    asyncio.run(prepare())
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "AMENDS_SAGAS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", database_url)
    return database_url


def test_the_code_of_the_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks, one after the other, are a program that ends well."""
    module = ModuleType("page_searching")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    program = blocks(PAGE, "python")
    assert len(program) == 2
    for block in program:
        exec(compile("\n" * (block.line - 1) + block.text, str(PAGE), "exec", dont_inherit=True), module.__dict__)
    assert module.DELIVER_PARCEL.search == ("sender", "price.currency")


def _lines(page: Path, beginning: str) -> list[list[str]]:
    lines = [line for block in blocks(page, "sh") for line in block.text.splitlines()]
    return [shlex.split(line) for line in lines if beginning in line]


@pytest.mark.usefixtures("at_head")
def test_every_command_of_the_page_runs() -> None:
    """All of them end well on a database with sagas."""
    commands = _lines(PAGE, "amends")
    assert len(commands) == 11
    for words in commands:
        ended = CliRunner().invoke(app, words[1:], prog_name="amends")
        assert ended.exit_code == 0, (words, ended.stdout, ended.stderr)


@pytest.mark.usefixtures("at_head")
def test_figures_look_as_the_page_shows_them() -> None:
    """The table on the page has the very columns that the command prints."""
    (shown,) = blocks(PAGE, "text")
    header = [line.split() for line in shown.text.splitlines() if line.startswith("step ")]
    printed = CliRunner().invoke(app, ["stats"], prog_name="amends").stdout
    assert header == [line.split() for line in printed.splitlines() if line.startswith("step ")]


@pytest.mark.usefixtures("at_head")
def test_every_command_on_retention_runs() -> None:
    """Each service knows `prune` with the options that the page gives it; here it only counts."""
    commands = _lines(OPERATIONS, "prune")
    assert [words[:3] for words in commands] == [
        ["amends", "prune", "--older-than"],
        ["python", "-m", "services.order"],
        ["python", "-m", "services.payment"],
        ["python", "-m", "messaging"],
    ]
    for words in commands:
        program, arguments = (app, words[1:])
        if words[0] == "python":
            program, arguments = importlib.import_module(f"{words[2]}.__main__").app, words[3:]
        ended = CliRunner().invoke(program, [*arguments, "--dry-run"])
        assert ended.exit_code == 0, (words, ended.stdout, ended.stderr)
        assert "would remove 1 saga " in ended.stdout or ended.stdout == "nothing is that old\n"
