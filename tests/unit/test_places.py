"""Contracts with a subject: which of their places are sealed, what opens there, and what cannot be sealed."""

from __future__ import annotations

from collections.abc import Iterable
from types import GenericAlias
from typing import Annotated, Any, NamedTuple, Never
from uuid import UUID

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializeAsAny,
    computed_field,
    field_serializer,
    model_serializer,
)
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from contracts import SENSITIVE, Carried, Command, Event, InvalidMessage, Registry, Sensitive, Upcaster
from contracts.freeze import breaks, schema_of
from contracts.places import Misplaced, cannot_hold, check_tokens, misplaced, places, sealed_for
from tests.unit.mailing import Mailing, Ordered, ReceiptRefused, SendReceipt

ORDER = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"


def _token(wire_type: str, field: str) -> dict[str, str]:
    return {"$sealed": "1", "type": wire_type, "field": field, "key": "k", "nonce": "n", "data": "d"}


class Folder(BaseModel):
    """Holds others."""

    title: Sensitive[str]
    inside: list[Folder] = []


class Moved(Event, type="t.moved", subject="who"):
    """Written before what it mentions."""

    who: Number
    home: Home
    who_else: list[Sensitive[str]]


Number = int


class Home(BaseModel):
    """Where somebody lives."""

    street: Sensitive[str]


class Pair(NamedTuple):
    """Two values, of which one is marked."""

    open: str
    marked: Sensitive[str]


class Street(BaseModel):
    """What others write in ways of their own."""

    name: Sensitive[str]


class Label(Street):
    """Written as a text."""

    @model_serializer
    def text(self) -> str:
        return str(self.name)


class Parcelled(BaseModel):
    """Has one of its fields written as a text."""

    street: Street

    @field_serializer("street")
    def text(self, street: Street) -> str:
        return str(street.name)


@dataclass
class Renamed:
    """Called otherwise in JSON."""

    name: Annotated[Sensitive[str], Field(serialization_alias="nom")]


class RenamedToo(TypedDict):
    """The same."""

    name: Annotated[Sensitive[str], Field(alias="nom")]


