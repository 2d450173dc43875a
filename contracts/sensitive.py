"""Marking what is nobody's business: fields of contracts and of saga data that an export can replace by tokens.

    class OrderCreated(Event, type="order.created"):
        email: Sensitive[str]
        phone: Annotated[str | None, Field(max_length=20), SENSITIVE] = None

A mark says nothing to anybody but `Shape`: what is valid, the JSON Schema and a saga's fingerprint stay as they are.
What is inside a marked field is marked too: `Sensitive[Address]`, `list[Sensitive[str]]`, `dict[Sensitive[str], int]`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import (
    Annotated,
    Any,
    ForwardRef,
    Literal,
    NotRequired,
    Required,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_json, to_jsonable_python

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SensitiveMark:
    """Says of the type it is an annotation of that its values are sensitive."""


SENSITIVE = SensitiveMark()
Sensitive: TypeAlias = Annotated[T, SENSITIVE]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One type that a place may hold: bare, and as it is annotated."""

    bare: Any
    annotated: Any
    marked: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """What may lie in one place of a JSON value: where it is, and whether a field's mark covers it.

    Where a place may hold several types, it is marked if one of them is, and a field that its model does not know is
    marked: too much is hidden rather than too little.
    """

    path: str
    name: str
    """The field's own name, or that of the field around it; "" where there is none."""
    kinds: tuple[_Kind, ...]

    @classmethod
    def of(cls, model: type[BaseModel]) -> Shape:
        """Of a message, or of a saga's data."""
        return cls(model.__name__, "", tuple(_kinds(model)))

    @property
    def marked(self) -> bool:
        """Whether what lies here is sensitive."""
        return any(kind.marked for kind in self.kinds)

    @property
    def free_text(self) -> bool:
        """Whether any text may lie here."""
        return any(kind.bare is str or _anything(kind.bare) for kind in self.kinds)

    def choices(self) -> tuple[Any, ...]:
        """All that can lie here, as JSON, where that is a closed set: a bool, an Enum, a Literal. Else nothing."""
        found: list[Any] = []
        for kind in self.kinds:
            members = _members(kind.bare)
            if not members and kind.bare is not types.NoneType:
                return ()
            found += [each for each in members if each not in found]
        return tuple(found)

    def accepts(self, value: object, instead_of: object) -> bool:
        """Whether `value` is valid here wherever `instead_of` is."""
        return all(_valid(kind.annotated, value) for kind in self.kinds if _valid(kind.annotated, instead_of))

    def rebuilt(self, value: Any, leaf: Callable[[Shape, Any], Any]) -> Any:
        """`value` (parsed JSON) with everything that is no object and no array replaced by what `leaf` makes of it.

        So are the keys of objects that are no models. A field that holds its own default is left as it is, but for
        marked ones with a closed set of values: what everybody can read in the code is no secret.
        """
        if isinstance(value, dict):
            return dict(self._entry(key, each, leaf) for key, each in value.items())
        if isinstance(value, list):
            return [self._item(number).rebuilt(each, leaf) for number, each in enumerate(value)]
        return leaf(self, value)

    def _entry(self, key: str, value: Any, leaf: Callable[[Shape, Any], Any]) -> tuple[str, Any]:
        known = [(kind, field) for kind in self.kinds if (field := _field(kind.bare, key)) is not None]
        if known:
            inside = tuple(each for kind, field in known for each in _kinds(_annotation(field), kind.marked))
            shape = Shape(f"{self.path}.{key}", key, inside)
            # Of a few choices the default must not stand out: whatever is shown otherwise would be told by it.
            stands = any(_holds_default(field, value) for _, field in known)
            if stands and not (shape.marked and shape.choices()):
                return key, value
            return key, shape.rebuilt(value, leaf)
        if any(_is_model(kind.bare) for kind in self.kinds):
            return key, Shape(f"{self.path}.{key}", key, tuple(_kinds(Any, True))).rebuilt(value, leaf)
        # What is no field's name may be anybody's: it is in no path, because errors quote those.
        told = leaf(self._inside(" (a key)", lambda kind: _of_mapping(kind, 0)), key)
        return str(told), self._inside(".*", lambda kind: _of_mapping(kind, 1)).rebuilt(value, leaf)

    def _item(self, number: int) -> Shape:
        return self._inside(f".{number}", lambda kind: _of_array(kind, number))

    def _inside(self, place: str, argument: Callable[[Any], Any]) -> Shape:
        found = tuple(
            each
            for kind in self.kinds
            if (annotation := argument(kind.bare)) is not None
            for each in _kinds(annotation, kind.marked)
        )
        return Shape(self.path + place, self.name, found or tuple(_kinds(Any, self.marked)))


