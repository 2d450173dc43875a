"""Whether an instance in flight can go on under the definition of this checkout.

Three questions, in this order. Can it go on at all: is its definition loaded, can its row be read, is what it waits for
still a step? What would happen next: does what it would send when nobody answers, or when it turns back, raise? And did
it happen so: does its history replay, would what it waits for still be taken, and what it has done still be undone? The
first two are told as "will get stuck", the last as "needs a new version": instances in flight keep the old definition,
new ones start with the new one.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

from orchestrator import history
from orchestrator.catalog import Catalog
from orchestrator.preflight import awaited
from orchestrator.preflight.awaited import Description
from orchestrator.replay.difference import Kind
from orchestrator.replay.recorded import Recorded
from orchestrator.replay.replaying import replay
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import DeadlinePassed
from orchestrator.saga.machine import decide, fold
from orchestrator.saga.state import SagaState, StepStatus
from orchestrator.saga.steps import Delay, Step, Wait

MOST_DEADLINES = 50
"""Deadlines that are let pass to see what happens: more than a step and its compensation have attempts by default."""
_TO_UNDO = (StepStatus.RUNNING, StepStatus.SUCCEEDED, StepStatus.IN_DOUBT, StepStatus.COMPENSATING)


class Verdict(StrEnum):
    """What a deploy of this checkout means for an instance in flight."""

    COMPATIBLE = "compatible"
    NEEDS_VERSION = "needs a new version"
    GETS_STUCK = "will get stuck"


@dataclass(frozen=True, slots=True)
class Examined:
    """One instance and the verdict. `reason` says nothing that is the instance's own: equal ones are one finding."""

    id: UUID
    name: str
    version: int
    key: str
    status: str
    step: str
    verdict: Verdict
    reason: str = ""
    seq: int = 0
    """The transition where its history and this checkout part, where that is the reason."""


def examine(recorded: Recorded, catalog: Catalog, before: Description | None) -> Examined:
    """The verdict on one instance; `before` says how its definition stood when it was last accepted, if it changed."""
    saga = catalog.get(recorded.name, recorded.version)
    if saga is None:
        why = f"{recorded.name} v{recorded.version} is not loaded here: keep it beside the new one, or migrate"
        return _examined(recorded, Verdict.GETS_STUCK, why)
    try:
        state = history.load_state(
            saga, status=recorded.status, reason=recorded.reason, data=recorded.data, progress=recorded.progress
        )
    except history.CorruptHistory as error:
        return _examined(recorded, Verdict.GETS_STUCK, f"its row cannot be read: {_one_line(error)}")
    blocked = next(_blocked(saga, recorded.id, state, recorded.updated_at, before), None)
    if blocked is not None:
        return _examined(recorded, Verdict.GETS_STUCK, blocked)
    difference = replay(recorded, catalog).difference
    if difference is not None and difference.kind is not Kind.NOT_LOADED:
        # Not loaded can only be a version that it has left: what it did under that one is past.
        verdict = Verdict.GETS_STUCK if difference.kind is Kind.HISTORY else Verdict.NEEDS_VERSION
        return _examined(recorded, verdict, difference.sentence, difference.seq)
    noticed = None if before is None else next(_noticed(saga, state, before), None)
    if noticed is not None:
        return _examined(recorded, Verdict.NEEDS_VERSION, noticed)
    return _examined(recorded, Verdict.COMPATIBLE)


def _examined(recorded: Recorded, verdict: Verdict, reason: str = "", seq: int = 0) -> Examined:
    return Examined(
        recorded.id,
        recorded.name,
        recorded.version,
        recorded.key,
        recorded.status,
        recorded.step,
        verdict,
        reason,
        seq,
    )


# -- can it go on --------------------------------------------------------------------------------------------


def _blocked(
    saga: Saga[Any], identity: UUID, state: SagaState, at: datetime, before: Description | None
) -> Iterator[str]:
    for name in state.current:
        stage = saga.stages.get(name)
        if stage is None:
            yield f"it waits for {name}, which is no step of the definition any more"
        elif state.steps[name].status is StepStatus.COMPENSATING and not _undoable(stage):
            yield f"it waits for {name} to be compensated, which has no compensation any more"
        elif isinstance(stage, Step) and stage.action is None and state.steps[name].status is StepStatus.RUNNING:
            yield f"it waits for an answer to {name}, which sends nothing any more"
        elif state.steps[name].attempt and not isinstance(stage, Step):
            yield f"it waits for an answer to {name}, which is a {'wait' if isinstance(stage, Wait) else 'delay'} now"
        elif not state.steps[name].attempt and isinstance(stage, Step):
            yield f"it waits for {name}, which sent no command and is a step now"
    if before is not None:
        yield from awaited.become_another(saga, state, before)
    yield from _undoing(saga, state)
    yield from _silence(saga, identity, state, at)


def _undoing(saga: Saga[Any], state: SagaState) -> Iterator[str]:
    """Compensations that would raise if the instance turned back now."""
    for name, reached in state.steps.items():
        stage = saga.stages.get(name)
        if not isinstance(stage, Step) or stage.compensation is None or reached.status not in _TO_UNDO:
            continue
        try:
            stage.compensation(state.data)
        except Exception as error:  # noqa: BLE001 - the user's own function, asked on purpose: what it raises is the finding
            yield f"{name} could not be compensated: {_raised(error)}"


def _silence(saga: Saga[Any], identity: UUID, state: SagaState, at: datetime) -> Iterator[str]:
    """Functions that would raise if nobody answered from now on: deadlines are let pass, one after the other."""
    moved = state
    for _ in range(MOST_DEADLINES):
        due = moved.deadline
        if due is None:
            return
        waiting = ", ".join(moved.current)
        try:
            transition = decide(saga, identity, moved, DeadlinePassed(max(due, at)))
        except Exception as error:  # noqa: BLE001 - the user's own function, asked on purpose: what it raises is the finding
            yield f"when the deadline of {waiting} passes: {_raised(error)}"
            return
        moved = fold(moved, transition.facts)


def _undoable(stage: Step[Any] | Wait[Any] | Delay[Any]) -> bool:
    return isinstance(stage, Step) and stage.compensation is not None


# -- would it be answered, would it be undone ----------------------------------------------------------------


def _noticed(saga: Saga[Any], state: SagaState, before: Description) -> Iterator[str]:
    """What no history shows of a changed definition, and the instance would notice."""
    yield from awaited.changed(saga, state, before)
    yield from _lost(saga, state, before)


def _lost(saga: Saga[Any], state: SagaState, before: Description) -> Iterator[str]:
    """Compensations that a changed definition has taken from steps that may have happened."""
    for name, reached in state.steps.items():
        if reached.status not in _TO_UNDO:
            continue
        was = before.get("stages", {}).get(name, {}).get("compensated_by")
        stage = saga.stages.get(name)
        now = saga.compensations.get(name) if isinstance(stage, Step) else None
        if was is not None and now is None:
            yield f"{name} has happened and would not be undone any more: {was} is not sent"
        elif was is not None and now is not None and was != f"{now.wire_type} v{now.wire_version}":
            yield f"{name} has happened and would be undone by {now.wire_type} v{now.wire_version} instead of {was}"


# -- words ---------------------------------------------------------------------------------------------------


def _raised(error: Exception) -> str:
    """What was raised, and the last line of it that is not ours."""
    frames = traceback.extract_tb(error.__traceback__)
    place = frames[-1]
    return f"{type(error).__name__}: {_one_line(error)} ({Path(place.filename).name}:{place.lineno} in {place.name})"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
