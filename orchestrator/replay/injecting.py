"""An event that a fork is given: it fits its contract, answers what is under way, and is about this instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from contracts.message import Event
from contracts.registry import Registry
from orchestrator.replay.edits import CannotFork, newest, parsed
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.definition import Saga
from orchestrator.saga.state import Direction, SagaState, awaited_command_id


@dataclass(frozen=True, slots=True)
class Inject:
    """An event that comes right after the point of the fork. `data` is parsed JSON."""

    type: str
    data: object


def injected(
    inject: Inject,
    registry: Registry,
    saga: Saga[Any],
    recorded: Recorded,
    begun: Event | None,
    state: SagaState | None,
) -> tuple[Event, UUID | None]:
    """The event, and the command that it answers, for the instance that `begun` has started and that is in `state`.

    Raises CannotFork, also where it would go to another instance.
    """
    option = f"--inject {inject.type}"
    event = parsed(registry, inject.type, newest(registry, inject.type, option), inject.data, option)
    cause = _answered(inject.type, saga, recorded.id, state)
    about = _listener(event, saga, option) if cause is None else _told(event, begun, recorded)
    if about is not None and about != recorded.key:
        raise CannotFork(f"{option}: it is about {about!r}, another instance; this one has the key {recorded.key!r}")
    return event, cause


def _answered(wire_type: str, saga: Saga[Any], identity: UUID, state: SagaState | None) -> UUID | None:
    """The command under way that such an event answers."""
    if state is None:
        return None
    for name in state.current:
        step = state.steps[name]
        back = step.awaiting is Direction.COMPENSATION
        command = (saga.compensations if back else saga.commands).get(name)
        if command is not None and any(answer.wire_type == wire_type for answer in command.answers()):
            return awaited_command_id(identity, name, step)
    return None


def _listener(event: Event, saga: Saga[Any], option: str) -> str | None:
    """The key of the instance of this saga that such an event goes to."""
    listening = (saga.starts_on, *saga.waits, saga.cancel_on)
    key = next((each.key for each in listening if each is not None and isinstance(event, each.event)), None)
    if key is None:
        return None
    try:
        return str(key(event))
    except Exception as error:  # the definition's own function
        raise CannotFork(f"{option}: its key cannot be told: {type(error).__name__}: {error}") from error


def _told(event: Event, begun: Event | None, recorded: Recorded) -> str | None:
    """What an answer says in the field that the instance has its key from; None where it has no such field."""
    if begun is None or begun.ordering_key != recorded.key or begun.key_field != event.key_field:
        return None
    return event.ordering_key
