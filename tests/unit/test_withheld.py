"""What stands for a value that is sealed or erased: it is passed on as it is, and used for nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from contracts import SENSITIVE, Erased, Personal, Sealed, Sensitive, Withheld
from contracts.withheld import ERASED, Unopened, for_people
from orchestrator import changed
from orchestrator.cli.changes import Change, changes
from orchestrator.cli.editing import difference

TOKEN = {"$sealed": "1", "type": "shop.ordered", "field": "email", "key": "k-1", "nonce": "AAAA", "data": "BBBB"}
SEALED = Sealed("shop.ordered", "email", "k-1", "AAAA", "BBBB")
GONE = {"$sealed": "1", "erased": True}


class Person(BaseModel):
    """Somebody, marked in every way."""

    name: Personal[str]
    age: Personal[int] = 0
    phone: Annotated[str | None, Field(max_length=5), SENSITIVE] = None
    friends: list[Personal[str]] = []
    extra: Sensitive[dict[str, Any]] = {}
    street: str = ""


def test_a_marked_field_takes_a_token_and_gives_it_back() -> None:
    """What is read from JSON, copied and written again is the same token."""
    text = (
        '{"name":{"$sealed":"1","type":"shop.ordered","field":"email","key":"k-1","nonce":"AAAA","data":"BBBB"},'
        '"age":{"$sealed":"1","erased":true},"phone":"12345","friends":["Bo",{"$sealed":"1","erased":true}],'
        '"extra":{"$sealed":"1","erased":true},"street":"Elm"}'
    )
    person = Person.model_validate_json(text)
    assert (person.name, person.age, person.phone) == (SEALED, ERASED, "12345")
    assert person.friends == ["Bo", ERASED]
    assert isinstance(person.name, Sealed)
    assert isinstance(person.age, Erased)
    assert text == person.model_dump_json()
    assert text == copy.deepcopy(person).model_dump_json()
    assert person == Person.model_validate(person.model_dump())


def test_a_field_that_is_not_marked_takes_no_token() -> None:
    """What is sealed cannot get where nobody expects it."""
    with pytest.raises(ValidationError, match=r"street\n  Input should be a valid string"):
        Person.model_validate({"name": "Ada", "street": TOKEN})
    with pytest.raises(ValidationError, match=r"street\n  Input should be a valid string"):
        Person(name="Ada", street=SEALED)


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ({"$sealed": "2"}, "is not '1'"),
        (TOKEN | {"more": "x"}, "a token has type, field, key, nonce, data"),
        ({name: value for name, value in TOKEN.items() if name != "key"}, "a token has type"),
        (TOKEN | {"data": 3}, "data is no text"),
        (TOKEN | {"data": ""}, "data is no text"),
        (TOKEN | {"key": "x" * 101}, "key is no text of 1 to 100"),
        (TOKEN | {"nonce": "a b"}, "base64url"),
        (GONE | {"key": "k"}, "a token has type"),
    ],
    ids=["newer", "more", "less", "number", "empty", "long", "letters", "both"],
)
def test_what_is_no_token_is_refused(token: dict[str, Any], why: str) -> None:
    """What claims to be sealed and is not of our form is no value either."""
    with pytest.raises(ValidationError, match=why):
        Person.model_validate({"name": token})


@pytest.mark.parametrize("value", [SEALED, ERASED], ids=["sealed", "erased"])
def test_nothing_can_be_done_with_what_is_withheld(value: Any) -> None:
    """Whoever uses it as a value is told what it is, and that it can be passed on."""
    uses: list[Callable[[], object]] = [
        lambda: str(value),
        lambda: f"to {value}",
        lambda: bool(value),
        lambda: len(value),
        lambda: value == "x",
        lambda: value == "",
        lambda: value != 3,
        lambda: value < 3,
        lambda: value + "x",
        lambda: "x" + value,
        lambda: value.casefold().strip(),
        lambda: value[0],
        lambda: "x" in value,
        lambda: list(value),
        lambda: int(value),
    ]
    for use in uses:
        with pytest.raises(Unopened, match="only pass it on as it is"):
            use()


def test_what_is_withheld_can_be_told_from_nothing_and_from_another() -> None:
    """A saga may see whether there is a value, and whether it is the same token."""
    assert (SEALED == None, SEALED != None) == (False, True)  # noqa: E711 - the comparison is what is tried
    assert Sealed("shop.ordered", "email", "k-1", "AAAA", "BBBB") == SEALED
    assert Sealed("shop.ordered", "email", "k-2", "AAAA", "BBBB") != SEALED
    assert len({SEALED, ERASED, Sealed("shop.ordered", "email", "k-1", "AAAA", "BBBB")}) == 2
    assert isinstance(SEALED, Withheld)
    assert (repr(SEALED), repr(ERASED)) == ("<sealed shop.ordered email>", "<erased>")


def test_errors_and_schemas_are_those_of_the_value() -> None:
    """A mark changes neither what a plain value must be nor how it is described."""

    class Plain(BaseModel):
        name: str = Field(pattern="^A", max_length=5)
        note: Annotated[str, Field(pattern="^x*$")] = ""

    class Marked(BaseModel):
        name: Annotated[str, Field(pattern="^A", max_length=5), SENSITIVE]
        note: Annotated[Sensitive[str], Field(pattern="^x*$")] = ""

    plain, marked = Plain.model_json_schema(), Marked.model_json_schema()
    assert plain | {"title": ""} == marked | {"title": ""}
    assert list(plain["properties"]["note"]) == list(marked["properties"]["note"])
    with pytest.raises(ValidationError) as of_plain:
        Plain.model_validate({"name": "Bo", "note": 3})
    with pytest.raises(ValidationError) as of_marked:
        Marked.model_validate({"name": "Bo", "note": 3})
    assert of_plain.value.errors() == of_marked.value.errors()


def test_people_are_shown_a_word() -> None:
    """In what is looked at, a word stands for a token, wherever it lies."""
    assert {"a": ["<sealed>", {"b": "<erased>"}], "c": 1} == for_people({"a": [TOKEN, {"b": GONE}], "c": 1})


def test_what_differs_is_told_by_words() -> None:
    """A token is one value: of what somebody corrects, and of what a fork changes, its parts are not told."""
    other = TOKEN | {"nonce": "CCCC", "data": "DDDD"}
    typed = {"email": other, "to": GONE, "same": TOKEN, "lines": [{"name": "Bo"}]}
    sent = typed | {"lines": [{"name": other}]}
    assert [
        '- email: "<sealed>"',
        '+ email: "<sealed>"',
        '- to: "x"',
        '+ to: "<erased>"',
        '+ lines[0].name: "Bo" (sent sealed)',
    ] == difference({"email": TOKEN, "to": "x", "same": TOKEN}, typed, sent)
    assert ['+ to: "x" (not sent: whom it is about is erased)'] == difference({}, {"to": "x"}, {"to": GONE})
    assert [Change("email", "changed", TOKEN, "x")] == list(changes({"email": TOKEN}, {"email": "x"}))
    (found,) = changed.changes(Person(name="Ada"), Person(name=SEALED))
    assert ("name", "Ada", TOKEN) == (found.path, found.before, found.after)
