"""Where two JSON values differ, by path; and recorded ones read the way this checkout reads them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class Changed:
    """One place where they differ; `before` or `after` is MISSING where there is nothing."""

    path: str
    before: Any
    after: Any

    @property
    def sides(self) -> tuple[str, str]:
        """Both as text: `amount.amount: 2933`."""
        return _side(self.path, self.before), _side(self.path, self.after)


def changes(before: Any, after: Any, path: str = "") -> Iterator[Changed]:
    """Every leaf that differs, came or went, in order."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in (*before, *(name for name in after if name not in before)):
            deeper = f"{path}.{name}" if path else name
            yield from changes(before.get(name, MISSING), after.get(name, MISSING), deeper)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from changes(one, other, f"{path}[{number}]")
    elif before != after or type(before) is not type(after):  # True is 1, and 5.0 is 5, in Python only
        yield Changed(path, before, after)


def meaningful(recorded: Any, now: Any, read: Callable[[Any], str]) -> list[Changed]:
    """What differs once `read` has told what this checkout makes of the recorded value.

    A field that came later means the same where reading an old value fills in what is there now. One that is gone, or
    says something else, does not. `read` may raise ValueError.
    """
    found = list(changes(recorded, now))
    if not found:
        return []
    understood = from_json(read(recorded))
    still = {each.path for each in changes(understood, now)}
    return [each for each in found if each.after is MISSING or any(_within(path, each.path) for path in still)]


def _within(path: str, place: str) -> bool:
    return path == place or path.startswith((f"{place}.", f"{place}[")) or place.startswith((f"{path}.", f"{path}["))


def _side(path: str, value: Any) -> str:
    return f"{path}: {'nothing' if value is MISSING else json.dumps(value, ensure_ascii=False)}"
