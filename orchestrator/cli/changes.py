"""What has changed in a saga's data from one transition to the next, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

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
    old, new = dict(_fields(before or {}, "")), dict(_fields(after or {}, ""))
    found = [
        Change(path, "changed", old[path], value) if path in old else Change(path, "added", None, value)
        for path, value in new.items()
        if path not in old or not _same(old[path], value)
    ]
    found.extend(
        Change(path, "removed", value)
        for path, value in old.items()
        if path not in new and not (value in ([], {}) and _filled(path, new))
    )
    return tuple(found)


def _filled(path: str, new: Iterable[str]) -> bool:
    """Whether what was empty holds something now, which is told already."""
    return any(each.startswith((f"{path}[", f"{path}.")) for each in new)


def _same(one: Any, other: Any) -> bool:
    # To Python 1, 1.0 and True are equal; to whoever reads the data they are not.
    return type(one) is type(other) and bool(one == other)


def _fields(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value that holds no others, by its path; an empty list or object is one too."""
    if isinstance(value, dict) and (value or not path):
        for name, each in value.items():
            yield from _fields(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for index, each in enumerate(value):
            yield from _fields(each, f"{path}[{index}]")
    else:
        yield path, value
