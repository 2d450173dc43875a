"""deploy/replace.sh, with somebody who notes what Docker is told in the place of Docker."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.pages import ROOT

_DOCKER = """#!/bin/sh
echo "$*" >>"$NOTES"
case "$*" in
    "compose ps --quiet "*) echo "$RUNS" ;;
    "compose run "*) echo "Container amends-order-run-1  Created" >&2; echo beside ;;
    "inspect "*) head -n 1 "$STATES"; sed -i '2,$!{$!d}' "$STATES" ;;
    "compose up "*) exit "$UP" ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """A folder with a program of that name in it."""
    (tmp_path / "docker").write_text(_DOCKER)
    (tmp_path / "docker").chmod(0o755)
    return tmp_path


def _replace(
    docker: Path, *words: str, states: str = "running healthy", runs: str = "old", up: int = 0
) -> tuple[int, str, list[str]]:
    (docker / "states").write_text(states + "\n")
    notes = docker / "notes"
    notes.touch()
    given = {"NOTES": str(notes), "STATES": str(docker / "states"), "RUNS": runs, "UP": str(up)}
    ended = subprocess.run(
        ["sh", str(ROOT / "deploy" / "replace.sh"), *words],
        env={**os.environ, **given, "PATH": f"{docker}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    told = [line for line in notes.read_text().splitlines() if not line.startswith("inspect ")]
    return ended.returncode, ended.stderr, told


BESIDE = ["compose ps --quiet order", "compose run --detach --no-deps -T order"]
REPLACED = "compose up --detach --no-deps --no-build --wait order"
GONE = ["stop beside", "rm beside"]


def test_the_old_one_goes_when_the_new_one_is_ready_beside_it(docker: Path) -> None:
    """And the second container when Compose has replaced the first."""
    code, _, told = _replace(docker, "order", states="created \nrunning starting\nrunning starting\nrunning healthy")
    assert (code, told) == (0, [*BESIDE, REPLACED, *GONE])


def test_where_the_new_one_does_not_become_ready_the_old_one_stays(docker: Path) -> None:
    """What it said is shown, and it is removed."""
    code, said, told = _replace(docker, "order", states="running starting\nrestarting starting")
    assert (code, told) == (1, [*BESIDE, "logs --tail 20 beside", *GONE])
    assert "the new version of order does not become ready (restarting starting); the old one goes on" in said


def test_where_compose_cannot_replace_it_the_second_one_goes_too(docker: Path) -> None:
    """With Compose's exit code."""
    code, _, told = _replace(docker, "order", up=17)
    assert (code, told) == (17, [*BESIDE, REPLACED, *GONE])


def test_what_does_not_run_is_not_replaced(docker: Path) -> None:
    """It says how to start it; without a name it says how it is used."""
    code, said, told = _replace(docker, "order", runs="")
    assert (code, told) == (1, BESIDE[:1])
    assert "order does not run; start it: docker compose up --detach --wait order" in said
    code, said, _ = _replace(docker)
    assert code == 2
    assert "sh deploy/replace.sh orchestrator" in said
