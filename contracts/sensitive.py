"""The shape of sensitive JSON: what of a message, or of a saga's data, its marks cover."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_json, to_jsonable_python

from contracts.annotations import Kind, annotation_of, anything, field_of, is_model, kinds, of_array, of_mapping
from contracts.withheld import is_token


@dataclass(frozen=True, slots=True)
class Shape:
    """What may lie in one place of a JSON value: where it is, and whether a field's mark covers it.

    Where a place may hold several types, it is marked if one of them is, and a field that its model does not know is
    marked: too much is hidden rather than too little.
    """

    path: str
    name: str
    """The field's own name, or that of the field around it; "" where there is none."""
    kinds: tuple[Kind, ...]

    @classmethod
    def of(cls, model: type[BaseModel]) -> Shape:
        """Of a message, or of a saga's data."""
        return cls(model.__name__, "", tuple(kinds(model)))

    @property
    def marked(self) -> bool:
        """Whether what lies here is sensitive."""
        return any(kind.marked for kind in self.kinds)

    @property
    def free_text(self) -> bool:
        """Whether any text may lie here."""
        return any(kind.bare is str or anything(kind.bare) for kind in self.kinds)

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
        marked ones with a closed set of values: what everybody can read in the code is no secret. What is withheld is
        one leaf, its token.
        """
        if is_token(value) and self.marked:
            return leaf(self, value)
        if isinstance(value, dict):
            return dict(self._entry(key, each, leaf) for key, each in value.items())
        if isinstance(value, list):
            return [self._item(number).rebuilt(each, leaf) for number, each in enumerate(value)]
        return leaf(self, value)

    def _entry(self, key: str, value: Any, leaf: Callable[[Shape, Any], Any]) -> tuple[str, Any]:
        known = [(kind, field) for kind in self.kinds if (field := field_of(kind.bare, key)) is not None]
        if known:
            inside = tuple(each for kind, field in known for each in kinds(annotation_of(field), kind.marked))
            shape = Shape(f"{self.path}.{key}", key, inside)
            # Of a few choices the default must not stand out: whatever is shown otherwise would be told by it.
            stands = any(_holds_default(field, value) for _, field in known)
            if stands and not (shape.marked and shape.choices()):
                return key, value
            return key, shape.rebuilt(value, leaf)
        if any(is_model(kind.bare) for kind in self.kinds):
            return key, Shape(f"{self.path}.{key}", key, tuple(kinds(Any, True))).rebuilt(value, leaf)
        # What is no field's name may be anybody's: it is in no path, because errors quote those.
        told = leaf(self._inside(" (a key)", lambda kind: of_mapping(kind, 0)), key)
        return str(told), self._inside(".*", lambda kind: of_mapping(kind, 1)).rebuilt(value, leaf)

    def _item(self, number: int) -> Shape:
        return self._inside(f".{number}", lambda kind: of_array(kind, number))

    def _inside(self, place: str, argument: Callable[[Any], Any]) -> Shape:
        found = tuple(
            each
            for kind in self.kinds
            if (annotation := argument(kind.bare)) is not None
            for each in kinds(annotation, kind.marked)
        )
        return Shape(self.path + place, self.name, found or tuple(kinds(Any, self.marked)))


def _holds_default(field: Any, value: Any) -> bool:
    if not isinstance(field, FieldInfo) or field.default is PydanticUndefined:
        return False
    return bool(to_jsonable_python(field.default, by_alias=True, serialize_unknown=True) == value)


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
