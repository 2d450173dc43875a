"""What the two type checkers say to right and wrong programs: an error on each line marked so, and nowhere else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = sorted((Path(__file__).parent / "cases").glob("*.py"))
MARK = "# expect-error"
MYPY_ERROR = re.compile(r"^(.+?):(\d+): error: (.*)$", re.MULTILINE)
LONGEST = 300
"""Seconds a checker may take, on a cold machine with an empty cache."""

Complaints = dict[tuple[str, int], str]
"""By file name and line, what the checker says there."""


def _run(*arguments: str) -> str:
    # The checker is the one of this interpreter's environment, and finds the packages installed there.
    environment = os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments, *map(str, CASES)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    # 0: nothing to complain of, 1: complaints; anything else is a checker that did not run.
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return done.stdout


@cache
def mypy() -> Complaints:
    """Errors of mypy --strict, with the project's own settings."""
    found = _run("mypy", "--strict", "--no-error-summary", "--no-pretty")
    return {(Path(file).name, int(line)): said for file, line, said in MYPY_ERROR.findall(found)}


@cache
def pyright() -> Complaints:
    """Errors of pyright, with the project's own settings."""
    report = json.loads(_run("pyright", "--outputjson", "--pythonpath", sys.executable))
    assert len(CASES) == report["summary"]["filesAnalyzed"]
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1): each["message"]
        for each in report["generalDiagnostics"]
        if each["severity"] == "error"
    }


def _expected(case: Path) -> set[int]:
    return {number for number, line in enumerate(case.read_text().splitlines(), 1) if MARK in line}


@pytest.mark.parametrize("checker", [mypy, pyright])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_wrong_wiring_is_refused_and_right_wiring_is_not(case: Path, checker: object) -> None:
    """Every marked line is refused by the checker, and no other line is."""
    complaints = mypy() if checker is mypy else pyright()
    said = {line: message for (file, line), message in complaints.items() if file == case.name}
    expected = _expected(case)
    assert {} == {line: message for line, message in said.items() if line not in expected}
    assert set() == expected - set(said)


def test_there_is_something_to_refuse() -> None:
    """The wrong programs are wrong in as many ways as they say, and the right ones in none."""
    assert {"right": 0, "right_tests": 0, "wrong_handlers": 10, "wrong_sagas": 40, "wrong_tests": 19} == {
        case.stem: len(_expected(case)) for case in CASES
    }
