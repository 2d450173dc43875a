"""What an instance waits for, since when, and what happens at its deadline."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import index
from typing import Any
from uuid import UUID

from orchestrator import history
from orchestrator.diagnosis.findings import Awaited, Awaits, Then, Usual
from orchestrator.history import MISSHAPEN, CorruptHistory
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.saga.definition import Saga
from orchestrator.saga.state import Direction, StepStatus
from orchestrator.saga.steps import Delay, Kind, OnTimeout, Step, Wait

Usually = Mapping[tuple[str, Direction], Usual]


@dataclass(frozen=True, slots=True)
class _Progress:
    """A step as the instance's row tells it, which needs no definition to be read."""

    status: str
    round: int
    attempt: int
    due: datetime | None

    @property
    def underway(self) -> bool:
        return self.status in (StepStatus.RUNNING, StepStatus.COMPENSATING)

    @property
    def direction(self) -> Direction:
        return Direction.COMPENSATION if self.status == StepStatus.COMPENSATING else Direction.ACTION


def awaited(recorded: Recorded, saga: Saga[Any] | None, usually: Usually) -> tuple[Awaited, ...]:
    """Every step that the instance waits for; with less about each where the definition is not loaded.

    Raises CorruptHistory where the instance's row cannot be read.
    """
    begun = _begun(recorded)
    return tuple(
        _awaited(recorded, saga, name, step, begun.get((name, step.direction, step.round), []), usually)
        for name, step in _steps(recorded)
        if step.underway
    )


def _steps(recorded: Recorded) -> Iterator[tuple[str, _Progress]]:
    try:
        for name, each in json.loads(recorded.progress)["steps"].items():
            due = history.aware(each[3]) if each[3] else None
            yield name, _Progress(each[0], index(each[1]), index(each[2]), due)
    except MISSHAPEN as error:
        raise CorruptHistory(f"the row of saga {recorded.id} cannot be read (progress: {error})") from error


@dataclass(frozen=True, slots=True)
class _Begun:
    at: datetime
    command: str | None = None
    command_id: UUID | None = None


def _begun(recorded: Recorded) -> dict[tuple[str, Direction, int], list[_Begun]]:
    """When each command was sent, by step, direction and round, and when each wait began."""
    found: dict[tuple[str, Direction, int], list[_Begun]] = {}
    for each in recorded.transitions:
        try:
            for key, begun in _begun_with(each):
                found.setdefault(key, []).append(begun)
        except MISSHAPEN as error:
            raise CorruptHistory(f"transition {each.seq} of saga {recorded.id} cannot be read: {error}") from error
    return found


def _begun_with(line: RecordedTransition) -> Iterator[tuple[tuple[str, Direction, int], _Begun]]:
    sent = {command["step"]: command for command in json.loads(line.commands)}
    for fact in json.loads(line.facts):
        if fact["fact"] == "command_sent":
            command = sent[fact["step"]]
            key = fact["step"], Direction(fact["direction"]), int(fact["round"])
            yield key, _Begun(line.at, command["type"], UUID(command["id"]))
        elif fact["fact"] == "wait_begun":
            yield (fact["step"], Direction.ACTION, 1), _Begun(line.at)


def _awaited(
    recorded: Recorded, saga: Saga[Any] | None, name: str, step: _Progress, begun: list[_Begun], usually: Usually
) -> Awaited:
    stage = saga.stages.get(name) if saga is not None else None
    direction = step.direction
    last = begun[-1] if begun else _Begun(recorded.updated_at)
    attempts, then = _ahead(stage, step)
    return Awaited(
        step=name,
        awaits=_awaits(stage, last.command),
        direction=direction,
        since=begun[0].at if begun else last.at,
        round=step.round,
        attempt=step.attempt,
        attempts=attempts,
        due=step.due,
        then=then if step.due is not None else None,
        command=last.command,
        command_id=last.command_id,
        last_sent=last.at if last.command else None,
        types=_types(saga, name, direction),
        usual=usually.get((name, direction)),
    )


def _awaits(stage: object, command: str | None) -> Awaits:
    if command is not None or isinstance(stage, Step):
        return Awaits.ANSWER
    return Awaits.TIME if isinstance(stage, Delay) else Awaits.EVENT


def _ahead(stage: object, step: _Progress) -> tuple[int | None, Then | None]:
    """How many attempts there are (None: no bound), and what the deadline brings."""
    match stage:
        case Step() if step.direction is Direction.COMPENSATION:
            attempts = stage.compensation_retry.attempts
            return attempts, Then.SENT_AGAIN if step.attempt < attempts else Then.STUCK
        case Step() if stage.kind is not Kind.COMPENSABLE:
            return None, Then.SENT_FOR_EVER
        case Step():
            return stage.retry.attempts, Then.SENT_AGAIN if step.attempt < stage.retry.attempts else Then.IN_DOUBT
        case Wait():
            return None, Then.GOES_ON if stage.on_timeout is OnTimeout.CONTINUE else Then.GOES_BACK
        case Delay():
            return None, Then.GOES_ON
        case _:
            return None, None


def _types(saga: Saga[Any] | None, name: str, direction: Direction) -> tuple[str, ...]:
    if saga is None:
        return ()
    stage = saga.stages.get(name)
    if isinstance(stage, Wait):
        return (stage.event.wire_type,)
    commands = saga.compensations if direction is Direction.COMPENSATION else saga.commands
    return tuple(event.wire_type for event in commands[name].answers()) if name in commands else ()
