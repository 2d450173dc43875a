"""Where a contract's sealed fields lie: the places of its JSON that are marked as sensitive, and whose they are.

    class OrderCreated(Event, type="order.created", key="order_id", subject="customer_id"):
        order_id: UUID
        customer_id: str
        email: Sensitive[str]

A value opens in the field that it was sealed for, of a message about the same subject. A saga that passes it on says so
where it arrives:

    class SendReceipt(Command[ReceiptSent, ReceiptRefused], type="mail.send_receipt", subject="customer_id"):
        customer_id: str
        to: Annotated[Sensitive[str], Carried("order.created", "email")]
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel, PlainSerializer, SerializeAsAny, TypeAdapter, ValidationError, WrapSerializer
from pydantic.fields import FieldInfo
from pydantic_core import from_json

from contracts.annotations import annotation_of, anything, complete, is_model, kinds, of_array, of_mapping
from contracts.marks import Carried
from contracts.withheld import MARKED_TEXT, Sealed, Unopened, Withheld, is_token, withheld

if TYPE_CHECKING:
    from contracts.message import Message

Leaf = Callable[["Place", Any], Any]
_INSIDE = "*"
_WRITERS = (PlainSerializer, WrapSerializer)
_AS_ANY: Any = SerializeAsAny
_PROBE = Sealed("probe", "probe", "probe", "probe", "probe")
_SUBJECTS = (str, UUID, int)


@dataclass(slots=True)
class Place:
    """One place of a message's JSON, and what of it is sealed. `path` is told in tokens."""

    path: str
    sealed: bool = False
    carried: tuple[Carried, ...] = ()
    fields: dict[str, Place] = field(default_factory=dict)
    """By their names in JSON."""
    inside: Place | None = None
    """Of a list's items or a mapping's values."""

    def rebuilt(self, value: Any, leaf: Leaf) -> Any:
        """`value` (parsed JSON) with what is sealed here replaced by what `leaf` makes of it. `None` stays."""
        if self.sealed:
            return None if value is None else leaf(self, value)
        if isinstance(value, dict):
            return {name: self._member(name, each, leaf) for name, each in value.items()}
        if isinstance(value, list) and self.inside is not None:
            return [self.inside.rebuilt(each, leaf) for each in value]
        return value

    def _member(self, name: str, value: Any, leaf: Leaf) -> Any:
        place = self.fields.get(name, self.inside)
        return value if place is None else place.rebuilt(value, leaf)

    def all(self) -> Iterator[Place]:
        """Every sealed place in it, each once."""
        if self.sealed:
            yield self
        for each in {id(each): each for each in self.fields.values()}.values():
            yield from each.all()
        if self.inside is not None:
            yield from self.inside.all()


@cache
def places(message: type[Message]) -> Place | None:
    """Where this contract is sealed; None where nothing of it is, or it names no subject.

    Raises TypeError, saying how to mend it, where a marked field cannot be sealed.
    """
    if message.subject_field is None:
        return None
    complete(message)
    if any(kind.bare not in _SUBJECTS for kind in kinds(annotation_of(message.model_fields[message.subject_field]))):
        raise TypeError(
            f"{message.__name__}: subject={message.subject_field!r} says who a message is about, so it is a str, a "
            "UUID or an int, and never None"
        )
    found = _Finding(message).of(message, "", frozenset())
    if found is None:
        return None
    for name in _names(message, message.subject_field):
        # Whoever opens the others has to read it; the mark still redacts it in exports.
        found.fields.pop(name, None)
    if message.key_field in {each.path for each in found.all()}:
        raise TypeError(
            f"{message.__name__}: key={message.key_field!r} is marked, and what is sealed orders nothing; take another "
            "field, or drop its mark"
        )
    return found if found.fields else None


def subject_of(message: Message) -> str:
    """Who a message is about, by a contract that names its subject."""
    return str(getattr(message, message.subject_field or ""))


def sealed_for(message: type[Message]) -> tuple[Place, ...]:
    """Every place of this contract that is sealed."""
    found = places(message)
    return () if found is None else tuple(found.all())


class Misplaced(ValueError):
    """Something sealed was put where it would not open; says what, and how to mend it."""


def check_tokens(message: type[Message], text: str) -> None:
    """Raise Misplaced where something that is sealed in the JSON of this message's data would not open there."""
    if MARKED_TEXT in text and (why := misplaced(message, from_json(text))) is not None:
        raise Misplaced(why)


