"""One instance on its way to another version of its saga: what of its progress has no place there, and what becomes
of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from contracts.message import Command, Message
from orchestrator.saga import facts as f
from orchestrator.saga.definition import Saga
from orchestrator.saga.migration import Migration
from orchestrator.saga.state import Direction, SagaState, Status, StepState, StepStatus
from orchestrator.saga.steps import Parallel, Stage, Step, Wait
from orchestrator.saga.stored import as_stored, unchanged

_MAY_BE_UNDONE = (StepStatus.RUNNING, StepStatus.SUCCEEDED, StepStatus.IN_DOUBT, StepStatus.COMPENSATING)


class Crossing:
    """Looks only; raises what the user's `convert` and the saga's own functions raise."""

    def __init__(self, migration: Migration[Any, Any], new: Saga[Any], identity: UUID, state: SagaState) -> None:
        self._migration = migration
        self._old, self._new = migration.old, new
        self._identity = identity
        self._state = state

    def fact(self) -> f.Migrated:
        """What the machine establishes when nothing stands against it."""
        names = {name: self._migration.now_called(name) for name in self._state.steps}
        return f.Migrated(
            self._old.version,
            self._new.version,
            None if self._state.data is None else self._converted(self._state.data),
            {name: now for name, now in names.items() if now != name},
            {
                names[name]: self._converted(step.made_from)
                for name, step in self._state.steps.items()
                if step.made_from is not None
            },
        )

    def passed(self) -> list[str]:
        """New steps that lie behind the instance and that the migration says it does without."""
        return [name for name in self._behind() if name in self._migration.passed]

    def obstacles(self) -> Iterator[str]:
        """Why this instance cannot go on as the new version; nothing where it can."""
        for name, step in self._state.steps.items():
            yield from self._place(name, step)
        for name in self._behind():
            if name not in self._migration.passed:
                yield f"it is past the place of {name}, which v{self._old.version} did not have or reach"

    def _behind(self) -> list[str]:
        """Steps of the new version that the instance has not reached, before or beside one that it has."""
        direction = self._state.before if self._state.status is Status.STUCK else self._state.status
        if direction is not Status.RUNNING:
            return []  # on the way back nothing begins any more
        reached = {self._migration.now_called(name) for name in self._state.steps}
        groups = [_names(stage) for stage in self._new.steps]
        last = max((place for place, names in enumerate(groups) if reached & set(names)), default=-1)
        return [name for names in groups[: last + 1] for name in names if name not in reached]

    def _place(self, name: str, step: StepState) -> Iterator[str]:
        now = self._migration.now_called(name)
        before, after = self._old.stages.get(name), self._new.stages.get(now)
        version = f"v{self._new.version}"
        if before is None or after is None:
            yield f"it has reached {name}, which {version} does not have"
        elif _kind(before) != _kind(after):
            yield f"it has reached {name}, a {_kind(before)}, which in {version} is a {_kind(after)}"
        elif isinstance(before, Step) and isinstance(after, Step):
            if step.sent_as not in (None, now) and step.sent_as in self._new.stages:
                yield f"commands of {name} were sent as {step.sent_as}, the name of another step in {version}"
            if before.compensation and not after.compensation and step.status in _MAY_BE_UNDONE:
                yield f"{name} may have happened, and {version} has no compensation for it"
            elif step.underway and not step.given_up:
                yield from self._under_way(name, step, before, after)
        elif step.underway and isinstance(before, Wait) and isinstance(after, Wait):
            awaited, instead = before.event.wire_type, after.event.wire_type
            if awaited != instead:
                yield f"it waits for {awaited} at {name}, where {version} waits for {instead}"
            elif now in self._new.other_keys[self._old.version]:
                yield f"it waits at {name} for the {awaited} with its key, which {version} reads otherwise"

    def _under_way(self, name: str, step: StepState, before: Step[Any], after: Step[Any]) -> Iterator[str]:
        """The command that is awaited may be sent again under its id, and its answer may be under way: both stay."""
        data = self._state.data if step.made_from is None else step.made_from
        action = step.awaiting is Direction.ACTION
        sent = _made(before.action if action else before.compensation, data)
        again = _made(after.action if action else after.compensation, self._converted(data))
        if sent != again:
            yield f"{name} is under way with {_told(sent)}; v{self._new.version} would send {_told(again)} under its id"
            return
        old, new = (saga.commands if action else saga.compensations for saga in (self._old, self._new))
        answered, takes = _answers(old.get(name)), _answers(new.get(self._migration.now_called(name)))
        if answered != takes:
            yield f"{name} is under way and is answered with {answered}, where v{self._new.version} takes {takes}"

    def _converted(self, data: Any) -> Any:
        convert = self._migration.convert
        converted = unchanged(convert, data) if self._old.guarded else convert(data)
        if not isinstance(converted, self._new.data):
            raise TypeError(f"the migration to {self._new!r} made {converted!r} instead of {self._new.data.__name__}")
        return as_stored(self._new.data, converted)[0]


def _names(stage: Stage[Any]) -> list[str]:
    return [member.name for member in stage.steps] if isinstance(stage, Parallel) else [stage.name]


def _kind(stage: Any) -> str:
    return f"{stage.kind.value} step" if isinstance(stage, Step) else type(stage).__name__.lower()


def _made(make: Callable[[Any], Message] | None, data: Any) -> tuple[str, int, str] | None:
    if make is None:
        return None
    message = make(data)
    return message.wire_type, message.wire_version, message.model_dump_json(by_alias=True)


def _answers(command: type[Command[Any, Any]] | None) -> str:
    """By wire type, as the machine takes them: an older version of an event is the same event."""
    return "nothing" if command is None else " or ".join(event.wire_type for event in command.answers())


def _told(command: tuple[str, int, str] | None) -> str:
    return "nothing" if command is None else f"{command[0]} v{command[1]} {command[2]}"
