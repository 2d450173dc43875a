"""What a history has been: each input, the definition that decided it, and the state before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from contracts.registry import InvalidMessage, UnknownMessage
from orchestrator import history
from orchestrator.catalog import Catalog
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import Input
from orchestrator.saga.machine import fold
from orchestrator.saga.state import SagaState


class CannotRead(ValueError):
    """A history that this checkout cannot read; says why in one line."""


@dataclass(frozen=True, slots=True)
class Past:
    """`inputs[n]` is that of transition n+1, decided by `sagas[n]`; it led from `states[n]` to `states[n + 1]`.

    `first` is the definition that the instance was started with.
    """

    first: Saga[Any]
    sagas: tuple[Saga[Any], ...]
    inputs: tuple[Input, ...]
    states: tuple[SagaState | None, ...]


def past(recorded: Recorded, catalog: Catalog) -> Past:
    """Fold the recorded facts; nothing is decided again. Raises CannotRead."""
    first = definition(recorded.name, recorded.started_version, catalog)
    sagas = tuple(definition(recorded.name, version, catalog) for version in recorded.versions())
    states: list[SagaState | None] = [None]
    inputs = []
    try:
        for saga, line in zip(sagas, recorded.transitions, strict=True):
            inputs.append(history.load_input(line.input, catalog.registry))
            states.append(fold(states[-1], history.load_facts(line.facts, saga)))
    except (history.CorruptHistory, UnknownMessage, InvalidMessage) as error:
        raise CannotRead(f"the history cannot be read here: {error}; `amends replay` says more") from error
    return Past(first, sagas, tuple(inputs), tuple(states))


def definition(name: str, version: int, catalog: Catalog) -> Saga[Any]:
    """The definition of this name and version; raises CannotRead where it is not loaded."""
    saga = catalog.get(name, version)
    if saga is None:
        raise CannotRead(f"{name} v{version} is not loaded; name its module in AMENDS_SAGAS")
    return saga