def nameless(message: Message) -> str | None:
    """Why nobody can tell whose a message is, or what it follows: that is withheld itself. None where one can."""
    for what, name in (("subject", message.subject_field), ("key", message.key_field)):
        if name is not None and isinstance(getattr(message, name), Withheld):
            return f"{message.wire_type}: its {what}, {name}, is sealed, and has to be read by everybody"
    return None


def misplaced(message: type[Message], data: Any) -> str | None:
    """Why a token in a message's data (valid, as parsed JSON) would not open there; None where all would."""
    complaints: list[str] = []
    root = places(message)

    def look(place: Place, value: Any) -> Any:
        if is_token(value) and (complaint := _complaint(message, place, value)) is not None:
            complaints.append(complaint)
        return None

    if root is None:
        if message.subject_field is None and holds_token(data):
            return (
                f"{message.wire_type} names no subject, so what is sealed opens nowhere in it; give the class "
                "subject='...'"
            )
        return None
    root.rebuilt(data, look)
    return complaints[0] if complaints else None


def _complaint(message: type[Message], place: Place, token: Any) -> str | None:
    try:
        withheld(token)  # what a message takes no notice of (another name of a field) nobody has looked at
    except ValueError as error:
        return f"{message.wire_type} {place.path}: {error}"
    wire_type, field = token.get("type"), token.get("field")
    if (wire_type, field) == (message.wire_type, place.path) or "erased" in token:
        return None
    if any((each.type, each.field) == (wire_type, field) for each in place.carried):
        return None
    return (
        f"{message.wire_type} {place.path}: what was sealed for {wire_type} {field} does not open there; where it may "
        f'be passed on to it, say so: Annotated[Sensitive[...], Carried("{wire_type}", "{field}")]'
    )


def holds_token(value: Any) -> bool:
    """Whether something in this JSON is withheld."""
    if is_token(value):
        return True
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(holds_token(each) for each in inside)


def cannot_hold(model: type[BaseModel]) -> str | None:
    """Why a field of a saga's data that is marked cannot hold what is sealed; None where all can."""
    try:
        _Finding(model, carries=True).of(model, "", frozenset())
    except TypeError as error:
        return str(error)
    return None


class _Finding:
    """The marked places of one contract by its annotations, or of what only `carries` what is sealed."""

    def __init__(self, message: type[BaseModel], *, carries: bool = False) -> None:
        self._message = message
        self._carries = carries
        self._held: set[Any] = set()
        """Models that hold themselves."""

    def of(self, annotation: Any, path: str, above: frozenset[Any]) -> Place | None:
        """What is sealed in a place of this type; None where nothing is."""
        found = Place(path)
        members: dict[str, Place | None] = {}
        for kind in kinds(annotation):
            found.sealed = found.sealed or kind.marked
            if not kind.marked and not anything(kind.bare):
                self._look_inside(path, members, kind.bare, above)
        if found.sealed:
            found.carried = tuple(_carried(annotation))
            self._check(annotation, path)
            return found
        found.inside = members.pop(_INSIDE, None)
        found.fields = {name: place for name, place in members.items() if place is not None}
        holds = bool(found.fields) or found.inside is not None
        for each in _annotations(annotation):
            if isinstance(each, _AS_ANY) or (holds and isinstance(each, _WRITERS)):
                self._refuse_written(path)
        return found if holds else None

    def _look_inside(self, path: str, members: dict[str, Place | None], kind: Any, above: frozenset[Any]) -> None:
        if kind in above:
            self._held.add(kind)
            return
        above |= {kind}
        written = _written_otherwise(kind)
        for name, names, each in _fields(kind):
            here = f"{path}.{name}" if path else name
            place = self.of(each, here, above)
            if place is not None and (None in written or (not place.sealed and not written.isdisjoint((name, "*")))):
                self._refuse_written(path if None in written else here)
            self._into(members, path, names, place)
        if kind in self._held and any(members.values()):
            self._refuse(
                f"{kind.__name__} holds others of its kind, and has fields that are marked; mark the field that "
                "it lies in instead"
            )
        keys, values = of_mapping(kind, 0), of_mapping(kind, 1)
        inner = f"{path}.{_INSIDE}"
        if keys is not None and self.of(keys, inner, above) is not None:
            self._refuse(f"{path}: the keys of a mapping cannot be sealed; mark the whole of it")
        items = [values] if values is not None else _items(kind)
        for each in items:
            self._into(members, path, (_INSIDE,), self.of(each, inner, above))
        if not items and not is_model(kind) and any(self.of(each, inner, above) for each in _types_in(kind)):
            self._refuse(
                f"{path}: nobody knows where in a {kind} lies what is marked in it; write a list, or mark {path}"
            )

    def _into(self, members: dict[str, Place | None], path: str, names: tuple[str, ...], place: Place | None) -> None:
        for name in names:
            if name in members and members[name] != place:
                what = "something" if name == _INSIDE else name
                self._refuse(f"{path} may be several things, and {what} in it is not marked alike in all; mark {path}")
            members[name] = members.get(name) or place

    def _refuse(self, why: str) -> None:
        if not self._carries:
            raise TypeError(f"{self._message.__name__}: {why}")

    def _refuse_written(self, path: str) -> None:
        self._refuse(
            f"{path or self._message.__name__} is written by a serializer of its own, or as more than its type "
            "says, so nobody knows where in it lies what is marked; " + (f"mark {path}" if path else "drop it")
        )

    def _check(self, annotation: Any, path: str) -> None:
        try:
            if TypeAdapter(annotation).validate_python(_PROBE) is _PROBE:
                return
        except (ValidationError, Unopened, TypeError):
            pass
        raise TypeError(
            f"{self._message.__name__}: {path} cannot hold what is sealed: what checks the value comes after its mark. "
            "Write it before: Annotated[str, Field(max_length=20), SENSITIVE]"
        )


