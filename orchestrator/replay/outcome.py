"""One recorded transition and what this checkout made of its input, before they are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts.registry import Registry
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import Input
from orchestrator.saga.state import SagaState
from orchestrator.saga.transition import Transition


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the definition decided; `facts` and `commands` are it in the form in which it would be stored."""

    transition: Transition
    facts: str
    commands: str


@dataclass(frozen=True, slots=True)
class Failed:
    """What the definition raised instead."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Passage:
    """The place in a history: the instance, its state before, and the transition with its input."""

    recorded: Recorded
    saga: Saga[Any]
    registry: Registry
    state: SagaState | None
    line: RecordedTransition
    given: Input
