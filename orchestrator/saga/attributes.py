"""Search attributes: which fields of a saga's data its instances can be found by, and their values as text."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from orchestrator.saga.steps import InvalidSaga

LONGEST_NAME = 120
_SINGLE = (str, bool, int, float, Decimal, UUID, date, time, timedelta, Enum)
"""What has one text. A datetime is a date."""


def check_search(where: str, data: type[BaseModel], search: object) -> tuple[str, ...]:
    """The declared names, each of them a field with a single value; raises InvalidSaga."""
    if isinstance(search, str):
        raise InvalidSaga(f"{where}: search must be a tuple of names; write search=({search!r},)")
    if not isinstance(search, tuple) or not all(isinstance(name, str) for name in search):
        raise InvalidSaga(f"{where}: search={search!r} must be a tuple of names of fields of {data.__name__}")
    for name in search:
        if len(name) > LONGEST_NAME:
            raise InvalidSaga(f"{where}: search names {name!r}; a name has at most {LONGEST_NAME} characters")
        if search.count(name) > 1:
            raise InvalidSaga(f"{where}: search names {name!r} twice; drop one")
        _check_path(f"{where}: search names {name!r}", data, name)
    return search


def attributes(search: tuple[str, ...], data: BaseModel | None) -> Mapping[str, str]:
    """The text of each declared field that has a value: a string as it is, anything else as JSON shows it."""
    found: dict[str, str] = {}
    if data is None:
        return found
    for name in search:
        value: Any = data
        for part in name.split("."):
            value = getattr(value, part, None)
        if type(value) is str:
            found[name] = value
        elif value is not None:
            shown = to_jsonable_python(value)
            found[name] = shown if isinstance(shown, str) else json.dumps(shown)
    return found


def _check_path(place: str, data: type[BaseModel], name: str) -> None:
    models: list[type[BaseModel]] = [data]
    parts = name.split(".")
    for number, part in enumerate(parts, 1):
        kinds: set[Any] = set()
        for model in models:
            if part not in model.model_fields:
                raise InvalidSaga(
                    f"{place}, but {model.__name__} has no field {part!r}; it has {', '.join(model.model_fields)}"
                )
            kinds |= _alternatives(model.model_fields[part].annotation)
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if number < len(parts):
            if len(models) != len(kinds):
                raise InvalidSaga(f"{place}, but {'.'.join(parts[:number])} is {_told(kinds)}, which has no fields")
        elif models:
            inner = ", ".join(f"{name}.{field}" for field in models[0].model_fields)
            raise InvalidSaga(f"{place}, which is a {models[0].__name__}; name a field of it: {inner}")
        elif not all(isinstance(kind, type) and issubclass(kind, _SINGLE) for kind in kinds):
            raise InvalidSaga(
                f"{place}, which is {_told(kinds)}; only a field with one plain value can be searched for "
                "(text, number, id, date, enumeration): give the data such a field"
            )


def _alternatives(annotation: Any) -> set[Any]:
    """The types that a value of this annotation may have, None left out."""
    while True:
        if isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            break
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_alternatives(each) for each in typing.get_args(annotation))) - {type(None)}
    if origin is typing.Literal:
        return {type(value) for value in typing.get_args(annotation)} - {type(None)}
    return {annotation}


def _told(kinds: set[Any]) -> str:
    return " or ".join(sorted(kind.__name__ if isinstance(kind, type) else str(kind) for kind in kinds))
