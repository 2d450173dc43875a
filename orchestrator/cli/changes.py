"""What has changed in a saga's data from one transition to the next, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from contracts.withheld import is_token
from orchestrator import changed

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One field: its path (`lines[0].quantity`), and what it was and is where it was and is there."""

    path: str
    kind: Literal["added", "removed", "changed"]
    before: Any = None
    after: Any = None


def changes(before: Data | None, after: Data | None) -> tuple[Change, ...]:
    """The fields that differ, those of `after` in its order, then those that are gone."""
    places = changed.changes(before or {}, after or {}, by_element=True)
    found = [change for each in places for change in _fields_of(each)]
    return tuple(sorted(found, key=lambda change: change.kind == "removed"))


def _fields_of(place: changed.Changed) -> Iterator[Change]:
    old, new = dict(_fields(place.before, place.path)), dict(_fields(place.after, place.path))
    for path, value in new.items():
        yield Change(path, "changed", old[path], value) if path in old else Change(path, "added", None, value)
    for path, value in old.items():
        if path not in new:
            yield Change(path, "removed", value)


def _fields(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value that holds no others, by its path; an empty list or object is one too."""
    if isinstance(value, dict) and value and not is_token(value):
        for name, each in value.items():
            yield from _fields(each, f"{path}.{name}")
    elif isinstance(value, list) and value:
        for index, each in enumerate(value):
            yield from _fields(each, f"{path}[{index}]")
    elif value is not changed.MISSING:
        yield path, value
