"""What an instance waits for, in words."""

from __future__ import annotations

from typing import Any

from contracts.message import Command
from orchestrator.saga.definition import Saga
from orchestrator.saga.state import Direction, SagaState, Status
from orchestrator.saga.steps import Step


def waits_for(saga: Saga[Any], state: SagaState) -> tuple[str, ...]:
    """A line for each step, wait and delay it waits for, with its deadline; none where only a person can move it."""
    if state.status.terminal or state.status is Status.STUCK:
        return ()
    return tuple(_wait(saga, name, state) for name in state.current)


def _wait(saga: Saga[Any], name: str, state: SagaState) -> str:
    reached = state.steps[name]
    until = f" until {reached.due.isoformat(sep=' ', timespec='seconds')}" if reached.due else ""
    back = reached.awaiting is Direction.COMPENSATION
    command: type[Command[Any, Any]] | None = (saga.compensations if back else saga.commands).get(name)
    if command is None or not isinstance(saga.stages.get(name), Step):
        return f"{name}{until}"
    return f"the answer to {command.wire_type} ({name}){until}"
