"""What types cannot see of a definition, checked when it is made."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from contracts.message import Command, Event
from orchestrator.saga.steps import Cancel, Delay, InvalidSaga, Kind, OnTimeout, Parallel, Start, Step, Wait

_NAME = re.compile(r"^[a-z][a-z0-9_.]*$")
MAX_NAME = 80


@dataclass
class Checked:
    """What checking a definition has found out about it."""

    stages: dict[str, Any] = field(default_factory=dict)
    commands: dict[str, type[Command[Any, Any]]] = field(default_factory=dict)
    compensations: dict[str, type[Command[Any, Any]]] = field(default_factory=dict)
    pivot: str | None = None
    outcomes: list[type[Event]] = field(default_factory=list)


def check(
    *,
    name: str,
    version: int,
    data: object,
    starts_on: Start[Any],
    steps: object,
    cancel_on: Cancel[Any] | None,
    outcomes: dict[str, Callable[..., Any] | None],
) -> Checked:
    """Everything that can be found at import; raises InvalidSaga."""
    where = f"saga {name!r} v{version}"
    if not _NAME.match(name) or len(name) > MAX_NAME:
        raise InvalidSaga(f"{where}: a saga's name is lower_case, at most {MAX_NAME} characters")
    if version < 1:
        raise InvalidSaga(f"{where}: versions count from 1")
    _check_data(where, data)
    if not isinstance(steps, tuple):
        raise InvalidSaga(f"{where}: steps must be a tuple; a single one needs its comma: steps=(Step(...),)")
    if not steps:
        raise InvalidSaga(f"{where} has no steps; give it at least one")
    checked = Checked()
    for stage in steps:
        for member in _members(where, stage):
            _check_stage(where, checked, member, in_parallel=isinstance(stage, Parallel))
    _check_events(where, starts_on, checked, cancel_on)
    for role, function in outcomes.items():
        if function is not None:
            _check_outcome(f"{where}, {role}", checked, function)
    return checked


def _check_data(where: str, data: object) -> None:
    if not (isinstance(data, type) and issubclass(data, BaseModel)):
        raise InvalidSaga(f"{where}: data={data!r} must be a pydantic model class")
    if not data.model_config.get("frozen"):
        raise InvalidSaga(
            f"{where}: {data.__name__} can be changed in place, which no history would notice; give it "
            "model_config = ConfigDict(frozen=True) and return model_copy(update=...)"
        )
    unstored = [name for name, field in data.model_fields.items() if field.exclude]
    unstored += list(data.__private_attributes__)
    if unstored:
        raise InvalidSaga(
            f"{where}: {data.__name__} has {', '.join(unstored)}, which is never stored, so the next batch would not "
            "know it; make it a field without exclude=True, or drop it"
        )


def _members(where: str, stage: object) -> tuple[Any, ...]:
    if not isinstance(stage, Parallel):
        if not isinstance(stage, (Step, Wait, Delay)):
            raise InvalidSaga(f"{where}: {stage!r} is no Step, Parallel, Wait or Delay")
        return (stage,)
    for member in stage.steps:
        if not isinstance(member, Step):
            raise InvalidSaga(f"{where}: {type(member).__name__} cannot be in a Parallel; it takes steps only")
    if len(stage.steps) < 2:
        raise InvalidSaga(f"{where}: Parallel({stage.name}) needs at least two steps; one needs no Parallel")
    return stage.steps


def _check_stage(where: str, checked: Checked, stage: Any, *, in_parallel: bool) -> None:
    if not _NAME.match(stage.name) or len(stage.name) > MAX_NAME:
        raise InvalidSaga(f"{where}: step {stage.name!r}: a name is lower_case, at most {MAX_NAME} characters")
    if stage.name in checked.stages:
        raise InvalidSaga(f"{where}: two steps are called {stage.name!r}; history names steps, so rename one")
    checked.stages[stage.name] = stage
    place = f"{where}, step {stage.name!r}"
    match stage:
        case Step():
            _check_timeout(place, stage.timeout)
            _check_kind(place, checked, stage, in_parallel=in_parallel)
            _check_wiring(place, checked, stage, in_parallel=in_parallel)
            if stage.kind is Kind.PIVOT:
                checked.pivot = stage.name
        case Wait():
            _check_wait(place, checked, stage)
        case Delay(duration=timedelta() as duration) if duration < timedelta(0):
            raise InvalidSaga(f"{place}: a delay cannot be negative")
        case Delay(duration=duration) if not (isinstance(duration, timedelta) or callable(duration)):
            raise InvalidSaga(f"{place}: {duration!r} is no time; write hours({duration!r}), or a function of the data")


def _check_timeout(place: str, timeout: object) -> None:
    if not isinstance(timeout, timedelta):
        raise InvalidSaga(f"{place}: timeout={timeout!r} is no time; write seconds({timeout!r})")
    if timeout <= timedelta(0):
        raise InvalidSaga(f"{place}: timeout must be positive")


def _check_wait(place: str, checked: Checked, wait: Wait[Any]) -> None:
    _check_event(place, wait.event)
    if wait.timeout is None:
        return
    _check_timeout(place, wait.timeout)
    if checked.pivot and wait.on_timeout is OnTimeout.COMPENSATE:
        raise InvalidSaga(
            f"{place} comes after the pivot {checked.pivot!r}, where there is no way back; "
            "give it on_timeout=CONTINUE or no timeout"
        )


def _check_kind(place: str, checked: Checked, step: Step[Any], *, in_parallel: bool) -> None:
    if step.kind is Kind.PIVOT and checked.pivot is not None:
        raise InvalidSaga(f"{place} is a second pivot beside {checked.pivot!r}; make it RETRIABLE")
    if step.kind is Kind.PIVOT and in_parallel:
        raise InvalidSaga(f"{place}: a pivot stands alone; take it out of the Parallel")
    if step.kind is Kind.RETRIABLE and checked.pivot is None:
        raise InvalidSaga(f"{place} is RETRIABLE but no pivot comes before it; mark the point of no return PIVOT")
    if step.kind is Kind.COMPENSABLE and checked.pivot is not None:
        raise InvalidSaga(
            f"{place} is compensable but comes after the pivot {checked.pivot!r}, where there is no way back; "
            "make it RETRIABLE or move it before"
        )
    if step.kind is not Kind.COMPENSABLE and step.compensation is not None:
        raise InvalidSaga(f"{place} is {step.kind.value} and would never be compensated; drop its compensation")
    if step.kind is not Kind.COMPENSABLE and step.on_in_doubt is not None:
        raise InvalidSaga(f"{place} is {step.kind.value}, repeated until it is answered; drop its on_in_doubt")


def _check_wiring(place: str, checked: Checked, step: Step[Any], *, in_parallel: bool) -> None:
    if step.action is None:
        _check_done_before(place, step, in_parallel=in_parallel)
    else:
        command = _command(place, "action", step.action)
        checked.commands[step.name] = command
        if step.kind is Kind.RETRIABLE and command.failure_type is not None:
            raise InvalidSaga(
                f"{place}: {command.wire_type} can be refused ({command.failure_type.wire_type}), which after "
                "the pivot nobody could heed; its contract must say Command[..., Never]"
            )
        _check_parameter(place, "on_success", step.on_success, command.success_type)
        _check_parameter(place, "on_failure", step.on_failure, command.failure_type)
    if step.compensation is not None:
        undo = _command(place, "compensation", step.compensation)
        checked.compensations[step.name] = undo
        if undo.failure_type is not None:
            raise InvalidSaga(
                f"{place}: the compensation {undo.wire_type} can be refused ({undo.failure_type.wire_type}); "
                "a compensation's contract must say Command[..., Never]"
            )


def _check_done_before(place: str, step: Step[Any], *, in_parallel: bool) -> None:
    if step.kind is not Kind.COMPENSABLE:
        raise InvalidSaga(f"{place} is {step.kind.value} but has no action; give it one")
    if step.compensation is None:
        raise InvalidSaga(f"{place} has neither an action nor a compensation; give it one")
    if in_parallel:
        raise InvalidSaga(f"{place} has no action; put it before the Parallel")
    for role in ("on_success", "on_failure", "on_in_doubt", "when"):
        if getattr(step, role) is not None:
            raise InvalidSaga(f"{place} has no action, so its {role} would never be called; drop it")


def _command(place: str, role: str, function: Callable[..., Any]) -> type[Command[Any, Any]]:
    name = getattr(function, "__name__", repr(function))
    found = _hints(place, function).get("return")
    if not (isinstance(found, type) and issubclass(found, Command)):
        raise InvalidSaga(f"{place}: its {role} {name} must be annotated `-> SomeCommand`, not {found!r}")
    if not found.wire_type:
        raise InvalidSaga(f"{place}: {found.__name__} names no wire type: class X(Command[...], type='...')")
    if found.success_type is None:
        raise InvalidSaga(f"{place}: nobody answers {found.wire_type}; say Command[Success, Failure]")
    for event in found.answers():
        _check_event(place, event)
    return found


def _hints(place: str, function: Callable[..., Any]) -> dict[str, Any]:
    name = getattr(function, "__name__", repr(function))
    try:
        return typing.get_type_hints(function)
    except NameError as error:
        raise InvalidSaga(
            f"{place}: the annotations of {name} cannot be read: {error}; import it at module level, "
            "not under TYPE_CHECKING"
        ) from error
    except TypeError as error:
        raise InvalidSaga(f"{place}: {name} is no plain function; write `def` with its annotations") from error


def _check_parameter(place: str, role: str, function: Callable[..., Any] | None, event: type[Event] | None) -> None:
    if function is None:
        return
    if event is None:
        raise InvalidSaga(f"{place}: {role} would never be called: the command has no such answer; drop it")
    hints = [kind for name, kind in _hints(place, function).items() if name != "return"]
    if len(hints) >= 2 and isinstance(hints[1], type) and not issubclass(event, hints[1]):
        raise InvalidSaga(
            f"{place}: {role} takes {hints[1].__name__}, but the command is answered with {event.__name__}"
        )


def _check_events(where: str, starts_on: Start[Any], checked: Checked, cancel_on: Cancel[Any] | None) -> None:
    _check_event(f"{where}, starts_on", starts_on.event)
    heard = {starts_on.event.wire_type: "starts_on"}
    others = [(stage.event, f"wait {stage.name!r}") for stage in checked.stages.values() if isinstance(stage, Wait)]
    if cancel_on is not None:
        _check_event(f"{where}, cancel_on", cancel_on.event)
        others.append((cancel_on.event, "cancel_on"))
    for event, role in others:
        known = heard.setdefault(event.wire_type, role)
        if known != role:
            raise InvalidSaga(f"{where}: {event.wire_type} is both {known} and {role}; use two event types")
    for command in (*checked.commands.values(), *checked.compensations.values()):
        for answer in command.answers():
            if answer.wire_type in heard:
                raise InvalidSaga(
                    f"{where}: {answer.wire_type} is both {heard[answer.wire_type]} and an answer to "
                    f"{command.wire_type}; use two event types"
                )


def _check_outcome(place: str, checked: Checked, function: Callable[..., Any]) -> None:
    found = _hints(place, function).get("return")
    if found is not None:
        _check_event(place, found)
        checked.outcomes.append(found)


def _check_event(place: str, event: Any) -> None:
    if not (isinstance(event, type) and issubclass(event, Event) and event.wire_type):
        name = getattr(event, "__name__", repr(event))
        raise InvalidSaga(f"{place}: {name} must be an Event with a wire type: class X(Event, type='...')")
