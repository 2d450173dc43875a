"""What is said of the locked packages, also where nobody could be asked."""

from __future__ import annotations

import json
import re

import pytest

from deploy.vulnerabilities import BILLS, LOCKS, ROOT, Findings, conclude, findings

CLEAN = {"name": "yarl", "version": "1.25.1", "vulns": []}
BAD = {"name": "jinja2", "version": "2.0", "vulns": [{"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"]}]}
SKIPPED = {"name": "typer", "skip_reason": "Dependency not found on PyPI and could not be audited: typer (0.29.2)"}


def test_a_report_is_read() -> None:
    """What is known, with what mends it, and whom nobody has asked about."""
    report = json.dumps({"dependencies": [CLEAN, BAD, SKIPPED], "fixes": []})

    assert findings(report) == Findings(3, ("jinja2 2.0: PYSEC-2019-217, mended in 2.10.1",), ("typer",))


@pytest.mark.parametrize(
    ("found", "code", "words"),
    [
        (Findings(2, (), ()), 0, "a.lock: 2 packages, no known vulnerability"),
        (Findings(2, ("jinja2 2.0: X, mended in 3",), ()), 1, "a.lock: jinja2 2.0: X, mended in 3"),
        (Findings(2, ("jinja2 2.0: X, mended in 3",), ("typer",)), 1, "1 of 2 packages could NOT be asked about"),
        (Findings(2, (), ("typer", "yarl")), 69, "2 of 2 packages could NOT be asked about (typer, yarl, …)"),
        ("no route to host", 69, "a.lock: nobody could be asked: no route to host"),
    ],
)
def test_silence_is_not_taken_for_good_news(
    found: Findings | str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package that could not be looked up is no clean one."""
    assert conclude({"a.lock": found}) == code
    assert words in capsys.readouterr().out


def test_what_the_images_are_built_from_is_in_a_bill_and_asked_about() -> None:
    """They bring packages along that Amends itself does not need: those of its extras."""
    (lock,) = set(re.findall(r"-r /build/(requirements-image\.lock)", (ROOT / "deploy" / "Dockerfile").read_text()))
    assert lock in BILLS.values()
    assert {*BILLS.values()} <= {*LOCKS}
    assert {path.name for path in ROOT.glob("requirements*.lock")} >= {*LOCKS}
