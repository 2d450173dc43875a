"""What a function means, as text: its syntax without comments, docstrings and layout, and the values it mentions.

Two texts of one function: `source_of`, to be read, and `meaning_of`, to be compared, which is the same on every Python
we run on. Both follow plain values, and functions of the same package, that the function mentions by name. What it
calls on objects or in other packages is theirs.
"""

from __future__ import annotations

import ast
import copy
import inspect
import json
import types
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from contracts.message import Message

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_PLAIN = (bool, int, float, str, bytes, type(None), Decimal, UUID, date, datetime, timedelta)


def source_of(function: Callable[..., Any]) -> str:
    """The function to be read: its code as Python would write it, then what it mentions."""
    return _told(function, frozenset(), _readable)


def meaning_of(function: Callable[..., Any]) -> str:
    """The function to be compared: equal texts for equal code, whatever its name, comments and layout."""
    return _told(function, frozenset(), _comparable)


def _told(
    function: Callable[..., Any],
    seen: frozenset[types.CodeType],
    write: Callable[[str | Definition, list[tuple[str, str]]], str],
) -> str:
    plain = _plain_function(function)
    if plain is None:
        return _name_of(function)
    if plain.__code__ in seen:
        return "itself"
    seen |= {plain.__code__}
    found = _node_of(plain)
    node = None if found is None else _bare(found)
    names = sorted(plain.__code__.co_names if node is None else _names_in(node))
    mentioned = []
    for name in names:
        value = _value_of(plain, name)
        if isinstance(value, types.FunctionType) and _package(value) == _package(plain):
            mentioned.append((name, _told(value, seen, write)))
        elif (text := _plain_value(value)) is not None:
            mentioned.append((name, text))
    return write(_constants(plain.__code__) if node is None else node, mentioned)


def _readable(code: str | Definition, mentioned: list[tuple[str, str]]) -> str:
    lines = [code if isinstance(code, str) else ast.unparse(code)]
    lines += [f"where {name} is {value}" for name, value in mentioned]
    return "\n".join(lines)


def _comparable(code: str | Definition, mentioned: list[tuple[str, str]]) -> str:
    tree = code if isinstance(code, str) else _canonical(code, anonymous=True)
    return json.dumps([tree, mentioned])


def _plain_function(function: Callable[..., Any]) -> types.FunctionType | None:
    found: object = inspect.unwrap(function)
    if isinstance(found, types.MethodType):
        found = found.__func__
    return found if isinstance(found, types.FunctionType) else None


def _name_of(function: object) -> str:
    kind = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', '')}"


def _package(function: types.FunctionType) -> str:
    return function.__module__.partition(".")[0]


# -- finding its syntax --------------------------------------------------------------------------------------


def _node_of(function: types.FunctionType) -> Definition | None:
    """The function's own syntax; None where there is no source, or it does not tell which of several it is."""
    try:
        lines, _ = inspect.findsource(function)
        defined = _definitions("".join(lines))
    except (OSError, SyntaxError):
        return None
    name, line = function.__code__.co_name, function.__code__.co_firstlineno
    found = [node for node in defined if _begins(node) == line and getattr(node, "name", "<lambda>") == name]
    if len(found) > 1:
        # Several lambdas may begin in one line; the code fits in its own and in those around it.
        found = [node for node in found if _encloses(node, function.__code__)]
    return min(found, key=_extent, default=None)


@cache
def _definitions(source: str) -> tuple[Definition, ...]:
    return tuple(node for node in ast.walk(ast.parse(source)) if isinstance(node, Definition))


def _begins(node: Definition) -> int:
    decorators = [] if isinstance(node, ast.Lambda) else [each.lineno for each in node.decorator_list]
    return min([node.lineno, *decorators])


def _encloses(node: Definition, code: types.CodeType) -> bool:
    if not isinstance(node, ast.Lambda):
        return True
    body = node.body
    first, last = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    places = []
    for line, end, column, end_column in code.co_positions():
        if line is None or end is None or column is None or end_column is None:
            continue
        # What sets the call up is given no place of its own.
        if (line, column) != (end, end_column):
            places.append(first <= (line, column) and (end, end_column) <= last)
    return bool(places) and all(places)


def _extent(node: Definition) -> tuple[int, int]:
    return (node.end_lineno or 0) - node.lineno, (node.end_col_offset or 0) - node.col_offset


def _constants(code: types.CodeType) -> str:
    """What can be told of a function without source: its constants and the names it uses."""
    constants = [_constants(each) if isinstance(each, types.CodeType) else repr(each) for each in code.co_consts]
    return json.dumps([constants, code.co_names, code.co_varnames[: code.co_argcount]])


# -- telling its syntax --------------------------------------------------------------------------------------


def _bare(node: Definition) -> Definition:
    """A copy without docstrings and without the annotations of parameters and answers."""
    bare = copy.deepcopy(node)
    for each in ast.walk(bare):
        if isinstance(each, ast.arg):
            each.annotation = None
        elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
            each.returns = None
            if ast.get_docstring(each, clean=False) is not None:
                each.body = each.body[1:] or [ast.Pass()]
    return bare


def _canonical(value: Any, *, anonymous: bool = False) -> Any:
    """Syntax as JSON. Empty fields are left out, so that one that a later Python adds makes no difference."""
    if isinstance(value, ast.Constant):
        return ["Constant", type(value.value).__name__, repr(value.value)]
    if isinstance(value, ast.AST):
        fields = [
            [name, _canonical(each)]
            for name, each in ast.iter_fields(value)
            if each not in (None, []) and name != "ctx" and not (anonymous and name == "name")
        ]
        return [type(value).__name__, *fields]
    if isinstance(value, list):
        return [_canonical(each) for each in value]
    return value


def _names_in(node: Definition) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}


# -- what it mentions ----------------------------------------------------------------------------------------


_UNKNOWN = object()


def _value_of(function: types.FunctionType, name: str) -> object:
    code = function.__code__
    if name in code.co_freevars:
        cell = (function.__closure__ or ())[code.co_freevars.index(name)]
        try:
            return cell.cell_contents
        except ValueError:
            return _UNKNOWN
    if name in code.co_varnames or name in code.co_cellvars:
        return _UNKNOWN
    return function.__globals__.get(name, _UNKNOWN)


def _plain_value(value: object) -> str | None:
    """A value that is nothing but itself, as text; None for anything whose text says too little or too much."""
    if isinstance(value, type):
        return f"{value.wire_type} v{value.wire_version}" if issubclass(value, Message) else None
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, BaseModel):
        return f"{type(value).__name__} {value.model_dump_json()}"
    return _plain_collection(value)


def _plain_collection(value: object) -> str | None:
    if isinstance(value, (tuple, list, set, frozenset)):
        texts = [_plain_value(each) for each in value]
    elif isinstance(value, dict):
        texts = [_plain_value(each) for pair in value.items() for each in pair]
    else:
        return None
    known = [text for text in texts if text is not None]
    if len(known) < len(texts):
        return None
    return f"{type(value).__name__} [{', '.join(sorted(known) if isinstance(value, (set, frozenset)) else known)}]"
