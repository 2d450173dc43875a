"""The mark of sensitive fields: found wherever it is put, and noticed by nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, RootModel
from typing_extensions import TypedDict

from contracts import SENSITIVE, Sensitive
from contracts.freeze import schema_of
from contracts.message import Event
from contracts.sensitive import Shape


class Address(BaseModel):
    street: Sensitive[str]
    city: str


class Line(TypedDict):
    product: str
    engraving: NotRequired[Sensitive[str]]


@dataclass
class Note:
    by: Sensitive[str]
    text: str


class Point(NamedTuple):
    name: str
    at: Sensitive[float]


class Names(RootModel[list[Sensitive[str]]]):
    pass


Phone = NewType("Phone", str)


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


class Person(BaseModel):
    id: UUID
    email: Annotated[str, Field(max_length=40, alias="e-mail"), SENSITIVE]
    born: Sensitive[date] | None = None
    phone: Annotated[Phone | None, SENSITIVE] = None
    home: Address | None = None
    hidden: Sensitive[Address] | None = None
    former: list[Address] = []
    by_room: dict[str, Address] = {}
    friends: dict[Sensitive[str], int] = {}
    tags: Mapping[str, Sensitive[str]] = {}
    pair: tuple[str, Sensitive[int]] | None = None
    line: Line | None = None
    note: Note | None = None
    point: Point | None = None
    names: Names | None = None
    either: Annotated[Address | Line | None, Field()] = None
    anything: Any = None
    secret: Sensitive[Any] = None
    vip: Sensitive[bool] = False
    color: Sensitive[Color] = Color.RED
    nickname: Sensitive[str] = "none"


def _marked(value: dict[str, Any]) -> list[object]:
    found: list[object] = []

    def look(shape: Shape, leaf: Any) -> Any:
        if shape.marked:
            found.append(leaf)
        return leaf

    assert Shape.of(Person).rebuilt(value, look) == value
    return found


ADDRESS = {"street": "s", "city": "c"}


@pytest.mark.parametrize(
    ("value", "marked"),
    [
        ({"id": "i", "e-mail": "a@b.de", "born": "1980-01-02", "phone": "12"}, ["a@b.de", "1980-01-02", "12"]),
        ({"home": ADDRESS, "former": [ADDRESS], "by_room": {"x": ADDRESS}}, ["s", "s", "s"]),
        ({"hidden": ADDRESS}, ["s", "c"]),
        ({"friends": {"ann": 3}, "tags": {"k": "v"}}, ["ann", "v"]),
        ({"pair": ["a", 1], "point": ["p", 1.5], "names": ["n", "m"]}, [1, 1.5, "n", "m"]),
        ({"line": {"product": "p", "engraving": "e"}, "note": {"by": "b", "text": "t"}}, ["e", "b"]),
        ({"either": {"engraving": "e", "product": "p", "street": "s", "more": "m"}}, ["e", "s", "m"]),
        ({"anything": {"a": [1]}, "secret": {"b": [2, {"c": None}]}}, ["b", 2, "c", None]),
        ({"vip": True, "color": "blue", "nickname": "bo"}, [True, "blue", "bo"]),
        ({"nickname": "none", "born": None}, []),
        # Who is no VIP must not be told by that alone being left as it is.
        ({"vip": False, "color": "red"}, [False, "red"]),
        ({"unknown": {"u": ["v"]}, "home": {"nobody": "knows", "city": "c"}}, ["u", "v", "knows"]),
    ],
)
def test_marks_are_found_wherever_they_are(value: dict[str, Any], marked: list[object]) -> None:
    """In nested models, arrays, mappings and their keys, unions, roots; a default is no secret, an unknown field is."""
    assert marked == _marked(value)


def test_every_leaf_and_every_key_of_a_mapping_can_be_replaced() -> None:
    """What is rebuilt keeps its form; names of fields stay, keys of mappings do not."""
    value = {"by_room": {"hall": ADDRESS}, "former": [ADDRESS], "anything": {"k": [1]}}
    assert Shape.of(Person).rebuilt(value, lambda _, leaf: f"<{leaf}>") == {
        "by_room": {"<hall>": {"street": "<s>", "city": "<c>"}},
        "former": [{"street": "<s>", "city": "<c>"}],
        "anything": {"<k>": ["<1>"]},
    }


def test_a_place_knows_what_it_accepts_and_whether_its_choices_are_few() -> None:
    """A token must be valid where the value was; bools, enums and literals have all their values in the contract."""
    shapes: dict[str, Shape] = {}
    Shape.of(Person).rebuilt(
        {"e-mail": "a", "born": "1980-01-02", "vip": True, "color": "blue"},
        lambda shape, _: shapes.setdefault(shape.name, shape),
    )
    assert shapes["e-mail"].accepts("b" * 40, "a")
    assert not shapes["e-mail"].accepts("b" * 41, "a")
    assert not shapes["born"].accepts("redacted", "1980-01-02")
    assert shapes["born"].accepts("1981-01-02", "1980-01-02")
    # What never was valid there binds nobody.
    assert shapes["born"].accepts("redacted", "long ago")
    assert shapes["vip"].choices() == (False, True)
    assert shapes["color"].choices() == ("red", "blue")
    assert shapes["e-mail"].choices() == ()


def test_the_path_in_a_complaint_quotes_no_key_that_is_data() -> None:
    """A place inside a mapping is told by the field's name and a star."""
    paths: list[str] = []

    def look(shape: Shape, leaf: Any) -> Any:
        paths.append(shape.path)
        return leaf

    Shape.of(Person).rebuilt({"by_room": {"ann": ADDRESS}}, look)
    assert paths == ["Person.by_room (a key)", "Person.by_room.*.street", "Person.by_room.*.city"]


class Family(BaseModel):
    head: Relative
    members: list[Relative] = Field(default_factory=list)


class Relative(BaseModel):
    name: Sensitive[str]
    of: Family | None = None


def test_marks_of_models_that_are_defined_later_are_found() -> None:
    """A model that mentions a later one, or itself, is completed before it is looked at."""
    marked: list[str] = []

    def look(shape: Shape, leaf: Any) -> Any:
        if shape.marked:
            marked.append(leaf)
        return leaf

    Shape.of(Family).rebuilt({"head": {"name": "a", "of": {"head": {"name": "b"}}}, "members": [{"name": "c"}]}, look)
    assert marked == ["a", "b", "c"]


def test_a_mark_changes_no_schema() -> None:
    """The same contract with and without marks has the same JSON Schema, nested marks too."""

    class Marked(Event, type="person.seen"):
        """Seen."""

        name: Sensitive[str]
        home: dict[str, list[Sensitive[int]]]
        way: Annotated[Literal["by_train"] | None, SENSITIVE] = None

    marked = Marked

    class Unmarked(Event, type="person.seen"):
        """Seen."""

        name: str
        home: dict[str, list[int]]
        way: Literal["by_train"] | None = None

    assert {**schema_of(Unmarked), "title": "Marked"} == schema_of(marked)