def _kinds(annotation: Any, marked: bool = False, annotated: Any = None) -> Iterator[_Kind]:
    """The types that an annotation stands for."""
    annotated = annotation if annotated is None else annotated
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *about = get_args(annotation)
        yield from _kinds(inner, marked or SENSITIVE in about, annotated)
    elif origin is Union or origin is types.UnionType:
        for each in get_args(annotation):
            yield from _kinds(each, marked, annotated)
    elif origin in (Required, NotRequired):
        yield from _kinds(get_args(annotation)[0], marked)
    elif hasattr(annotation, "__supertype__"):  # NewType
        yield from _kinds(annotation.__supertype__, marked, annotated)
    elif hasattr(annotation, "__value__"):  # type X = ...
        yield from _kinds(annotation.__value__, marked, annotated)
    elif isinstance(annotation, (str, ForwardRef)):  # a name that leads nowhere: what it marks, nobody can tell
        yield _Kind(Any, Any, True)
    elif isinstance(annotation, TypeVar):
        yield from _kinds(annotation.__bound__ or Any, marked, annotated)
    elif _is_model(annotation) and issubclass(annotation, RootModel):
        yield from _kinds(_annotation(annotation.model_fields["root"]), marked, annotated)
    else:
        yield _Kind(annotation, annotated, marked)


def _annotation(field: Any) -> Any:
    if not isinstance(field, FieldInfo):
        return field
    annotation: Any = field.annotation
    for about in field.metadata:
        annotation = Annotated[annotation, about]
    return annotation


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _field(kind: Any, key: str) -> Any:
    """What a class says of the field that JSON calls `key`; None where it is no class with fields, or has none such."""
    if _is_model(kind):
        if not kind.__pydantic_complete__:  # what it mentions was defined after it; until now, nobody has asked
            kind.model_rebuild()
        for name, field in kind.model_fields.items():
            if key in (name, field.alias, field.serialization_alias, field.validation_alias):
                return field
        computed = kind.model_computed_fields.get(key)
        return None if computed is None else computed.return_type
    # typing_extensions has a TypedDict of its own, which is_typeddict does not know.
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "__total__")):
        return typing.get_type_hints(kind, include_extras=True).get(key)
    return None


def _holds_default(field: Any, value: Any) -> bool:
    if not isinstance(field, FieldInfo) or field.default is PydanticUndefined:
        return False
    return bool(to_jsonable_python(field.default, by_alias=True, serialize_unknown=True) == value)


def _of_mapping(kind: Any, number: int) -> Any:
    """The type of a mapping's keys (0) or values (1); None for what is no mapping."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return arguments[number] if number < len(arguments) else Any
    return Any if _anything(kind) else None


def _of_array(kind: Any, number: int) -> Any:
    """The type of an array's item; None for what is no array."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if not isinstance(origin, type) or not issubclass(origin, Collection) or issubclass(origin, (str, bytes, Mapping)):
        return Any if _anything(kind) else None
    if hasattr(origin, "_fields"):  # a NamedTuple
        arguments = tuple(typing.get_type_hints(origin, include_extras=True).values())
    if len(arguments) == 1 or Ellipsis in arguments:
        return arguments[0]
    return arguments[number] if number < len(arguments) else Any


def _anything(kind: Any) -> bool:
    return kind is Any or kind is object


def _members(kind: Any) -> list[Any]:
    if kind is bool:
        return [False, True]
    if get_origin(kind) is Literal:
        return [to_jsonable_python(each) for each in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [to_jsonable_python(each.value) for each in kind]
    return []


def _valid(annotation: Any, value: object) -> bool:
    try:
        TypeAdapter(annotation).validate_json(to_json(value))
    except Exception:  # noqa: BLE001 - a contract's own validator may raise anything: it does not accept the value
        return False
    return True