def _carried(annotation: Any) -> Iterator[Carried]:
    yield from (each for each in _annotations(annotation) if isinstance(each, Carried))


def _annotations(annotation: Any) -> Iterator[Any]:
    """What is said about a type, and about those in it."""
    if get_origin(annotation) is Annotated:
        yield from annotation.__metadata__
    for each in get_args(annotation):
        yield from _annotations(each)


def _written_otherwise(kind: Any) -> frozenset[str | None]:
    """The fields of a type that serializers of its own write; None: all of it."""
    said = getattr(kind, "__pydantic_decorators__", None)
    if said is None:
        return frozenset()
    fields = {name for each in said.field_serializers.values() for name in each.info.fields}
    return frozenset(fields | ({None} if said.model_serializers else set()))


def _fields(kind: Any) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Of a type with fields: each one's name, its names in JSON, and its type."""
    if is_model(kind):
        complete(kind)
        for name, each in kind.model_fields.items():
            yield name, _names(kind, name), annotation_of(each)
        for name, computed in kind.model_computed_fields.items():
            yield name, tuple(dict.fromkeys((name, computed.alias or name))), computed.return_type
        if kind.model_config.get("extra") == "allow" and get_args(extra := _extra(kind)):
            yield _INSIDE, (_INSIDE,), get_args(extra)[1]
    elif isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "__total__")):
        known = getattr(kind, "__pydantic_fields__", {})
        for name, hint in typing.get_type_hints(kind, include_extras=True).items():
            said = any(isinstance(each, FieldInfo) for each in getattr(hint, "__metadata__", ()))
            each = known.get(name, FieldInfo.from_annotation(hint) if said else hint)
            yield name, _called(name, each), annotation_of(each)


def _extra(model: type[BaseModel]) -> Any:
    return typing.get_type_hints(model, include_extras=True).get("__pydantic_extra__")


def _names(model: Any, name: str) -> tuple[str, ...]:
    return _called(name, model.model_fields[name])


def _called(name: str, field: Any) -> tuple[str, ...]:
    said = (field.alias, field.serialization_alias, field.validation_alias) if isinstance(field, FieldInfo) else ()
    return tuple(dict.fromkeys(text for text in (name, *said) if isinstance(text, str)))


def _types_in(kind: Any) -> list[Any]:
    return [] if get_origin(kind) is Literal else [each for each in get_args(kind) if each is not Ellipsis]


def _items(kind: Any) -> list[Any]:
    """The types of an array's items: one, or one for each of a tuple's."""
    if hasattr(kind, "_fields") or get_origin(kind) is tuple:
        said = typing.get_type_hints(kind, include_extras=True).values() if hasattr(kind, "_fields") else get_args(kind)
        return [each for each in said if each is not Ellipsis]
    item = of_array(kind, 0)
    return [] if item is None else [item]
