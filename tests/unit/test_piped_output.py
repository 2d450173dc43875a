"""What is piped: whole, but without the blanks that a table is filled with, and no wider than somebody reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import UUID

import pytest
from rich.console import Console

from orchestrator.catalog import Catalog
from orchestrator.cli import fork_pictures, letter_pictures, pictures, stepping
from orchestrator.cli.opening import screen
from orchestrator.letters import Letter, State
from orchestrator.queries import Listed
from orchestrator.replay.edits import Drop
from orchestrator.replay.forking import fork
from tests.unit.journey import journey
from tests.unit.recording import waiting

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def piped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says how wide it is."""
    monkeypatch.delenv("COLUMNS", raising=False)


def test_no_line_of_a_piped_table_ends_with_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line ends with its last word."""
    after = NOON + timedelta(seconds=2)
    long = Listed(UUID(int=1), "work", 1, "A-1", "running", "authorize_payment", "", NOON, after, None, 2)
    short = Listed(UUID(int=2), "work", 1, "B-2", "completed", "", "", NOON, after, None, 2)
    pictures.listing([long, short], {("work", "running"): 1}, screen())
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert [line.split()[-1] for line in lines] == ["step", "authorize_payment", "v1", "running"]


def test_a_piped_listing_has_every_column_and_whole_ids(capsys: pytest.CaptureFixture[str]) -> None:
    """However long a key and a reason are: `grep` finds an id there, `awk` a column; a terminal has the beginnings."""
    identity = UUID("11988144-ac02-5393-9959-f12f680b68b5")
    stuck = Listed(identity, "work", 1, "k" * 300, "stuck", "", "r" * 90, NOON, NOON + timedelta(seconds=2), None, 2)
    pictures.listing([stuck], {("work", "stuck"): 1}, screen())
    heading, line, _ = capsys.readouterr().out.splitlines()
    assert heading.split() == ["id", "key", "status", "took", "moved", "saga", "step"]
    assert (line.split()[0], line.split()[-1]) == (str(identity), "r" * 90)

    terminal = Console(file=StringIO(), width=80)
    pictures.listing([replace(stuck, key="A-1")], {("work", "stuck"): 1}, terminal)
    assert isinstance(terminal.file, StringIO)
    assert "11988144  A-1" in terminal.file.getvalue()


def test_a_piped_listing_of_letters_has_whole_ids_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """And whole types and reasons, which may be those of somebody else's library."""
    wire_type, error = f"shop.{'t' * 60}", "ValueError: " + "e" * 400
    letter = Letter(
        id=UUID("11988144-ac02-5393-9959-f12f680b68b5"),
        at=NOON,
        first_at=NOON,
        failures=1,
        service="payment",
        queue="payment.commands",
        exchange="amends.commands",
        routing_key=wire_type,
        type=wire_type,
        message_id="m",
        correlation_id="fefbadb7-136f-4bae-a34b-5215e4658c59",
        reason="refused_by_a_filter_of_theirs",
        error=error,
        attempts=0,
        properties={},
        size=0,
        state=State.OPEN,
        decided_at=None,
        decided_by=None,
        decided_why=None,
        redriven_as=None,
        handled_at=None,
    )
    letter_pictures.listing([letter], [], NOON, "open", screen())
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[0] == "11988144-ac02-5393-9959-f12f680b68b5"
    assert wire_type in line
    assert "refused_by_a_filter_of_theirs" in line
    assert "fefbadb7-136f-4bae-a34b-5215e4658c59" in line
    assert line.endswith(error)


def test_two_timelines_in_a_pipe_stand_near_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Eighty columns each at most; nothing behind the last word."""
    play = waiting()
    found = fork(play.recorded, Catalog([play.saga]), 1, [Drop(2)], silence=True)
    fork_pictures.side_by_side(found, screen())
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    (heading,) = [line for line in lines if line.startswith("as recorded") and line.endswith("in the fork")]
    assert len(heading) < 100


def test_a_rule_is_no_wider_than_two_timelines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a terminal, or a pipe, is 250 columns wide."""
    seen = StringIO()
    monkeypatch.setattr("sys.stdin", StringIO(""))
    play = waiting()
    stepping.step_through(play.recorded, Catalog([journey()]), Console(file=seen, width=250))
    (rule,) = [line for line in seen.getvalue().splitlines() if line.startswith("1 of 2")]
    assert len(rule) == 160
