"""A definition in words that can be compared, and its fingerprint: has it changed under its instances?

Structure and meaning: the order, names and kinds of the stages, their commands, events and times, the data's schema,
and what each function does (its syntax tree, so that a comment or another layout changes nothing).
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from types import CodeType
from typing import Any

from contracts.message import Message
from orchestrator.saga.definition import Saga
from orchestrator.saga.steps import Delay, Parallel, Retry, Step, Wait

Described = dict[str, Any]


def fingerprint(saga: Saga[Any]) -> str:
    """64 hexadecimal digits; the same in every process, on every machine, for the same definition."""
    words = json.dumps(describe(saga), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(words.encode()).hexdigest()


def describe(saga: Saga[Any]) -> Described:
    """The definition as plain JSON values, for people to compare."""
    described: Described = {
        "data": _schema(saga.data.model_json_schema()),
        "starts_on": {
            "event": _message(saga.starts_on.event),
            "begin": _function(saga.starts_on.begin),
            "key": _function(saga.starts_on.key),
        },
        "steps": [_stage(saga, stage) for stage in saga.steps],
        "on_completed": _function(saga.on_completed),
        "on_compensated": _function(saga.on_compensated),
    }
    if saga.cancel_on is not None:
        described["cancel_on"] = {
            "event": _message(saga.cancel_on.event),
            "key": _function(saga.cancel_on.key),
            "on_event": _function(saga.cancel_on.on_event),
        }
    return described


def _schema(schema: Any) -> Any:
    """A JSON Schema without its prose, which changes nothing for an instance."""
    if isinstance(schema, dict):
        return {
            name: _schema(value)
            for name, value in schema.items()
            if not (name in {"title", "description"} and isinstance(value, str))
        }
    return [_schema(each) for each in schema] if isinstance(schema, list) else schema


def _stage(saga: Saga[Any], stage: Any) -> Described:
    match stage:
        case Parallel():
            return {"parallel": [_stage(saga, step) for step in stage.steps]}
        case Step():
            return _step(saga, stage)
        case Wait():
            return {
                "wait": stage.name,
                "event": _message(stage.event),
                "key": _function(stage.key),
                "on_event": _function(stage.on_event),
                "timeout": _seconds(stage.timeout),
                "on_timeout": stage.on_timeout.value,
                "when": _function(stage.when),
            }
        case Delay():
            duration = stage.duration
            length = duration.total_seconds() if isinstance(duration, timedelta) else _function(duration)
            return {"delay": stage.name, "duration": length, "when": _function(stage.when)}
        case _:
            raise TypeError(f"{stage!r} is no stage")


def _step(saga: Saga[Any], step: Step[Any]) -> Described:
    action, undo = saga.commands.get(step.name), saga.compensations.get(step.name)
    return {
        "step": step.name,
        "kind": step.kind.value,
        "command": _message(action) if action else None,
        "action": _function(step.action),
        "on_success": _function(step.on_success),
        "on_failure": _function(step.on_failure),
        "on_in_doubt": _function(step.on_in_doubt),
        "compensation_command": _message(undo) if undo else None,
        "compensation": _function(step.compensation),
        "when": _function(step.when),
        "timeout": _seconds(step.timeout),
        "retry": _retry(step.retry),
        "compensation_retry": _retry(step.compensation_retry),
    }


def _message(kind: type[Message]) -> str:
    return f"{kind.wire_type} v{kind.wire_version}"


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else length.total_seconds()


def _retry(retry: Retry) -> Described:
    return {"attempts": retry.attempts, "backoff": _seconds(retry.backoff), "cap": _seconds(retry.cap)}


def _function(function: Callable[..., Any] | None) -> str | None:
    """What a function does, as source in a normal form."""
    if function is None:
        return None
    return _source(function) or _compiled(function)


@lru_cache(maxsize=1024)
def _source(function: Callable[..., Any]) -> str | None:
    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return None
    try:
        tree = ast.parse(text)
    except SyntaxError:
        # A lambda's source is the line it stands on, often an argument: no program by itself.
        return None
    if function.__name__ == "<lambda>":
        found = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
        return ast.unparse(found[0]) if len(found) == 1 else None
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.decorator_list = []
            if ast.get_docstring(node) is not None and len(node.body) > 1:
                node.body = node.body[1:]
    return ast.unparse(tree)


def _compiled(function: Callable[..., Any]) -> str:
    """Names and constants of a function whose source cannot be had: the same for every layout of it."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return f"{type(function).__name__} {getattr(function, '__qualname__', '')}"
    constants = [repr(each) for each in code.co_consts if not isinstance(each, CodeType)]
    return f"names {sorted(code.co_names)} constants {sorted(constants)}"
