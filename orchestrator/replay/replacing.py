"""Tokens put in the place of sensitive values: in fields that are marked, and wherever else the same values lie.

A value is known again by itself, because a definition passes it on: from an event into the data, from there into
commands, keys and reasons. Values of two letters or of three digits are everywhere, so they are replaced only in fields
that are marked, and in fields of the same name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from contracts.registry import in_words
from contracts.sensitive import Shape
from contracts.withheld import is_token
from orchestrator.replay.tokens import NUMBER_FORM, UUID_FORM, NoToken, Tokens

LONG = 6
"""Characters from which a value is recognized within other words too."""
CUT = 400
"""Characters of a text that may have been cut off in the middle of a value."""
_LEAST_CUT = 5
# pydantic quotes what it refused, shortened in its middle.
_QUOTED_INPUT = re.compile(r"input_value=.*?, input_type=", re.DOTALL)


class CannotRedact(ValueError):
    """A bundle cannot be redacted; says what stands in the way and how to mend it."""


@dataclass
class Hidden:
    """What is sensitive in a bundle: values, as text, and where they lie."""

    places: dict[str, list[tuple[Shape, Any]]] = field(default_factory=dict)
    choices: dict[str, set[tuple[Any, ...]]] = field(default_factory=dict)
    """Fields that are marked and may hold one of few values only, and which."""
    identities: set[str] = field(default_factory=set)

    # -- a Rewriter that changes nothing ---------------------------------------------------------------------

    def content(self, value: Any, model: type[BaseModel]) -> Any:
        return Shape.of(model).rebuilt(value, self._leaf)

    def words(self, text: str) -> str:
        return text

    def identity(self, text: str) -> str:
        self.identities.add(text)
        return text

    def _leaf(self, shape: Shape, value: Any) -> Any:
        if shape.marked and value is not None and value != "" and not is_token(value):
            if choices := _choices(shape, value):
                self.choices.setdefault(shape.name, set()).add(choices)
            else:
                self.places.setdefault(_canonical(value), []).append((shape, value))
        return value


class Replacing:
    """A Rewriter that puts a token wherever a hidden value lies. Raises CannotRedact where nothing fits."""

    def __init__(self, hidden: Hidden, secret: bytes) -> None:
        self._hidden = hidden
        self._tokens = Tokens(secret, hidden.places)
        self._stands_for = {value: self._token(value, places) for value, places in sorted(hidden.places.items())}
        self._identities: dict[str, str] = {}
        self._prepare()

    def add(self, told: Mapping[str, str], identities: Mapping[str, str]) -> None:
        """Replace these texts and ids too."""
        self._stands_for |= told
        self._identities |= identities
        self._prepare()

    def token_of(self, identity: str) -> str:
        """What stands for an id of which nothing else says what it becomes."""
        return self._tokens.token(identity, lambda _: True)

    # -- Rewriter --------------------------------------------------------------------------------------------

    def content(self, value: Any, model: type[BaseModel]) -> Any:
        made = Shape.of(model).rebuilt(value, self._leaf)
        if _complaint(model, value) is None and (complaint := _complaint(model, made)) is not None:
            raise CannotRedact(
                f"{model.__name__} does not accept the tokens: {complaint}; mark its other fields that hold the "
                "same value, or loosen what it checks"
            )
        return made

    def words(self, text: str) -> str:
        return self._stands_for.get(text) or self._within(_QUOTED_INPUT.sub("input_value=…, input_type=", text))

    def identity(self, text: str) -> str:
        return self._identities.get(text) or self.words(text)

    # -- one value -------------------------------------------------------------------------------------------

    def _token(self, value: str, places: list[tuple[Shape, Any]]) -> str:
        try:
            return self._tokens.token(
                value, lambda token: all(shape.accepts(_typed(token, was), was) for shape, was in places)
            )
        except NoToken as error:
            raise CannotRedact(
                f"nothing that could stand for it is valid in the sensitive field {places[0][0].path}: "
                "loosen what it checks, or export without --redact"
            ) from error

    def _leaf(self, shape: Shape, value: Any) -> Any:
        if is_token(value):
            return self._tokens.sealed(value)
        if value is None or value == "":
            return value
        if choices := _choices(shape, value):
            return self._tokens.permuted(value, choices) if shape.name in self._hidden.choices else value
        canonical = _canonical(value)
        token = self._stands_for.get(canonical)
        if token is not None and self._belongs(shape, canonical, value):
            return _typed(token, value)
        return self._within(value) if isinstance(value, str) and shape.free_text else value

    def _belongs(self, shape: Shape, canonical: str, value: Any) -> bool:
        """Whether a value that looks like a hidden one is it."""
        places = self._hidden.places.get(canonical, [])
        if shape.marked or any(shape.name == place.name for place, _ in places):
            return True
        # An amount is not a customer's number because it has the same digits.
        return not _short(canonical) and (isinstance(value, str) or any(not isinstance(was, str) for _, was in places))

    # -- free text -------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        told = {value: token for value, token in self._stands_for.items() if not _short(value)} | self._identities
        written = {form: made for value, token in told.items() for form, made in _forms(value, token)}
        for name, choices in ((name, each) for name, found in self._hidden.choices.items() for each in found):
            for value in choices:
                written |= _choice_forms(name, value, self._tokens.permuted(value, choices))
        longest_first = sorted(written, key=lambda each: (-len(each), each))
        self._written = written
        self._in_order = [written[each] for each in longest_first]
        self._pattern = re.compile("|".join(f"({_found_as(each)})" for each in longest_first) or "(?!)", re.IGNORECASE)

    def _within(self, text: str) -> str:
        replaced = self._pattern.sub(self._found, text)
        return self._cut(replaced) if len(text) >= CUT else replaced

    def _found(self, found: re.Match[str]) -> str:
        # In other letter case than any hidden value, it is the one whose group it matched.
        return self._written.get(found[0]) or self._in_order[(found.lastindex or 1) - 1]

    def _cut(self, text: str) -> str:
        """A long text without the half of a value that its beginning or its end has been cut through."""
        for value, token in self._written.items():
            for length in range(min(len(value) - 1, len(text)), _LEAST_CUT - 1, -1):
                text = token + text[length:] if text.startswith(value[-length:]) else text
                text = text[:-length] + token if text.endswith(value[:length]) else text
        return text


def _choices(shape: Shape, value: Any) -> tuple[Any, ...]:
    choices = shape.choices() or ((False, True) if isinstance(value, bool) else ())
    return choices if value in choices else ()


def _canonical(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _typed(token: str, instead_of: Any) -> Any:
    return token if isinstance(instead_of, str) else type(instead_of)(token)


def _short(value: str) -> bool:
    return len(value) < (4 if NUMBER_FORM.fullmatch(value) else 3)


def _forms(value: str, token: str) -> Iterator[tuple[str, str]]:
    """How a value may be written within a text, and how its token is written there."""
    yield value, token
    if UUID_FORM.fullmatch(value):
        yield value.replace("-", ""), token.replace("-", "")
        return
    yield from _moment_forms(value, token)
    if repr(value)[0] != "'":
        # Python chooses the quotes by what is inside.
        yield repr(value), repr(token)
    for written in (
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        value.strip(),
    ):
        if not _short(written):
            yield written, token


def _moment_forms(value: str, token: str) -> Iterator[tuple[str, str]]:
    """A day as `datetime.date(1815, 12, 10)` shows it, a moment so and as `1815-12-10 03:04:05`."""
    try:
        was, made = datetime.fromisoformat(value), datetime.fromisoformat(token)
    except ValueError:
        return
    yield was.strftime("%Y-%m-%d"), made.strftime("%Y-%m-%d")
    yield f"({was.year}, {was.month}, {was.day}", f"({made.year}, {made.month}, {made.day}"
    if len(value) > len("2026-01-01"):
        yield str(was), str(made)
        shown = [f"({each:%Y}, {each.month}, {each.day}, {each.hour}, {each.minute}" for each in (was, made)]
        yield shown[0], shown[1]


def _choice_forms(name: str, value: Any, token: Any) -> dict[str, str]:
    """One of few values as it is quoted with its field's name, in Python and in JSON; alone, it says nothing."""
    return {
        f"{name}={value!r}": f"{name}={token!r}",
        f"'{name}': {value!r}": f"'{name}': {token!r}",
        f'"{name}": {json.dumps(value)}': f'"{name}": {json.dumps(token)}',
        f'"{name}":{json.dumps(value)}': f'"{name}":{json.dumps(token)}',
    }


def _found_as(value: str) -> str:
    if NUMBER_FORM.fullmatch(value):
        return rf"(?<!\d){re.escape(value)}(?!\d)"
    # An underscore is no letter: it joins what was put together.
    return re.escape(value) if len(value) >= LONG else rf"(?<![^\W_]){re.escape(value)}(?![^\W_])"


def _complaint(model: type[BaseModel], value: Any) -> str | None:
    try:
        # As JSON, which is what it is: a strict model takes a UUID's text from there and not from Python.
        model.model_validate_json(to_json(value))
    except ValidationError as error:
        return in_words(error)
    except Exception as error:  # noqa: BLE001 - a contract's own validator: what it raises is the complaint
        return type(error).__name__
    return None
