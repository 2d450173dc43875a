"""What two messages differ in, field by field, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from contracts.message import Message

_NOTHING = object()


def differences(expected: Message, found: Message) -> list[str]:
    """A line for each field that is not as expected: `amount.amount   expected 100   sent 120`."""
    told = list(_differences("", dict(expected), dict(found)))
    wide = max((len(path) for path, _, _ in told), default=0)
    return [f"{path:<{wide}}   expected {_shown(left)}   sent {_shown(right)}" for path, left, right in told]


def _differences(path: str, left: Any, right: Any) -> Iterator[tuple[str, Any, Any]]:
    left, right = _opened(left), _opened(right)
    if left == right:
        return
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for name in dict.fromkeys((*left, *right)):
            yield from _differences(f"{path}.{name}" if path else str(name), _get(left, name), _get(right, name))
    elif _is_list(left) and _is_list(right):
        for place in range(max(len(left), len(right))):
            yield from _differences(f"{path}[{place}]", _at(left, place), _at(right, place))
    else:
        yield path, left, right


def _opened(value: Any) -> Any:
    fields = getattr(type(value), "model_fields", None)
    return value if fields is None else {name: getattr(value, name) for name in fields}


def _get(values: Mapping[Any, Any], name: Any) -> Any:
    return values.get(name, _NOTHING)


def _at(values: Sequence[Any], place: int) -> Any:
    return values[place] if place < len(values) else _NOTHING


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def _shown(value: Any) -> str:
    return "nothing" if value is _NOTHING else repr(value)
