"""Alert rules, their tests and the runbook belong together, and what the runbook says can be done."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from messaging import migrate
from messaging.database import Database
from messaging.telemetry.depths import REASONS
from orchestrator.assembly import MIGRATIONS
from orchestrator.cli.app import app
from tests import laying
from tests.acceptance.pages import ROOT, blocks
from tests.monitoring import program

FOLDER = ROOT / "deploy" / "prometheus"
PAGE = ROOT / "docs" / "runbook.md"


def _rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    """In the same order, and the alert leads to its section."""
    names = [rule["alert"] for rule in _rules()]
    assert len(names) >= 15
    assert re.findall(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == names
    for rule in _rules():
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_every_alert_has_a_test_in_which_it_comes_and_one_in_which_it_does_not() -> None:
    """Each is expected at a moment, and expected not to be there at an earlier one."""
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in _rules()}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


@pytest.mark.parametrize(
    "words", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")], ids=lambda words: words[0]
)
def test_promtool_agrees(words: tuple[str, ...]) -> None:
    """The configuration is one, and every alert comes in its test when it should."""
    ended = subprocess.run(
        [program("promtool"), *words], cwd=FOLDER, capture_output=True, text=True, timeout=180, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "SUCCESS" in ended.stdout


def test_promtool_would_find_an_alert_that_does_not_come(tmp_path: Path) -> None:
    """With another threshold the tests fail: they are none that cannot."""
    for name in ("alerts.yml", "alerts_test.yml"):
        text = (FOLDER / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("amends_outbox_oldest_age_seconds) > 60", "amends_x) > 60"))
    ended = subprocess.run(
        [program("promtool"), "test", "rules", "alerts_test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ended.returncode == 1
    assert "AmendsOutboxOld" in ended.stdout + ended.stderr


async def test_every_command_of_the_runbook_can_be_said(database_url: str, tmp_path: Path) -> None:
    """Each line runs on an orchestrator's database, and changes nothing there."""
    database = Database(database_url)
    await laying.migrated(database, [migrate.MESSAGING, MIGRATIONS])
    await database.close()
    lines = [line for block in blocks(PAGE, "sh") for line in block.text.splitlines()]
    assert len(lines) >= 8
    for line in lines:
        program_name, *words = shlex.split(line)
        assert program_name == "amends"
        ended = await asyncio.to_thread(CliRunner().invoke, app, words, env={"DATABASE_URL": database_url})
        # 1 is the answer of those that look for something where there is nothing.
        assert ended.exit_code in (0, 1), (line, ended.stderr)
        assert "Usage" not in ended.stderr, line


def test_every_reason_of_dead_letters_is_counted_by_itself() -> None:
    """Those that the page explains: a new one would be counted under other."""
    text = (ROOT / "docs" / "dead-letters.md").read_text(encoding="utf-8")
    table = text[text.index("| `malformed`") :].partition("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert len(named) >= 12
    assert named == REASONS
