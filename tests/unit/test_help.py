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


def _commands() -> Iterator[tuple[str, ...]]:
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    for name, command in top.commands.items():
        if isinstance(command, TyperGroup):
            yield from ((name, each) for each in command.commands)
        else:
            yield (name,)


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


@pytest.mark.parametrize("words", [*_commands()], ids=" ".join)
def test_every_command_has_an_example_to_copy(words: tuple[str, ...]) -> None:
    """On a line of its own, whole, and it names the command."""
    examples = [line for line in _helped(*words).splitlines() if line.startswith("  Example: ")]
    assert examples
    for line in examples:
        assert f"amends {' '.join(words)}" in line
        assert line.count("Example:") == 1
