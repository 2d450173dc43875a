"""Text in a person's own editor: what is saved comes back, and what fails is said."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import typer

from orchestrator.cli.editing import edited


def _editor(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", shlex.join([sys.executable, "-c", f"import sys, pathlib; {program}"]))


def test_what_is_saved_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The editor may be a command with arguments; its file bears the name that was asked for."""
    _editor(monkeypatch, "p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text() + p.name)")

    assert edited('{"a": "\u00f8"}', "message.json") == '{"a": "\u00f8"}message.json'


def test_nothing_changed_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor that is left without saving."""
    _editor(monkeypatch, "pass")

    assert edited("{}", "message.json") is None


@pytest.mark.parametrize(
    ("editor", "code", "said"),
    [("/no/such/editor", 2, "cannot be started"), ("false", 1, "ended with 1; nothing is sent")],
)
def test_an_editor_that_fails_ends_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], editor: str, code: int, said: str
) -> None:
    """One line, and the right exit code."""
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", editor)
    with pytest.raises(typer.Exit) as ended:
        edited("{}", "message.json")

    assert ended.value.exit_code == code
    assert said in capsys.readouterr().err


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A message may hold what is nobody else's business."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    _editor(monkeypatch, "assert pathlib.Path(sys.argv[1]).is_file()")
    edited("{}", "message.json")

    assert list(tmp_path.iterdir()) == []
