"""Recorded instances, and what a replay with other definitions says of them."""

from __future__ import annotations

from typing import Any

from contracts.message import Command
from orchestrator import Saga
from orchestrator.catalog import Catalog
from orchestrator.replay.recorded import Recorded
from orchestrator.replay.replaying import Difference, Kind, replay
from tests.unit.journey import journey
from tests.unit.recording import Recording
from tests.unit.work import (
    Begun,
    Done,
    Refused,
    Work,
)


class Ask(Command[Done, Refused], type="work.ask"):
    """Another command, which is refused as ever."""


def ask(data: Work) -> Ask:
    """Ask for it."""
    return Ask()


def recording(saga: Saga[Any] | None = None) -> Recording:
    """An instance that has just started."""
    play = Recording(saga or journey())
    play.event(Begun(id=7))
    return play


def completed() -> Recording:
    """An instance whose every step has succeeded."""
    play = recording()
    for name in ("stock", "money", "ship", "invoice"):
        play.answer(name, Done())
    return play


def difference(play: Recording | Recorded, *sagas: Saga[Any]) -> Difference | None:
    """What replaying it with these definitions finds."""
    recorded = play.recorded if isinstance(play, Recording) else play
    return replay(recorded, Catalog(sagas)).difference


def found(play: Recording | Recorded, *sagas: Saga[Any]) -> tuple[int, Kind, str]:
    """Where, of which kind and in which words it differs."""
    different = difference(play, *sagas)
    assert different is not None
    return different.seq, different.kind, different.sentence
