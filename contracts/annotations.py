"""What annotations say of the JSON that a type is written as: which types may lie in a place, and what is inside."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ForwardRef, NotRequired, Required, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo

from contracts.marks import SENSITIVE


@dataclass(frozen=True, slots=True)
class Kind:
    """One type that a place may hold: bare, and as it is annotated."""

    bare: Any
    annotated: Any
    marked: bool


def kinds(annotation: Any, marked: bool = False, annotated: Any = None) -> Iterator[Kind]:
    """The types that an annotation stands for."""
    annotated = annotation if annotated is None else annotated
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *about = get_args(annotation)
        yield from kinds(inner, marked or SENSITIVE in about, annotated)
    elif origin is Union or origin is types.UnionType:
        for each in get_args(annotation):
            yield from kinds(each, marked, annotated)
    elif origin in (Required, NotRequired):
        yield from kinds(get_args(annotation)[0], marked)
    elif hasattr(annotation, "__supertype__"):  # NewType
        yield from kinds(annotation.__supertype__, marked, annotated)
    elif hasattr(annotation, "__value__"):  # type X = ...
        yield from kinds(annotation.__value__, marked, annotated)
    elif isinstance(annotation, (str, ForwardRef)):  # a name that leads nowhere: what it marks, nobody can tell
        yield Kind(Any, Any, True)
    elif isinstance(annotation, TypeVar):
        yield from kinds(annotation.__bound__ or Any, marked, annotated)
    elif is_model(annotation) and issubclass(annotation, RootModel):
        yield from kinds(annotation_of(annotation.model_fields["root"]), marked, annotated)
    else:
        yield Kind(annotation, annotated, marked)


def annotation_of(field: Any) -> Any:
    """A model's field with all that it says of its type."""
    if not isinstance(field, FieldInfo):
        return field
    annotation: Any = field.annotation
    for about in field.metadata:
        annotation = Annotated[annotation, about]
    return annotation


def is_model(kind: Any) -> bool:
    """Whether a type is a pydantic model."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def complete(model: type[BaseModel]) -> None:
    """See to it that a model knows what it mentions, also where that was defined after it and nobody has asked yet."""
    if not model.__pydantic_complete__:
        model.model_rebuild()


def field_of(kind: Any, key: str) -> Any:
    """What a class says of the field that JSON calls `key`; None where it is no class with fields, or has none such."""
    if is_model(kind):
        complete(kind)
        for name, field in kind.model_fields.items():
            if key in (name, field.alias, field.serialization_alias, field.validation_alias):
                return field
        computed = kind.model_computed_fields.get(key)
        return None if computed is None else computed.return_type
    # typing_extensions has a TypedDict of its own, which is_typeddict does not know.
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "__total__")):
        return typing.get_type_hints(kind, include_extras=True).get(key)
    return None


def of_mapping(kind: Any, number: int) -> Any:
    """The type of a mapping's keys (0) or values (1); None for what is no mapping."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return arguments[number] if number < len(arguments) else Any
    return Any if anything(kind) else None


def of_array(kind: Any, number: int) -> Any:
    """The type of an array's item; None for what is no array."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if not isinstance(origin, type) or not issubclass(origin, Collection) or issubclass(origin, (str, bytes, Mapping)):
        return Any if anything(kind) else None
    if hasattr(origin, "_fields"):  # a NamedTuple
        arguments = tuple(typing.get_type_hints(origin, include_extras=True).values())
    if len(arguments) == 1 or Ellipsis in arguments:
        return arguments[0]
    return arguments[number] if number < len(arguments) else Any


def anything(kind: Any) -> bool:
    """Whether a type says nothing."""
    return kind is Any or kind is object
