"""`amends` loads the command that it was given, and that is the same as with all of them around it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from orchestrator.cli.app import app
from orchestrator.cli.commands import COMMANDS, amends, wanted


def test_a_command_is_wanted_by_its_name() -> None:
    """First word only: what follows is the command's own business."""
    assert [each.name for each in wanted(["list", "--status", "stuck"])] == ["list"]
    assert [each.name for each in wanted(["dead-letters", "list"])] == ["dead-letters"]


@pytest.mark.parametrize("words", [[], ["--help"], ["lisst"], ["--install-completion"], ["--help", "list"]])
def test_everything_is_wanted_where_no_command_is_named(words: list[str]) -> None:
    """Help lists all of them, and a misspelled one is like one of them."""
    assert wanted(words) == COMMANDS


def test_completion_knows_all_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands on the line so far."""
    monkeypatch.setenv("_AMENDS_COMPLETE", "complete_bash")
    assert wanted(["list"]) == COMMANDS


@pytest.mark.parametrize("name", [each.name for each in COMMANDS])
def test_a_command_alone_says_what_it_says_among_the_others(name: str) -> None:
    """Its help, and what it answers to an option that it does not have."""
    alone = amends(wanted([name]))
    for words in ([name, "--help"], [name, "--no-such-option"]):
        one, all_of_them = (
            CliRunner().invoke(each, words, prog_name="amends", env={"COLUMNS": "80"}) for each in (alone, app)
        )
        assert (one.exit_code, one.stdout, one.stderr) == (
            all_of_them.exit_code,
            all_of_them.stdout,
            all_of_them.stderr,
        )
        assert one.output
