"""What in a file is not as it has to be, in our words: the place, what was expected there, and what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

LONGEST = 80
"""Characters of what was found."""

_EXPECTED = {
    "timezone_aware": "a moment with its time zone, like 2026-03-01T12:00:00Z",
    "datetime": "a moment, like 2026-03-01T12:00:00Z",
    "uuid": "a UUID",
    "string": "a text",
    "int": "a whole number",
    "bool": "true or false",
    "dict": "an object",
    "model": "an object",
    "dataclass": "an object",
    "tuple": "a list",
}
"""By the beginning of pydantic's name for the kind of error."""


def unfit(error: ValidationError) -> str:
    """One line: the first thing that does not fit, and how many more there are; of what was found, an excerpt."""
    first, *more = error.errors(include_url=False)
    words = _told(first)
    return f"{words}; and {len(more)} more" if more else words


def excerpt(value: object) -> str:
    """A value as JSON, or what fits of it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _told(each: ErrorDetails) -> str:
    place, kind = _place(each["loc"]), each["type"]
    if kind == "missing":
        return f"{place} is missing"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place} is nothing that is known here: {excerpt(each['input'])}"
    if kind == "value_error":
        return f"{place}: {each['ctx']['error']}"
    if kind == "literal_error":
        expected = each["ctx"]["expected"]
    else:
        expected = next((words for start, words in _EXPECTED.items() if kind.startswith(start)), "something else")
    return f"{place}: expected {expected}, found {excerpt(each['input'])}"


def _place(steps: Sequence[int | str]) -> str:
    path = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in steps)
    return path.removeprefix(".") or "the whole"
