"""What a person could do to an instance now: what the machine would not refuse, told without running its code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator import history
from orchestrator.diagnosis.findings import Repair
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import Action
from orchestrator.saga.state import SagaState, Status, StepStatus
from orchestrator.saga.steps import Step, Wait


def fitting(recorded: Recorded, saga: Saga[Any] | None) -> tuple[Repair, ...]:
    """What fits, the gentlest first; only what needs no definition where it is not loaded or cannot read the row."""
    if Status(recorded.status).terminal:
        return ()
    if saga is None:
        return (Repair(Action.ABANDON),)
    try:
        state = history.load_state(
            saga, status=recorded.status, reason=recorded.reason, data=recorded.data, progress=recorded.progress
        )
    except history.CorruptHistory:
        return (Repair(Action.ABANDON),)
    return tuple(_fitting(saga, state))


def _fitting(saga: Saga[Any], state: SagaState) -> Iterator[Repair]:
    if state.status is Status.STUCK or any(isinstance(saga.stages.get(name), Step) for name in state.current):
        yield Repair(Action.RETRY)
    for name in state.current:
        if state.steps[name].status is StepStatus.RUNNING:
            yield Repair(Action.SKIP, name, _needed(saga, name))
        yield Repair(Action.RESOLVE, name)
    pivot = state.steps.get(saga.pivot) if saga.pivot else None
    past_pivot = pivot is not None and pivot.status is not StepStatus.REFUSED
    if state.started and not past_pivot and Status.COMPENSATING not in (state.status, state.before):
        yield Repair(Action.COMPENSATE)
    yield Repair(Action.ABANDON)


def _needed(saga: Saga[Any], name: str) -> str | None:
    """The type of the answer that a step cannot be skipped without."""
    stage = saga.stages.get(name)
    if isinstance(stage, Step) and stage.on_success is not None:
        wanted = saga.commands[name].success_type
        return wanted.wire_type if wanted is not None else None
    return stage.event.wire_type if isinstance(stage, Wait) and stage.on_event is not None else None
