"""A saga's data as it lies in the database: what a function returned is taken as it comes back from there.

The engine keeps an instance in memory for one batch and reads it from its row for the next; a replay folds all of it in
one go, and a fork begins in the middle. So the machine takes whatever a function returns the way that leads through the
row: it means the same to all of them, and what could not be read again is refused before it is stored. The instance is
then stuck where the mistake was made.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from contracts.withheld import Unopened

D = TypeVar("D", bound=BaseModel)
R = TypeVar("R")
_NEVER_CHANGE = (str, int, float, complex, bool, bytes, type(None), UUID, Decimal, date, datetime, time, timedelta)


class Unstorable(TypeError):
    """The data could not be read again once it is stored; says what is wrong with it."""


def as_stored(kind: type[D], data: D) -> tuple[D, str]:
    """The data as the next batch will read it, and its JSON; raises Unstorable where it could not be read.

    What is of another type than its field is taken as when the model is made: a UUID in a `str` is its text.
    """
    if type(data) is not kind:
        raise Unstorable(f"a {type(data).__name__} would be read as the {kind.__name__} that it is stored as")
    # What is written otherwise than its type says is found out below, and told better.
    try:
        text = data.__pydantic_serializer__.to_json(data, by_alias=True, warnings=False)
    except PydanticSerializationError as error:
        raise Unstorable(
            f"{kind.__name__} cannot be stored: {error}; what is sealed, only a field that is marked Sensitive can hold"
        ) from error
    try:
        return kind.__pydantic_validator__.validate_json(text), text.decode()
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(each) for each in first["loc"]) or "the whole"
        raise Unstorable(
            f"{kind.__name__} could not be read again: {place}: {first['msg']}, found {first['input']!r:.80}; "
            "model_copy(update=...) checks nothing, so give the field a value of its type"
        ) from error


def differ(one: object, other: object) -> bool:
    """Whether two values are not the same; what is sealed is the same as nothing that is not."""
    try:
        return bool(one != other)
    except Unopened:
        return True


def unchanged(function: Callable[..., R], data: BaseModel, *more: object) -> R:
    """What a function says of data that it could change in place; raises TypeError where it has done that.

    It is given a copy, so that nothing has happened to the data in the end.
    """
    copy = data.model_copy(deep=True)
    said = function(copy, *more)
    if differ(copy, data):
        raise TypeError(
            f"{getattr(function, '__name__', function)} changed the saga's data in place, which no history would "
            "notice; return model_copy(update=...)"
        )
    return said


def may_change(kind: Any) -> bool:
    """Whether a value of this type could be changed in place, as far as types can tell."""
    return _may_change(kind, frozenset())


def _may_change(kind: Any, above: frozenset[Any]) -> bool:
    if kind in above or kind is Ellipsis:  # a model that holds others of its own kind
        return False
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return False
    if origin is typing.Annotated:
        return _may_change(typing.get_args(kind)[0], above)
    if origin in (typing.Union, types.UnionType, tuple, frozenset):
        return any(_may_change(each, above) for each in typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields.values()
        # A field that nobody has declared may hold a list or an object, whatever the others are.
        fixed = kind.model_config.get("frozen") and kind.model_config.get("extra") != "allow"
        return not fixed or any(_may_change(each.annotation, above | {kind}) for each in fields)
    return not (isinstance(kind, type) and issubclass(kind, (*_NEVER_CHANGE, Enum)))
