"""Whether two definitions are the same saga: `fingerprint` to compare, `describe` to read, `differences` to tell.

A definition changed under its old version would make instances in flight misread their own history (rule 11). The
fingerprint changes with everything an instance can notice: stages, their order, kinds, times and retries, the wire
types and versions of commands and events, the shape of the data, and the code of each function. It does not change with
comments, docstrings, annotations, layout, or the names of the functions.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from difflib import ndiff
from typing import Any

from pydantic import BaseModel

from contracts.message import Message
from orchestrator.saga.definition import Saga
from orchestrator.saga.meaning import meaning_of, source_of
from orchestrator.saga.steps import Cancel, Delay, Parallel, Retry, Start, Step, Wait

Tell = Callable[[Callable[..., Any]], str]
_DECORATION = frozenset({"title", "description", "examples", "deprecated"})
_READS_AND_WRITES = frozenset(
    {
        *("alias_generator", "allow_inf_nan", "coerce_numbers_to_str", "extra", "populate_by_name"),
        *("ser_json_bytes", "ser_json_inf_nan", "ser_json_timedelta", "serialize_by_alias", "str_max_length"),
        *("str_min_length", "str_strip_whitespace", "str_to_lower", "str_to_upper", "strict", "use_enum_values"),
        *("val_json_bytes", "validate_by_alias", "validate_by_name", "validate_default"),
    }
)
"""Of pydantic's settings those that a stored instance would notice."""
_MISSING = "nothing"


def fingerprint(saga: Saga[Any]) -> str:
    """64 hexadecimal digits, the same in every process and on every Python from 3.11."""
    return hashlib.sha256(json.dumps(_outline(saga, meaning_of), sort_keys=True).encode()).hexdigest()


def describe(saga: Saga[Any]) -> dict[str, Any]:
    """The definition as plain JSON for people, functions as code: what is kept to say later what has changed."""
    return _outline(saga, source_of)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two descriptions, one sentence each: `stages.pay.timeout: 30.0, now 60.0`."""
    return list(_differences("", before, after))


def _differences(place: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in (*before, *(name for name in after if name not in before)):
            deeper = f"{place}.{name}" if place else name
            yield from _differences(deeper, before.get(name, _MISSING), after.get(name, _MISSING))
    elif isinstance(before, str) and isinstance(after, str) and "\n" in before + after:
        changed = [line for line in ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
        yield "\n    ".join([f"{place}:", *changed])
    else:
        yield f"{place}: {_short(before)}, now {_short(after)}"


def _short(value: Any) -> str:
    # A stage that has come or gone is told by its kind; the rest of it says nothing about what differs.
    if isinstance(value, Mapping):
        return str(value.get("is", "something"))
    return value if isinstance(value, str) else json.dumps(value)


def _outline(saga: Saga[Any], tell: Tell) -> dict[str, Any]:
    return {
        "name": saga.name,
        "version": saga.version,
        "data": {"schema": _undecorated(saga.data.model_json_schema()), "methods": _methods(saga.data, tell)}
        | _strictness(saga.data),
        "starts_on": _start(saga.starts_on, tell),
        "cancel_on": None if saga.cancel_on is None else _cancel(saga.cancel_on, tell),
        "order": [
            [step.name for step in stage.steps] if isinstance(stage, Parallel) else stage.name for stage in saga.steps
        ],
        "stages": {name: _stage(saga, stage, tell) for name, stage in saga.stages.items()},
        "on_completed": _function(saga.on_completed, tell),
        "on_compensated": _function(saga.on_compensated, tell),
    }


def _undecorated(schema: Any, *, names: bool = False) -> Any:
    """A JSON schema without what is only for its readers; where keys are `names`, none of them is."""
    if isinstance(schema, list):
        return [_undecorated(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _undecorated(value, names=not names and key in {"properties", "$defs"})
        for key, value in schema.items()
        if names or key not in _DECORATION
    }


def _strictness(data: type[BaseModel]) -> dict[str, Any]:
    """How the data is read and written, where that is not the usual way."""
    found = {name: str(value) for name, value in sorted(data.model_config.items()) if name in _READS_AND_WRITES}
    return {"config": found} if found else {}


def _methods(data: type[BaseModel], tell: Tell) -> dict[str, str]:
    found = {}
    for name, member in sorted(vars(data).items()):
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        # pydantic puts functions of its own into the class.
        if inspect.isfunction(function) and function.__module__ == data.__module__:
            found[name] = tell(function)
    return found


def _start(start: Start[Any], tell: Tell) -> dict[str, Any]:
    return {"event": _wire(start.event), "begin": tell(start.begin), "key": tell(start.key)}


def _cancel(cancel: Cancel[Any], tell: Tell) -> dict[str, Any]:
    return {
        "event": _wire(cancel.event),
        "key": tell(cancel.key),
        "on_event": _function(cancel.on_event, tell),
    }


def _stage(saga: Saga[Any], stage: Step[Any] | Wait[Any] | Delay[Any], tell: Tell) -> dict[str, Any]:
    match stage:
        case Step():
            return _step(saga, stage, tell)
        case Wait():
            return {
                "is": "wait",
                "event": _wire(stage.event),
                "key": tell(stage.key),
                "on_event": _function(stage.on_event, tell),
                "timeout": None if stage.timeout is None else _seconds(stage.timeout),
                "on_timeout": stage.on_timeout.value,
                "when": _function(stage.when, tell),
            }
        case Delay():
            duration = stage.duration
            return {
                "is": "delay",
                "duration": _seconds(duration) if isinstance(duration, timedelta) else tell(duration),
                "when": _function(stage.when, tell),
            }


def _step(saga: Saga[Any], step: Step[Any], tell: Tell) -> dict[str, Any]:
    command, compensation = saga.commands.get(step.name), saga.compensations.get(step.name)
    return {
        "is": f"{step.kind.value} step",
        "command": None if command is None else _wire(command),
        "answers": [] if command is None else [_wire(event) for event in command.answers()],
        "compensated_by": None if compensation is None else _wire(compensation),
        "compensation_answers": [] if compensation is None else [_wire(event) for event in compensation.answers()],
        "timeout": _seconds(step.timeout),
        "retry": _retry(step.retry),
        "compensation_retry": _retry(step.compensation_retry),
        "action": _function(step.action, tell),
        "on_success": _function(step.on_success, tell),
        "on_failure": _function(step.on_failure, tell),
        "on_in_doubt": _function(step.on_in_doubt, tell),
        "compensation": _function(step.compensation, tell),
        "when": _function(step.when, tell),
    }


def _retry(retry: Retry) -> dict[str, Any]:
    return {"attempts": retry.attempts, "backoff": _seconds(retry.backoff), "cap": _seconds(retry.cap)}


def _seconds(time: timedelta) -> float:
    return time / timedelta(seconds=1)


def _function(function: Callable[..., Any] | None, tell: Tell) -> str | None:
    return None if function is None else tell(function)


def _wire(message: type[Message]) -> str:
    return f"{message.wire_type} v{message.wire_version}"
