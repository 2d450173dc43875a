"""Whether what an instance waits for at this moment is still what a changed definition would take.

A history says what an instance has done. What would end its waiting (another event, an answer, the key by which an
event finds it) is in no history: the definition as it was last accepted says it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from orchestrator.saga.definition import Saga
from orchestrator.saga.fingerprint import describe
from orchestrator.saga.state import Direction, SagaState

Description = dict[str, Any]
"""A definition as `fingerprint.describe` told it."""
_Stage = Mapping[str, Any]

# Reading the code of every function takes tens of milliseconds, and an instance is one of many of its definition.
_describe = lru_cache(maxsize=256)(describe)


def become_another(saga: Saga[Any], state: SagaState, before: Description) -> Iterator[str]:
    """Steps that are waited for and have become a wait or a delay, and the other way round: nothing ends them."""
    for name, was, now in _waited_for(saga, state, before):
        if _noun(was) != _noun(now):
            yield f"it waits for {name}, which was a {was['is']} and is a {now['is']} now"


def changed(saga: Saga[Any], state: SagaState, before: Description) -> Iterator[str]:
    """What is waited for and would be taken otherwise, where it still is a step, a wait or a delay as it was."""
    for name, was, now in _waited_for(saga, state, before):
        if was["is"] != now["is"]:
            yield f"it waits for {name}, which was a {was['is']} and is a {now['is']} now"
        elif was["is"] == "wait":
            yield from _wait(name, was, now)
        elif state.steps[name].awaiting is Direction.COMPENSATION:
            yield from _answers(f"the compensation of {name}", was, now, "compensation_answers")
        else:
            yield from _answers(name, was, now, "answers")


def _waited_for(saga: Saga[Any], state: SagaState, before: Description) -> Iterator[tuple[str, _Stage, _Stage]]:
    after = _describe(saga)["stages"]
    for name in state.current:
        was, now = before.get("stages", {}).get(name), after.get(name)
        if was is not None and now is not None and was != now:
            yield name, was, now


def _noun(stage: _Stage) -> str:
    """step, wait or delay: the kind of a step is what comes before it."""
    return str(stage["is"]).rpartition(" ")[2]


def _wait(name: str, was: _Stage, now: _Stage) -> Iterator[str]:
    if was["event"] != now["event"]:
        yield f"it waits at {name} for {was['event']}, and would wait for {now['event']}"
    elif was["key"] != now["key"]:
        yield f"it waits at {name} for {was['event']}, which would find it by another key"


def _answers(what: str, was: _Stage, now: _Stage, field: str) -> Iterator[str]:
    # A delay has none; nor has a step that was done before its saga started.
    before, after = was.get(field, []), now.get(field, [])
    if before != after:
        yield f"it waits for {what} to be answered with {_either(before)}, and would take {_either(after)}"


def _either(events: list[str]) -> str:
    return " or ".join(events) or "nothing"
