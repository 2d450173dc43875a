"""Hostile bytes to JSON values, or a reason why not.

Stricter than `json.loads`: UTF-8 only, no NaN or Infinity, no duplicate keys, no NUL and no lone surrogates (PostgreSQL
stores neither), no nesting past 32, no number too large for a float.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_DEPTH = 32


class NotStrictJson(ValueError):
    """The bytes are not JSON as we accept it; says why."""


# Possessive, and content with a string that never ends: whatever the bytes, they are passed over once.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[{\]}]")
_LONG_NUMBER = re.compile(rb"[0-9]{309}")


def loads(raw: bytes) -> Any:
    """The value in `raw`; raises NotStrictJson."""
    # Brackets inside strings count too here, so only what looks too deep is measured exactly.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _depth(raw) > MAX_DEPTH:
        raise NotStrictJson(f"nested deeper than {MAX_DEPTH}")
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotStrictJson(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise NotStrictJson(f"no JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise NotStrictJson("nested too deeply") from error
    except NotStrictJson:
        raise
    except ValueError as error:
        raise NotStrictJson(str(error)) from error
    if rb"\u" in raw:
        _check_text(value)
    if len(raw) > 309 and _LONG_NUMBER.search(raw):
        _check_numbers(value)
    return value


def storable(text: str) -> str:
    """`text` with what PostgreSQL does not store, NUL and lone surrogates, replaced: it may quote anything."""
    clean = text.encode("utf-8", errors="replace").decode("utf-8")
    return clean.replace("\x00", "\ufffd")


def _depth(raw: bytes) -> int:
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", raw)):
        depth += 1 if bracket in b"{[" else -1
        deepest = max(deepest, depth)
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NotStrictJson(f"the key {twice!r} stands twice in one object")
    return found


def _constant(name: str) -> float:
    raise NotStrictJson(f"{name} is no JSON number")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise NotStrictJson(f"the number {digits[:20]} is too large")
    return number


def _check_text(value: Any) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise NotStrictJson("a text contains NUL")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise NotStrictJson("a text contains a lone surrogate") from error
    elif isinstance(value, dict):
        for name, each in value.items():
            _check_text(name)
            _check_text(each)
    elif isinstance(value, list):
        for each in value:
            _check_text(each)


def _check_numbers(value: Any) -> None:
    if isinstance(value, int):
        try:
            float(value)
        except OverflowError as error:
            raise NotStrictJson("a number is too large") from error
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            _check_numbers(each)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