class More(BaseModel):
    """Takes fields that it does not know."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Sensitive[str]] = Field(init=False)


class Computed(BaseModel):
    """Tells the same once more."""

    name: Sensitive[str]

    @computed_field(alias="whole")  # type: ignore[prop-decorator]
    @property
    def whole_name(self) -> Sensitive[str]:
        return f"Prof. {self.name}"


class Old(BaseModel):
    """One of two models of a place."""

    name: str


class New(BaseModel):
    """The other."""

    name: Sensitive[str]


def test_the_marked_places_of_a_contract_are_sealed() -> None:
    """Each by its path; `None` and the subject are not."""
    assert ["email", "phone", "parcels.*.recipient"] == [each.path for each in sealed_for(Ordered)]
    assert ["to"] == [each.path for each in sealed_for(SendReceipt)]
    assert () == sealed_for(ReceiptRefused)
    root = places(Ordered)
    assert root is not None
    given = {
        "customer_id": "c-1",
        "email": "a@b.c",
        "phone": None,
        "parcels": [{"weight": 3, "recipient": "Bo"}, {"weight": 4, "recipient": "Cy"}],
    }
    assert root.rebuilt(given, lambda place, value: f"{place.path}={value}") == {
        "customer_id": "c-1",
        "email": "email=a@b.c",
        "phone": None,
        "parcels": [
            {"weight": 3, "recipient": "parcels.*.recipient=Bo"},
            {"weight": 4, "recipient": "parcels.*.recipient=Cy"},
        ],
    }


def test_a_subject_may_be_marked_and_is_not_sealed() -> None:
    """Exports can redact it; whoever opens the rest must read it."""

    class Seen(Event, type="t.seen", subject="who"):
        who: Sensitive[str]
        what: Sensitive[str]

    class Only(Event, type="t.only", subject="who"):
        who: Sensitive[str]

    assert ["what"] == [each.path for each in sealed_for(Seen)]
    assert places(Only) is None


def test_names_in_json_lead_to_one_place() -> None:
    """A field is found under its alias too, and its place is called as the field is."""

    class Aliased(Event, type="t.aliased", subject="who"):
        who: str
        mail: Sensitive[str] = Field(alias="e-mail")
        by_day: dict[str, list[Sensitive[str]]]

    root = places(Aliased)
    assert root is not None
    assert {"who": "w", "e-mail": "mail", "by_day": {"mon": ["by_day.*.*"]}} == root.rebuilt(
        {"who": "w", "e-mail": "x", "by_day": {"mon": ["y"]}}, lambda place, _: place.path
    )


@pytest.mark.parametrize(
    ("kind", "given", "sealed"),
    [
        (Renamed, {"name": "Ada"}, {"nom": "a.name"}),
        (RenamedToo, {"nom": "Ada"}, {"nom": "a.name"}),
        (More, {"nom": "Ada"}, {"nom": "a.*"}),
        (Computed, {"name": "Ada"}, {"name": "a.name", "whole": "a.whole_name"}),
    ],
    ids=["dataclass", "typed dict", "extra", "computed"],
)
def test_whatever_is_written_of_what_is_marked_is_sealed(kind: Any, given: object, sealed: object) -> None:
    """Also under another name, of a field that nobody has declared, and of what is made of others."""
    fields = {"__annotations__": {"who": str, "a": kind}, "__module__": __name__}
    message: Any = type("Told", (Event,), fields, type="t.told", subject="who")
    root = places(message)
    assert root is not None
    written = message.model_validate({"who": "w", "a": given}).model_dump(mode="json", by_alias=True)
    assert {"who": "w", "a": sealed} == root.rebuilt(written, lambda place, _: place.path)


def test_a_contract_made_of_another_is_about_the_same_person() -> None:
    """A newer version that does not repeat the subject is sealed as the older one; a subject without a type is none."""

    class First(Event, type="t.made", subject="who"):
        who: str
        a: Sensitive[str]

    class Second(First, type="t.made", version=2):
        b: Sensitive[str]

    assert ["a", "b"] == [each.path for each in sealed_for(Second)]
    with pytest.raises(TypeError, match="subject='who' belongs to a class with a wire type"):

        class Kind(Event, subject="who"):
            who: str


def test_a_marked_key_is_refused_also_where_the_class_is_complete_later() -> None:
    """At the latest by whoever seals it first: a key travels in the open."""

    class Early(Event, type="t.early", key="a", subject="who"):
        who: str
        a: Sensitive[str]
        later: Later  # type: ignore[name-defined]  # noqa: F821

    Early.model_rebuild(_types_namespace={"Later": Street})
    with pytest.raises(TypeError, match="key='a' is marked"):
        places(Early)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"who": str | None, "a": Sensitive[str]}, "a str, a UUID or an int, and never None"),
        ({"who": float, "a": Sensitive[str]}, "a str, a UUID or an int"),
        ({"who": str, "a": dict[Sensitive[str], int]}, "keys of a mapping cannot be sealed"),
        ({"who": str, "a": tuple[str, Sensitive[str]]}, "a may be several things"),
        ({"who": str, "a": Pair}, "a may be several things"),
        ({"who": str, "a": Old | New}, "a may be several things, and name in it is not marked alike"),
        ({"who": str, "a": list[Old] | list[New]}, "a may be several things, and something in it"),
        ({"who": str, "a": Folder}, "Folder holds others of its kind"),
        ({"who": str, "a": Annotated[str, SENSITIVE, Field(max_length=3)]}, "what checks the value comes after"),
        ({"who": str, "a": Label}, "a is written by a serializer of its own"),
        ({"who": str, "a": Parcelled}, "a.street is written by a serializer of its own"),
        ({"who": str, "a": Annotated[Street, PlainSerializer(str)]}, "a is written by a serializer of its own"),
        ({"who": str, "a": SerializeAsAny[Old]}, "a is written by .* or as more than its type says"),
        ({"who": str, "a": Iterable[Sensitive[str]]}, "a: nobody knows where in a"),
        ({"a": Sensitive[str]}, "subject='who' is not one of its fields"),
    ],
    ids=[
        "none",
        "float",
        "keys",
        "tuple",
        "named",
        "union",
        "lists",
        "recursive",
        "after",
        "label",
        "field",
        "plain",
        "any",
        "iterable",
        "missing",
    ],
)
def test_what_cannot_be_sealed_is_refused_where_it_is_written(fields: dict[str, Any], why: str) -> None:
    """A contract says what is wrong with it, and how to mend it, when its class is made."""
    with pytest.raises(TypeError, match=why):
        type("Wrong", (Event,), {"__annotations__": fields, "__module__": __name__}, type="t.wrong", subject="who")


def test_a_contract_that_mentions_what_comes_later_is_sealed_all_the_same() -> None:
    """Its places are looked for when they are needed, once it knows what it mentions."""
    assert ["home.street", "who_else.*"] == [each.path for each in sealed_for(Moved)]


def test_nobody_hides_whose_a_message_is_nor_what_it_follows() -> None:
    """A token in the place of a marked subject or key is refused where it is read: nobody can make a text of it."""

    class About(Event, type="t.about", subject="who"):
        who: Sensitive[str]
        what: Sensitive[str]

    class After(Event, type="t.after", key="who"):
        who: Sensitive[str]

    registry = Registry([About, After])
    for kind, place in ((About, "subject"), (After, "key")):
        for token in (_token(kind.wire_type, "who"), {"$sealed": "1", "erased": True}):
            with pytest.raises(InvalidMessage, match=f"its {place}, who, is sealed"):
                registry.parse(kind.wire_type, 1, {"who": token, "what": "x"})


def test_a_broken_token_is_refused_also_where_a_message_takes_no_notice_of_it() -> None:
    """Under another name of a field, or in a computed one: whoever opens the rest would stumble over it."""

    class Noticed(Event, type="t.noticed", subject="who"):
        who: str
        mail: Sensitive[str] = Field(alias="e-mail")

        @computed_field  # type: ignore[prop-decorator]
        @property
        def domain(self) -> Sensitive[str]:
            return "example.com"

    registry = Registry([Noticed])
    good = {"who": "w", "e-mail": "x"}
    for name in ("mail", "domain"):
        assert isinstance(registry.parse("t.noticed", 1, good | {name: _token("t.noticed", name)}), Noticed)
        for broken in ({"key": None}, {"nonce": 3}, {"more": "x"}):
            with pytest.raises(InvalidMessage, match=f"t.noticed {name}: a token"):
                registry.parse("t.noticed", 1, good | {name: _token("t.noticed", name) | broken})


def test_what_is_sealed_orders_nothing() -> None:
    """A key that is marked, where the contract has a subject, is refused."""
    with pytest.raises(TypeError, match="key='mail' is marked"):

        class Wrong(Event, type="t.wrong", key="mail", subject="who"):
            who: str
            mail: Sensitive[str]


def test_a_token_opens_where_it_was_sealed_or_where_it_is_carried() -> None:
    """In any other field, and in any other message, it is refused before anybody has a key in hand."""
    given: dict[str, Any] = {"order_id": ORDER, "customer_id": "c"}
    assert misplaced(Ordered, given | {"email": _token("shop.ordered", "email")}) is None
    assert misplaced(SendReceipt, given | {"to": _token("shop.ordered", "email")}) is None
    assert misplaced(SendReceipt, given | {"to": {"$sealed": "1", "erased": True}}) is None
    for kind, data in (
        (Ordered, {"email": _token("shop.ordered", "phone")}),
        (Ordered, {"email": _token("mail.send_receipt", "email")}),
        (Ordered, {"parcels": [{"weight": 1, "recipient": _token("shop.ordered", "email")}]}),
        (SendReceipt, {"to": _token("shop.ordered", "phone")}),
    ):
        told = misplaced(kind, given | data)
        assert told is not None
        assert (
            "does not open there; where it may be passed on to it, say so: Annotated[Sensitive[...], Carried(" in told
        )
    with pytest.raises(InvalidMessage, match=r"what was sealed for shop.ordered phone does not open there"):
        Registry([SendReceipt]).parse("mail.send_receipt", 1, given | {"to": _token("shop.ordered", "phone")})


def test_a_contract_without_a_subject_carries_nothing_sealed() -> None:
    """There is nobody whose key would open it."""

    class Plain(Command[ReceiptRefused, Never], type="t.plain"):
        note: Sensitive[str]

    with pytest.raises(Misplaced, match=r"t\.plain names no subject"):
        check_tokens(Plain, '{"note":{"$sealed":"1","erased":true}}')
    check_tokens(Plain, '{"note":"plain"}')


def test_data_says_whether_it_can_hold_what_is_sealed() -> None:
    """What checks a value after its mark would be asked of a token."""

    class Careless(BaseModel):
        name: Annotated[Sensitive[str], Field(max_length=3)]

    class Deep(BaseModel):
        folder: Folder
        ages: dict[Sensitive[str], int] = {}

    assert cannot_hold(Mailing) is None
    assert cannot_hold(Deep) is None
    told = cannot_hold(Careless)
    assert told is not None
    assert "Careless: name cannot hold what is sealed" in told


def test_upcasters_wait_where_a_message_is_opened_later() -> None:
    """What they were written for is a value; who passes tokens on has them run on tokens."""

    class First(Event, type="t.named", subject="who"):
        who: str
        name: Sensitive[str]

    class Second(Event, type="t.named", version=2, subject="who"):
        who: str
        first: Sensitive[str]

    registry = Registry([], [Upcaster(First, Second, lambda old: Second(who=old.who, first=old.name.split()[0]))])
    sealed = {"who": "c", "name": _token("t.named", "name")}
    assert isinstance(registry.opened_later().parse("t.named", 1, sealed), First)
    with pytest.raises(InvalidMessage, match="cannot be asked for its split"):
        registry.parse("t.named", 1, sealed)
    for each in (registry, registry.opened_later()):
        assert Second(who="c", first="Ada") == each.parse("t.named", 1, {"who": "c", "name": "Ada L"})


def test_schemas_say_what_is_sealed_and_may_begin_to() -> None:
    """A published contract may get a subject; to change or to lose it would leave what is sealed unopened."""

    class Before(Event, type="t.same", key="id"):
        id: UUID
        who: str
        name: Sensitive[str]

    class After(Event, type="t.same", key="id", subject="who"):
        id: UUID
        who: str
        name: Sensitive[str]

    before, after = schema_of(Before), schema_of(After)
    assert {"kind": "event", "key": "id"} == before["x-amends"]
    assert {"kind": "event", "key": "id", "subject": "who", "sealed": ["name"]} == after["x-amends"]
    assert before["properties"] == after["properties"]
    assert [] == breaks(before, before | {"x-amends": after["x-amends"]})
    assert ['x-amends.subject was "who" and is not there'] == [
        each for each in breaks(after, after | {"x-amends": before["x-amends"]}) if "subject" in each
    ]


def test_a_new_field_may_be_sealed_at_once_and_no_old_one() -> None:
    """Older readers take no notice of a field they do not know, and no token where they have none."""

    class Box(BaseModel):
        name: Sensitive[str]
        size: str = ""

    class BoxToo(BaseModel):
        name: Sensitive[str]
        size: str = ""
        phone: Sensitive[str] = ""

    class BoxMarked(BaseModel):
        name: Sensitive[str]
        size: Sensitive[str] = ""

    class BoxOpen(BaseModel):
        name: str
        size: str = ""

    def of(box: Any, **fields: Any) -> dict[str, Any]:
        said = {
            "__annotations__": {"who": str, "boxes": GenericAlias(list, box)} | fields,
            "__module__": __name__,
            "more": None,
        }
        return schema_of(type("Boxed", (Event,), said, type="t.boxed", subject="who"))

    before = of(Box, more=str | None)
    assert [] == breaks(before, of(BoxToo, more=str | None))
    assert ["boxes.*.size was not sealed and is, but older readers take no tokens there"] == [
        each for each in breaks(before, of(BoxMarked, more=str | None)) if "sealed" in each
    ]
    assert ["more was not sealed and is, but older readers take no tokens there"] == breaks(
        before, of(Box, more=Annotated[str | None, SENSITIVE])
    )
    assert ["boxes.*.name was sealed and is not, so what is under way does not open"] == breaks(
        before, of(BoxOpen, more=str | None)
    )


def test_what_is_carried_to_a_field_goes_on_to_open_there() -> None:
    """More may be, also later; less would leave what is under way unopened."""

    def of(*carried: Carried) -> dict[str, Any]:
        mail: Any = Annotated[str, SENSITIVE, *carried]
        said = {"__annotations__": {"who": str, "mail": mail}, "__module__": __name__}
        return schema_of(type("Carrying", (Event,), said, type="t.carrying", subject="who"))

    one, other = Carried("t.first", "mail"), Carried("t.other", "mail")
    assert {"mail": ["t.first mail", "t.other mail"]} == of(other, one)["x-amends"]["carried"]
    assert [] == breaks(of(), of(one)) + breaks(of(one), of(other, one))
    assert ["t.other mail was carried to mail and is not, so what is under way does not open"] == breaks(
        of(other, one), of(one)
    )
