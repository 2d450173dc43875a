"""Replaying one instance: the same code finds nothing, other code finds the first thing that matters."""

from __future__ import annotations

from typing import Any

from orchestrator import Saga, seconds
from orchestrator.catalog import Catalog
from orchestrator.replay.replaying import Difference, Kind, replay
from tests.unit.journey import journey
from tests.unit.recording import Recording
from tests.unit.work import Begun, Done, Refused, Undone, pivot, retriable, step, work_saga


def completed() -> Recording:
    """An instance whose every step has succeeded."""
    play = Recording(journey())
    play.event(Begun(id=7))
    for name in ("stock", "money", "ship", "invoice"):
        play.answer(name, Done())
    return play


def compensated() -> Recording:
    """An instance that was refused its second step."""
    play = Recording(journey())
    play.event(Begun(id=7))
    play.answer("stock", Done())
    play.answer("money", Refused())
    play.answer("stock", Undone())
    return play


def difference(play: Recording, *sagas: Saga[Any]) -> Difference | None:
    """What replaying it with other definitions finds."""
    return replay(play.recorded, Catalog(sagas)).difference


def test_unchanged_code_gives_the_same_transitions() -> None:
    """Whole histories are folded, and nothing differs."""
    for play, number in ((completed(), 5), (compensated(), 4)):
        replayed = replay(play.recorded, Catalog([journey()]))
        assert (replayed.transitions, replayed.difference) == (number, None)


def test_another_timeout_is_told_with_both_lengths() -> None:
    """At the transition that first sent the command."""
    changed = work_saga(step("stock", timeout=seconds(45)), step("money"), pivot("ship"), retriable("invoice"))
    found = difference(completed(), changed)
    assert found is not None
    assert (found.seq, found.kind) == (1, Kind.DEADLINE)
    assert found.sentence == "the answer to attempt 1 of stock's command is awaited for 47 s instead of 32 s"
