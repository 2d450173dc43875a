"""Differences in what moves: steps that came, went, changed their names or places, and compensations."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from orchestrator import words
from orchestrator.replay.difference import Difference, Kind
from orchestrator.replay.outcome import Passage
from orchestrator.replay.sides import Json, Side
from orchestrator.saga.steps import Step

_BEGUN = frozenset({"command_sent", "wait_begun", "step_succeeded", "step_skipped"})


def explain(passage: Passage, recorded: Side, now: Side) -> Difference | None:
    """The first move that differs, as a sentence; None where everything moves alike."""
    before, after = recorded.moves, now.moves
    if before == after:
        return None
    place = next(
        (number for number, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]),
        min(len(before), len(after)),
    )
    was = before[place] if place < len(before) else None
    is_ = after[place] if place < len(after) else None
    kind, sentence = _Reading(passage, recorded, now).of(was, is_)
    return Difference(passage.line.seq, kind, sentence, words.of_input(passage.given), recorded.told(), now.told())


class _Reading:
    """What two different moves at one place of a transition say about the definition."""

    def __init__(self, passage: Passage, recorded: Side, now: Side) -> None:
        self._saga = passage.saga
        self._passage = passage
        self._recorded = recorded
        self._now = now

    def of(self, was: Json | None, is_: Json | None) -> tuple[Kind, str]:
        return (
            self._gone(was, is_)
            or self._compensation(was, is_)
            or self._come(was, is_)
            or (Kind.OUTCOME, self._otherwise(was, is_))
        )

    def _gone(self, was: Json | None, is_: Json | None) -> tuple[Kind, str] | None:
        name = was.get("step") if was else None
        if name is None or name in self._saga.stages:
            return None
        other = is_.get("step") if is_ else None
        if other is not None and self._renamed(str(name), str(other), was, is_):
            return Kind.STEP_RENAMED, f"step {name} is called {other} here"
        return Kind.STEP_REMOVED, f"step {name} is not in the definition any more"

    def _renamed(self, old: str, new: str, was: Any, is_: Any) -> bool:
        if was["fact"] != is_["fact"] or new in self._names():
            return False
        return self._recorded.types.get(old) == self._now.types.get(new)

    def _compensation(self, was: Json | None, is_: Json | None) -> tuple[Kind, str] | None:
        undone, undoes = _compensated(was), _compensated(is_)
        if undone == undoes:
            return None
        if undone is not None:
            stage = self._saga.stages[undone]
            if not isinstance(stage, Step) or stage.compensation is None:
                told = self._recorded.types.get(undone)
                return Kind.COMPENSATION, f"{undone} is not compensated any more: {told} is not sent"
        if undoes is not None and undoes not in self._ever("compensation"):
            return Kind.COMPENSATION, f"{undoes} is compensated here: {self._now.types.get(undoes)} is sent"
        if undone is not None and undoes is not None:
            return Kind.COMPENSATION, f"{undoes} is compensated before {undone}"
        return None

    def _come(self, was: Json | None, is_: Json | None) -> tuple[Kind, str] | None:
        name = is_.get("step") if is_ else None
        state = self._passage.state
        if is_ is None or name is None or is_["fact"] not in _BEGUN or (state is not None and name in state.steps):
            return None
        follower = was.get("step") if was else None
        if follower == name:
            return None
        if name in self._names():
            place = f"before {follower}" if follower else self._place(str(name))
            return Kind.STEPS_REORDERED, f"the steps have another order: {name} comes {place}"
        if follower is None or self._passage.recorded.status == "completed":
            return Kind.STEP_ADDED, f"step {name} is new: it comes {self._place(str(name))}"
        return (
            Kind.STEP_ADDED,
            f"step {name} comes before {follower} here: it is new, or came later when this was recorded",
        )

    def _place(self, name: str) -> str:
        names = list(self._saga.stages)
        place = names.index(name)
        return f"after {names[place - 1]}" if place else f"before {names[1]}" if len(names) > 1 else "alone"

    def _otherwise(self, was: Json | None, is_: Json | None) -> str:
        before = words.of_fact(was, self._recorded.types) if was else "nothing more"
        after = words.of_fact(is_, self._now.types) if is_ else "nothing more"
        return f"{after}; recorded: {before}"

    def _names(self) -> frozenset[str]:
        """Every step that the recorded history ever mentions."""
        return frozenset(
            fact["step"]
            for line in self._passage.recorded.transitions
            for fact in from_json(line.facts)
            if fact.get("step") is not None
        )

    def _ever(self, direction: str) -> frozenset[str]:
        return frozenset(
            fact["step"]
            for line in self._passage.recorded.transitions
            for fact in from_json(line.facts)
            if fact.get("direction") == direction
        )


def _compensated(move: Json | None) -> str | None:
    if move is None or move["fact"] != "command_sent" or move["direction"] != "compensation":
        return None
    return str(move["step"])
