"""Replaying what people have done to an instance: migrations, moved deadlines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from contracts.registry import Registry
from orchestrator import Migration, Parallel, Saga, Step, hours
from orchestrator.catalog import Catalog
from orchestrator.history import load_input
from orchestrator.replay import contents
from orchestrator.replay.outcome import Passage
from orchestrator.replay.replaying import Difference, Kind
from orchestrator.replay.sides import Side
from orchestrator.saga.inputs import Action, PersonActed
from tests.unit.recording import Recording
from tests.unit.replayed import ask, difference, found, recording
from tests.unit.work import (
    Done,
    Undo,
    Work,
    step,
    work_saga,
)


def same(data: Work) -> Work:
    """The data is as it was."""
    return data


def checked(data: Work) -> Work:
    """The migration says so in the data."""
    return data.told("checked")


def checked_if_new(data: Work) -> Work:
    """Only what the first commands were made from becomes something else."""
    return data if data.log else data.told("checked")


def _versions(convert: Callable[[Work], Work], steps: dict[str, str] | None = None) -> tuple[Saga[Work], Saga[Work]]:
    def forgetful(data: Work, event: Done) -> Work:
        return Work(id=data.id, log=("forgotten",))

    left, right = (steps or {}).get("left", "left"), (steps or {}).get("right", "right")
    old = work_saga(Parallel(_asking("left"), _asking("right")), step("mail"))
    new = work_saga(
        Parallel(_asking(left, on_success=forgetful), _asking(right, on_success=forgetful)),
        step("mail"),
        version=2,
        migrations=(Migration(old, convert, steps=steps),),
    )
    return old, new


def _asking(name: str, **options: Any) -> Step[Work]:
    """A step whose command tells nothing of the data, so that any data leads to the same one."""
    wiring: dict[str, Any] = {"on_success": lambda data, event: data.told(f"{name} done")}
    return Step(name, ask, compensation=unask, **(wiring | options))


def unask(data: Work) -> Undo:
    """Take it back."""
    return Undo(step="any", seen=())


def _migrated(*, to_the_end: bool, steps: dict[str, str] | None = None) -> Recording:
    """Brought to version 2 while right is under way with a command made before left was done."""
    old, new = _versions(same, steps)
    play = recording(old)
    play.answer("left", Done())
    play.saga = new
    play.take(PersonActed(play.now, Action.MIGRATE, "bea", "v2 is out", from_version=1, to_version=2))
    if to_the_end:
        for name in ("right", "mail"):
            play.answer(name, Done())
        assert play.status == "completed"
    return play


@pytest.mark.parametrize("to_the_end", [False, True])
def test_a_migration_that_makes_other_data_is_told(to_the_end: bool) -> None:
    """At the migration, for the code's fault; also where a later answer has written over it."""
    play = _migrated(to_the_end=to_the_end)
    assert difference(play, *_versions(same)) is None
    assert found(play, *_versions(checked)) == (
        3,
        Kind.DATA,
        "migrated to v2, the data has another log; migrated to v2, what right's command was made from has another log",
    )
    different = difference(play, *_versions(checked_if_new))
    assert different == Difference(
        3,
        Kind.DATA,
        "migrated to v2, what right's command was made from has another log",
        "migrate by bea: v2 is out",
        ("right: log: []",),
        ('right: log: ["checked"]',),
    )


def test_data_of_a_migration_that_does_not_fit_any_more_is_told() -> None:
    """The new version's model wants other things than when it was recorded."""
    play = _migrated(to_the_end=False)
    line = play.lines[2]
    for old, new in (('"data":{"id":7', '"data":{"number":7'), ('"right":{"id":7', '"right":{"number":7')):
        edited = replace(line, facts=line.facts.replace(old, new))
        assert edited != line
        passage = Passage(
            play.recorded,
            play.saga,
            Catalog(_versions(same)).registry,
            None,
            line,
            load_input(line.input, Registry([])),
        )
        told = contents.explain(passage, Side.of(edited.facts, "[]"), Side.of(line.facts, "[]"))
        assert told is not None
        assert told.kind is Kind.UNREADABLE
        assert told.sentence.startswith("the recorded data does not fit Work any more: ")


def test_a_migration_that_renames_otherwise_is_told() -> None:
    """Both sides say which steps have which names."""
    play = _migrated(to_the_end=False, steps={"left": "west"})
    old, new = _versions(same, {"left": "west"})
    assert difference(play, old, new) is None
    other = _versions(same, {"left": "port"})
    assert found(play, *other) == (
        3,
        Kind.OUTCOME,
        "goes on as v2, was v1, left is called port; recorded: goes on as v2, was v1, left is called west",
    )


def test_a_moved_deadline_that_was_edited_is_a_finding() -> None:
    """Facts that say another moment than the person did."""
    play = recording(work_saga(step("stock")))
    play.take(PersonActed(play.now, Action.RESCHEDULE, "bea", "away", "stock", due=play.now + hours(1)))
    edited = replace(play.lines[1], facts=play.lines[1].facts.replace("T13:00:00Z", "T14:00:00Z"))
    row = replace(
        play.recorded,
        transitions=(play.lines[0], edited),
        progress=play.recorded.progress.replace("T13:00:00Z", "T14:00:00Z"),
    )
    assert found(row, work_saga(step("stock"))) == (2, Kind.DEADLINE, "stock is due after 1 h instead of 2 h")
