"""Hostile bytes to JSON values, or a reason why not.

Stricter than `json.loads`: UTF-8 only, no NaN or Infinity, no duplicate keys, no NUL and no lone surrogates (PostgreSQL
stores neither), no nesting past 32, no number too large for a float.

Read twice only where that is not plain from the bytes: pydantic's reader takes a tenth of the time that Python's takes
with our hooks, but lets a few of these things through; so what may hold one of them, and what it refuses, is read by
Python's, which also says why.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from pydantic_core import from_json

MAX_DEPTH = 32


class NotStrictJson(ValueError):
    """The bytes are not JSON as we accept it; says why."""


# Possessive, and content with a string that never ends: whatever the bytes, they are passed over once.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[{\]}]")
_LONG_NUMBER = re.compile(rb"[0-9]{309}")
_LARGEST = 10**308
"""As wide as a float, or nearly: what is wider is looked at twice."""


def loads(raw: bytes) -> Any:
    """The value in `raw`; raises NotStrictJson."""
    if _is_plain(raw):
        try:
            value = from_json(raw, allow_inf_nan=False, cache_strings="keys")
        except ValueError:
            return _read(raw)  # says what is wrong with it
        # As many keys as there are, at the most, in the bytes: so none stands twice.
        if raw.count(b'":') == _keys(value):
            return value
    return _read(raw)


def _is_plain(raw: bytes) -> bool:
    """Whether what pydantic's reader makes of `raw` shows all that ours would refuse, and it does not.

    Brackets in strings count too, and so does whatever else looks like what it is not: that is only read more slowly.
    """
    return (
        raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH
        # One byte is looked for faster than two.
        and (b"\\" not in raw or b"\\u" not in raw)
        and (b" " not in raw or b" :" not in raw)
        and (b"\n" not in raw or b"\n:" not in raw)
        and b"\t" not in raw
        and b"\r" not in raw
    )


def _keys(value: Any) -> int:
    """How many keys there are in all the objects of a value; a number below zero where it holds too large a number."""
    keys = 0
    if type(value) is dict:
        keys = len(value)
        value = value.values()
    elif type(value) is not list:
        value = (value,)
    for each in value:
        kind = type(each)
        if kind is dict or kind is list:
            keys += _keys(each)
        elif (kind is float or kind is int) and not -_LARGEST < each < _LARGEST:
            return -1 << 32
    return keys


def _read(raw: bytes) -> Any:
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
