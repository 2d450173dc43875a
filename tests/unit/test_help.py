"""What `amends --help` says at eighty columns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from orchestrator.cli.app import app


def _helped(*words: str) -> str:
    return CliRunner().invoke(app, [*words, "--help"], prog_name="amends", env={"COLUMNS": "80"}).stdout


NO_DATA = {
    *(("run",), ("relay",), ("migrate",), ("new", "service"), ("start",), ("export",), ("seal",)),
    *(("broker", "needs"), ("broker", "definitions"), ("broker", "resources"), ("keys", "new")),
    *(("subjects", "migrate"), ("subjects", "master", "new")),
}
"""Commands that print no data, or one form of it only: an id, a bundle, names of files."""


def _commands() -> Iterator[tuple[str, ...]]:
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    yield from _within(top)


def _within(group: TyperGroup, *words: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _within(command, *words, name)
        else:
            yield (*words, name)


def test_every_command_has_its_line_under_a_heading() -> None:
    """In a sensible order, and none is cut off."""
    told = _helped()
    headings = [line for line in told.splitlines() if line.endswith(":") and not line.startswith((" ", "Usage"))]
    assert headings == [
        "Options:",
        "Run:",
        "Look (changes nothing):",
        "Replay (publishes nothing):",
        "Repair (kept, with who and why):",
    ]
    assert [line for line in told.splitlines() if line.endswith("...") and not line.startswith("Usage")] == []
    assert "  why       Say why a saga is where it is, and what you can do.\n" in told
    assert max(map(len, told.splitlines())) <= 80


def _groups() -> Iterator[tuple[str, ...]]:
    yield from dict.fromkeys(words[:depth] for words in _commands() for depth in range(1, len(words)))


@pytest.mark.parametrize("words", [*_commands(), *_groups()], ids=" ".join)
def test_every_command_has_an_example_to_copy(words: tuple[str, ...]) -> None:
    """On a line of its own, whole, and it names the command."""
    examples = [line for line in _helped(*words).splitlines() if line.startswith("  Example: ")]
    assert examples
    for line in examples:
        assert f"amends {' '.join(words)}" in line
        assert line.count("Example:") == 1


@pytest.mark.parametrize("words", [*_commands()], ids=" ".join)
def test_every_command_that_prints_data_prints_it_for_programs_too(words: tuple[str, ...]) -> None:
    """With --output table or json, -o for short."""
    assert ("-o, --output " in " ".join(_helped(*words).split())) is (words not in NO_DATA)


@pytest.mark.parametrize("words", [*_commands()], ids=" ".join)
def test_every_command_refuses_what_it_does_not_know(words: tuple[str, ...]) -> None:
    """Exit code 2, and nothing on stdout."""
    ended = CliRunner().invoke(app, [*words, "--no-such-option"], prog_name="amends")
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "No such option: --no-such-option" in ended.stderr
