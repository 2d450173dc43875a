"""A bundle as a test: the file is a good one, passes, and fails with the explanation when the code changes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from orchestrator.replay.bundle import Bundle, write_bundle
from orchestrator.replay.collecting import schemas_of
from orchestrator.saga.fingerprint import describe, fingerprint
from orchestrator.testing.bundles import Outcome, outcome_of, replay_bundle
from orchestrator.testing.generating import source_of_test
from tests.acceptance.pages import ROOT
from tests.unit.clinic import CLINIC, Insured, Released
from tests.unit.journey import journey
from tests.unit.recording import Recording
from tests.unit.test_redacting import PATIENT
from tests.unit.work import Begun, Done, Refused, Undone

SAME = "from tests.unit.journey import journey\n\nSAGA = journey()\n"
CHANGED = """
from orchestrator import seconds
from tests.unit.work import pivot, retriable, step, work_saga

SAGA = work_saga(step("stock", timeout=seconds(45)), step("money"), pivot("ship"), retriable("invoice"))
"""


@pytest.fixture
def play() -> Recording:
    """An instance that was refused its second step."""
    play = Recording(journey())
    play.event(Begun(id=7))
    play.answer("stock", Done())
    play.answer("money", Refused())
    play.answer("stock", Undone())
    return play


def _bundle(play: Recording) -> Bundle:
    saga = play.saga
    return Bundle(play.recorded, (), fingerprint(saga), describe(saga), schemas_of(saga), "0.1.0")


@pytest.fixture
def path(play: Recording, tmp_path: Path) -> Path:
    """Its bundle's file."""
    path = tmp_path / "refused.json"
    write_bundle(_bundle(play), path)
    return path


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A module with this text; returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(text: str) -> str:
        name = f"made_{abs(hash((str(tmp_path), text)))}"
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
        return name

    return make


def test_a_bundle_replays_to_its_outcome(path: Path, module: Callable[[str], str]) -> None:
    """What came of the saga can be asserted: status, steps, messages, data."""
    assert replay_bundle(path, sagas=(module(SAME),)) == Outcome(
        status="compensated",
        steps={"stock": "compensated", "money": "refused"},
        sent=("work.do", "work.do", "work.undo", "work.amended"),
        data={"id": 7, "log": ["stock done", "money refused: no_time"]},
    )


def test_a_changed_definition_fails_and_says_how(path: Path, module: Callable[[str], str]) -> None:
    """The transition, both sides of it, and what of the definition has changed since."""
    with pytest.raises(AssertionError) as caught:
        replay_bundle(path, sagas=(module(CHANGED),))
    lines = str(caught.value).splitlines()
    assert lines == [
        "work v1 22689877-840d-5d35-b039-b18a4835c9b0 differs at transition 1 (work.begun from test):",
        "  the answer to attempt 1 of stock's command is awaited for 47 s instead of 32 s",
        "  recorded: stock: due 2026-03-01T12:00:32Z",
        "  now:      stock: due 2026-03-01T12:00:47Z",
        "What has changed since it was exported:",
        "  stages.stock.timeout: 30.0, now 45.0",
    ]


def test_a_definition_that_is_not_there_fails(path: Path) -> None:
    """Modules that hold other sagas only are named in a plain sentence."""
    with pytest.raises(AssertionError, match="work v1"):
        replay_bundle(path)


def _compiled(source: str, path: Path) -> CodeType:
    return compile(source, str(path), "exec")


def test_the_generated_test_passes(play: Recording, path: Path, module: Callable[[str], str]) -> None:
    """It reads the bundle beside it, and asserts what came of it, in words to be read."""
    file = path.with_name("refused.py")
    source = source_of_test(_bundle(play), module(SAME))
    space: dict[str, Any] = {"__file__": str(file)}
    exec(_compiled(source, file), space)
    space["test_work_22689877"]()
    assert '    assert outcome.status == "compensated"\n' in source


def test_the_generated_test_fails_where_its_outcome_is_another(
    play: Recording, path: Path, module: Callable[[str], str]
) -> None:
    """Each of its assertions is looked at."""
    file = path.with_name("refused.py")
    source = source_of_test(_bundle(play), module(SAME))
    for right, wrong in (('status == "comp', 'status == "x'), ('"money": "refused"', '"money": "x"'), ("undo", "do")):
        space: dict[str, Any] = {"__file__": str(file)}
        exec(_compiled(source.replace(right, wrong), file), space)
        with pytest.raises(AssertionError):
            space["test_work_22689877"]()


def test_the_generated_file_is_as_lint_wants_it() -> None:
    """For ended and for hardly begun sagas, ruff finds nothing to complain of and nothing to lay out otherwise."""
    ended = Recording(CLINIC, f"{PATIENT.email}/{PATIENT.ward}")
    ended.event(PATIENT)
    begun = _bundle(ended)
    ended.answer("insurance", Insured(policy="p"))
    ended.deadline()
    ended.answer("insurance", Released())
    for bundle in (begun, _bundle(ended)):
        source = source_of_test(bundle, "a_team.with_a_long_name.and_many_packages.of_sagas.that_are_deep.clinic")
        for command in (("check",), ("format", "--check")):
            ruff = (sys.executable, "-m", "ruff", *command, "--stdin-filename", "tests/test_clinic.py", "-")
            done = subprocess.run(ruff, input=source, capture_output=True, text=True, cwd=ROOT, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


def test_an_outcome_names_what_was_sent_again_again(play: Recording) -> None:
    """A command that was repeated stands there as often as it left."""
    silent = Recording(journey())
    silent.event(Begun(id=7))
    silent.deadline()
    assert outcome_of(silent.recorded).sent == ("work.do", "work.do")
