"""Rubbish that is neither an id nor a bundle: arguments that are no text, odd JSON, modules that break."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.acceptance.programs import AMENDS, environment, finished


def _refused(cwd: Path, code: int, complaint: str, *words: str, **given: str) -> None:
    ended = finished((*AMENDS, *words), cwd, **given)
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    assert ended.stderr == f"amends: {complaint}\n"


def test_an_argument_that_is_no_text(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 name nothing, whatever they are an argument of."""
    for words in ([b"show", b"\xff"], [b"list", b"--key", b"\xff"]):
        ended = subprocess.run(
            [*AMENDS, *words], cwd=tmp_path, env=environment(), capture_output=True, check=False, timeout=180
        )
        number = len(words)
        assert (ended.returncode, ended.stdout) == (2, b"")
        assert ended.stderr == f"amends: argument {number} is no UTF-8 text: '\\udcff'\n".encode()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[" * 2000, "that JSON cannot be taken: nested deeper than 32"),
        ('{"reason": "\\ud800"}', "that JSON cannot be taken: a text contains a lone surrogate"),
        ('{"reason": "\\u0000"}', "that JSON cannot be taken: a text contains NUL"),
        ("{", "that is no JSON: Expecting property name enclosed in double quotes at character 1"),
    ],
    ids=["deep", "surrogate", "NUL", "no JSON"],
)
def test_json_that_no_message_may_have(tmp_path: Path, text: str, complaint: str) -> None:
    """What a broker's message would be refused for is refused from a person, too."""
    (tmp_path / "given.json").write_text(text, "utf-8")
    _refused(tmp_path, 2, complaint, "start", "fulfill_order", "@given.json", "--yes")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def (\n", "SyntaxError: invalid syntax ({}:1)"),
        ("\n1 / 0\n", "ZeroDivisionError: division by zero ({}:2)"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3 ({}:2)"),
    ],
    ids=["syntax", "raises", "exits"],
)
def test_a_module_that_breaks_when_it_is_imported(tmp_path: Path, source: str, told: str) -> None:
    """Its own mistake is told with its own line; bad configuration, exit code 78."""
    module = tmp_path / "broken_sagas.py"
    module.write_text(source, "utf-8")
    complaint = "invalid saga: AMENDS_SAGAS names 'broken_sagas', which cannot be imported: " + told.format(module)
    _refused(tmp_path, 78, complaint, "replay", "--all", AMENDS_SAGAS="broken_sagas")


def test_a_database_that_is_damaged(tmp_path: Path) -> None:
    """It is called that: to migrate a damaged file would help nobody."""
    database = tmp_path / "amends.db"
    url = {"DATABASE_URL": f"sqlite:///{database}"}
    assert finished((*AMENDS, "migrate"), tmp_path, **url).returncode == 0
    database.write_bytes(database.read_bytes()[:20_000])
    damaged = finished((*AMENDS, "list"), tmp_path, **url)
    assert damaged.returncode == 78
    assert damaged.stderr.startswith(f"amends: sqlite:///{database} is damaged (")
