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
    "compose config") printf 'name: amends\\nservices:\\n  order:\\n    name: other\\n' ;;
    "compose ps --quiet "*) [ -e "$NOTES.up" ] && echo "${RUNS:-new}" || echo "$RUNS" ;;
    "compose run "*) echo "Container amends-order-beside  Created" >&2; echo 0a1b; : >"$BESIDE" ;;
    "inspect "*-beside) [ -e "$BESIDE" ] && head -n 1 "$STATES" && sed -i '2,$!{$!d}' "$STATES" ;;
    "inspect "*"\n"*) exit 1 ;;
    "inspect "*) echo "$OWN" ;;
    "compose up "*)
        [ -z "$INTERRUPTED" ] || { kill -INT $PPID; exit 130; }
        [ "$UP" != 0 ] || : >"$NOTES.up"
        exit "$UP" ;;
    "rm amends-order-beside") rm "$BESIDE" ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """A folder with a program of that name in it."""
    (tmp_path / "docker").write_text(_DOCKER)
    (tmp_path / "docker").chmod(0o755)
    return tmp_path


def _replace(
    docker: Path,
    *words: str,
    states: str = "running healthy",
    runs: str = "old",
    own: str = "running healthy",
    up: int = 0,
    interrupted: str = "",
) -> tuple[int, str, list[str]]:
    """How it ended, what it said, and what Docker was told that changes something."""
    (docker / "states").write_text(states + "\n")
    notes = docker / "notes"
    notes.write_text("")
    given = {
        "NOTES": str(notes),
        "STATES": str(docker / "states"),
        "BESIDE": str(docker / "beside"),
        "RUNS": runs,
        "OWN": own,
        "UP": str(up),
        "INTERRUPTED": interrupted,
    }
    ended = subprocess.run(
        ["sh", str(ROOT / "deploy" / "replace.sh"), *words],
        env={**os.environ, **given, "PATH": f"{docker}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    told = [
        line
        for line in notes.read_text().splitlines()
        if not line.startswith(("inspect ", "compose config", "compose ps ", "rm --force "))
    ]
    return ended.returncode, ended.stderr, told


BESIDE = ["compose run --detach --no-deps -T --name amends-order-beside order"]
REPLACED = ["compose up --detach --no-deps --no-build --wait order"]
GONE = ["stop amends-order-beside", "rm amends-order-beside"]
STAYS = "order is not ready; amends-order-beside, which has no port, does its work until you have mended that"


def test_the_old_one_goes_when_the_new_one_is_ready_beside_it(docker: Path) -> None:
    """And the second container when Compose has replaced the first."""
    code, _, told = _replace(docker, "order", states="created \nrunning starting\nrunning starting\nrunning healthy")
    assert (code, told) == (0, [*BESIDE, *REPLACED, *GONE])


def test_where_the_new_one_does_not_become_ready_the_old_one_stays(docker: Path) -> None:
    """What it said is shown, and it is removed."""
    code, said, told = _replace(docker, "order", states="running starting\nrunning starting\nrestarting starting")
    assert (code, told) == (1, [*BESIDE, "logs --tail 20 amends-order-beside", *GONE])
    assert "the new version of order does not become ready (restarting starting); the old one goes on" in said


def test_where_compose_fails_before_the_old_one_has_ended_the_second_one_goes(docker: Path) -> None:
    """With Compose's exit code."""
    code, said, told = _replace(docker, "order", up=17)
    assert (code, told) == (17, [*BESIDE, *REPLACED, *GONE])
    assert "not ready" not in said


@pytest.mark.parametrize("own", ["created ", "running starting", "restarting unhealthy"])
def test_where_compose_fails_half_way_the_second_one_stays_until_the_next_time(docker: Path, own: str) -> None:
    """Nobody else would do the work; run again, it goes on with that one."""
    code, said, told = _replace(docker, "order", up=17, own=own)
    assert (code, told) == (17, [*BESIDE, *REPLACED])
    assert STAYS in said
    code, _, told = _replace(docker, "order", runs="")
    assert (code, told) == (0, [*REPLACED, *GONE])


def test_ctrl_c_half_way_leaves_the_second_one_where_nobody_else_does_the_work(docker: Path) -> None:
    """As where Compose fails; where the first one works, it takes the second one away."""
    code, said, told = _replace(docker, "order", interrupted="yes", own="created ")
    assert (code, told) == (130, [*BESIDE, *REPLACED])
    assert STAYS in said
    code, said, told = _replace(docker, "order", interrupted="yes")
    assert (code, told) == (130, [*REPLACED, *GONE])
    assert "not ready" not in said


@pytest.mark.parametrize("left", ["exited ", "created "])
def test_a_second_one_that_was_left_and_does_not_run_is_made_anew(docker: Path, left: str) -> None:
    """By a machine that was restarted, say: nobody would ever start it."""
    (docker / "beside").touch()
    code, _, told = _replace(docker, "order", states=f"{left}\nrunning healthy")
    assert (code, told) == (0, [*BESIDE, *REPLACED, *GONE])


def test_of_several_that_a_service_has_one_is_enough(docker: Path) -> None:
    """Where Compose has replaced them, the second one goes as well."""
    code, said, told = _replace(docker, "order", runs="one\ntwo")
    assert (code, told) == (0, [*BESIDE, *REPLACED, *GONE])
    assert "not ready" not in said


def test_what_does_not_run_is_not_replaced(docker: Path) -> None:
    """It says how to start it; without a name it says how it is used."""
    code, said, told = _replace(docker, "order", runs="")
    assert (code, told) == (1, [])
    assert "order does not run; start it: docker compose up --detach --wait order" in said
    code, said, _ = _replace(docker)
    assert code == 2
    assert "sh deploy/replace.sh orchestrator" in said
