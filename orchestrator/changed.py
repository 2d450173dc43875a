"""Where two values differ, by path: JSON, or messages, which are compared field by field as JSON is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from contracts.withheld import Withheld, is_token

MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class Changed:
    """One place where they differ (`lines[0].quantity`); `before` or `after` is MISSING where there is nothing."""

    path: str
    before: Any
    after: Any


def changes(before: Any, after: Any, path: str = "", *, by_element: bool = False) -> Iterator[Changed]:
    """Every value that differs, came or went, in order; what came or went is told whole.

    So is a list that has become longer or shorter, but for `by_element`, with which its elements are told.
    """
    before, after = _opened(before), _opened(after)
    if _is_object(before) and _is_object(after):
        for name in dict.fromkeys((*before, *after)):
            deeper = f"{path}.{name}" if path else str(name)
            yield from changes(before.get(name, MISSING), after.get(name, MISSING), deeper, by_element=by_element)
    elif _is_list(before) and _is_list(after) and (by_element or len(before) == len(after)):
        for number, (one, other) in enumerate(zip_longest(before, after, fillvalue=MISSING)):
            yield from changes(one, other, f"{path}[{number}]", by_element=by_element)
    elif before != after or type(before) is not type(after):  # True is 1, and 5.0 is 5, in Python only
        yield Changed(path, before, after)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping) and not is_token(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _opened(value: Any) -> Any:
    if isinstance(value, Withheld):  # which is the same as a token, and as nothing else
        return value.token
    fields = getattr(type(value), "model_fields", None)
    return value if fields is None else {name: getattr(value, name) for name in fields}
