"""Going through a history by hand: what each moment says, and that the history is read once for all of them."""

from __future__ import annotations

import sys
from io import StringIO

import pytest
from rich.console import Console

from contracts.registry import Registry
from orchestrator import Migration, Step, history
from orchestrator.catalog import Catalog
from orchestrator.cli.stepping import step_through
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.inputs import Action, Input, PersonActed
from tests.unit.recording import Recording
from tests.unit.work import Begun, Done, Refused, Work, approval, doing, pivot, step, undoing, work_saga


def gone_through(recorded: Recorded, catalog: Catalog, keys: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that say how it stands and what is waited for, when these keys come through a pipe."""
    said = StringIO()
    monkeypatch.setattr(sys, "stdin", StringIO("".join(f"{key}\n" for key in keys)))
    step_through(recorded, catalog, Console(file=said, width=200))
    return [line.strip() for line in said.getvalue().splitlines() if line.startswith(("  now", "  waits"))]


def test_each_moment_says_what_is_waited_for_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's answer, a wait's event, the answer to a compensation, and nothing at the end."""
    play = Recording(work_saga(step("stock"), approval(), step("money"), pivot("ship")))
    play.event(Begun(id=7))
    play.answer("stock", Done())
    play.deadline()
    assert gone_through(play.recorded, Catalog([play.saga]), "nnq", monkeypatch) == [
        "now running",
        "waits for the answer to work.do (stock) until 2026-03-01 12:00:32+00:00",
        "now running",
        "waits for approval until 2026-03-01 13:00:00+00:00",
        "now compensating",
        "waits for the answer to work.undo (stock) until 2026-03-01 13:00:32+00:00",
    ]


def test_each_moment_is_told_by_the_version_that_decided_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its migration a step has its old name, afterwards the new one."""
    old = work_saga(step("stock"), pivot("ship"))
    new = work_saga(
        Step("store", doing("stock"), compensation=undoing("stock")),
        pivot("ship"),
        version=2,
        migrations=(Migration(old, same, steps={"stock": "store"}),),
    )
    play = Recording(old)
    play.event(Begun(id=7))
    play.saga = new
    play.take(PersonActed(play.now, Action.MIGRATE, "bea", "names", from_version=1, to_version=2))
    assert gone_through(play.recorded, Catalog([old, new]), "nq", monkeypatch)[1::2] == [
        "waits for the answer to work.do (stock) until 2026-03-01 12:00:32+00:00",
        "waits for the answer to work.do (store) until 2026-03-01 12:00:32+00:00",
    ]


def same(data: Work) -> Work:
    """The data is as it was."""
    return data


def test_a_version_that_is_not_loaded_is_said_at_each_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the story is shown all the same."""
    play = Recording(work_saga(step("stock")))
    play.event(Begun(id=7))
    play.answer("stock", Refused())
    assert (
        gone_through(play.recorded, Catalog([]), "nq", monkeypatch)
        == [
            "now unknown",
            "waits for work v1 is not loaded; name its module in AMENDS_SAGAS",
        ]
        * 2
    )


def test_a_long_history_is_read_once_whatever_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand transitions are two thousand inputs to read, and no decision is taken again."""
    play = Recording(work_saga(pivot("ship")))
    play.event(Begun(id=7))
    while len(play.lines) < 2000:
        play.deadline()
    read = 0
    load_input = history.load_input

    def counted(text: str, registry: Registry) -> Input:
        nonlocal read
        read += 1
        assert read <= 2000
        return load_input(text, registry)

    monkeypatch.setattr(history, "load_input", counted)
    assert gone_through(play.recorded, Catalog([play.saga]), "eq", monkeypatch)[2] == "now running"
    assert read == 2000
