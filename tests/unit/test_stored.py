"""Before a deploy: what is stored and would not fit the contracts of this checkout."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, model_validator

from contracts.message import Event
from contracts.registry import Registry
from orchestrator import Saga, Start, Step
from orchestrator.preflight import stored
from tests.unit.journey import journey
from tests.unit.recording import waiting
from tests.unit.work import (
    Begun,
    Do,
    Work,
)


class Paid(Event, type="work.paid"):
    """As it was when it was stored."""

    amount: int
    note: str = ""


def in_history(event_class: type[Event], written: dict[str, Any]) -> list[tuple[str, str]]:
    """What is said of a history whose first input is this event."""
    play = waiting()
    first = play.recorded.transitions[0]
    given = json.loads(first.input) | {"type": "work.paid", "version": 1, "data": written}
    line = replace(first, input=json.dumps(given), commands="[]")
    recorded = replace(play.recorded, transitions=(line,))
    return [(each.type, each.sentence) for each in stored.in_history(recorded, Registry([event_class]))]


@pytest.mark.parametrize(
    ("torn", "sentence"),
    [
        ({"input": '{"kind": "ev'}, "EOF while parsing a string at line 1 column 12"),
        ({"input": "[]"}, "an input is no JSON object"),
        ({"input": '{"type": "work.begun", "version": "one", "data": {}}'}, "a message without type, version or data"),
        ({"input": '{"type": "work.begun", "version": 1}'}, "a message without type, version or data"),
        ({"commands": ""}, "EOF while parsing a value at line 1 column 0"),
        ({"commands": "{}"}, "what was sent is no JSON list"),
        ({"commands": '["work.do"]'}, "a message without type, version or data"),
        ({"commands": '[{"version": 1, "data": {}}]'}, "a message without type, version or data"),
    ],
)
def test_a_torn_history_is_trouble_and_the_rest_is_read(torn: dict[str, str], sentence: str) -> None:
    """The transition is named, and nothing behind it is left unread."""
    play = waiting()
    first, second, *_ = play.recorded.transitions
    unknown = replace(second, input=second.input.replace("work.done", "work.gone"), commands="[]")
    recorded = replace(play.recorded, transitions=(replace(first, **torn), unknown))  # type: ignore[arg-type]
    found = [(each.row, each.sentence) for each in stored.in_history(recorded, Registry([Begun]))]
    assert found == [
        (f"{play.id} #1", f"transition 1 cannot be read: {sentence}"),
        (f"{play.id} #2", "work.gone is not a message this process knows"),
    ]


@pytest.mark.parametrize("data", ["", "{", '{"id": 7', "[]", "7"])
def test_torn_data_is_trouble(data: str) -> None:
    """Said of the instance, whose definition cannot go on with it."""
    (found,) = stored.in_data(replace(waiting().recorded, data=data), journey())
    assert (found.where, found.sentence.startswith("the data does not fit Work: ")) == ("saga", True)


class Picky(Work):
    """Data whose own validator expects what not every instance has."""

    @model_validator(mode="before")
    @classmethod
    def picky(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Raises KeyError."""
        return values | {"id": values["number"]}


def test_data_that_a_validator_chokes_on_is_trouble() -> None:
    """Whatever it raises: it is the row that does not fit."""
    picky = Saga(
        name="work",
        version=1,
        data=Picky,
        starts_on=Start(Begun, picked, key=lambda event: event.id),
        steps=(Step("stock", do_picky),),
    )
    found = [each.sentence for each in stored.in_data(waiting().recorded, picky)]
    assert found == ["the data does not fit Picky: 'number'"]


def do_picky(data: Picky) -> Do:
    """The action of its only step."""
    return Do(step="stock", seen=data.log)


def picked(event: Begun) -> Picky:
    """The first data."""
    return Picky.model_validate({"number": event.id})


class Less(BaseModel):
    """The saga's data without its log."""

    model_config = ConfigDict(frozen=True)

    id: int


def less(event: Begun) -> Less:
    """The first data."""
    return Less(id=event.id)


def do_less(_: Less) -> Do:
    """The action of its only step."""
    return Do(step="stock", seen=())


def make(**fields: Any) -> type[Event]:
    """Another shape of work.paid."""
    annotations = {name: type(value) if value is not ... else str for name, value in fields.items()}
    space = {name: value for name, value in fields.items() if value is not ...}
    return type("Paid", (Event,), {"__annotations__": annotations, **space}, type="work.paid")


def test_what_reads_as_it_was_written_is_no_trouble() -> None:
    """Nor is a field that came later and has a default."""
    assert in_history(Paid, {"amount": 5, "note": "x"}) == []
    assert in_history(Paid, {"amount": 5}) == []


@pytest.mark.parametrize(
    ("event_class", "sentence"),
    [
        (make(amount=0), "work.paid v1: note is stored and has no place in the contract any more"),
        (make(amount=0, note="", who=...), "work.paid v1: who: Field required"),
        (make(amount="", note=""), "work.paid v1: amount: Input should be a valid string"),
        (make(amount=0.5, note=""), "work.paid v1: amount is read as something else (int, now float)"),
    ],
    ids=["a field gone", "a field required", "a type changed", "a number read otherwise"],
)
def test_what_does_not_fit_its_contract_is_named(event_class: type[Event], sentence: str) -> None:
    """By wire type and field, without the values."""
    assert in_history(event_class, {"amount": 5, "note": "x"}) == [("work.paid", sentence)]


def test_a_type_nobody_knows_any_more_is_trouble_in_a_history() -> None:
    """A history must be readable for as long as it is kept."""
    assert in_history(Begun, {"amount": 5}) == [("work.paid", "work.paid is not a message this process knows")]


def test_saga_data_that_would_lose_a_field_is_trouble() -> None:
    """The next transition would write the row without it."""
    smaller = Saga(
        name="work",
        version=1,
        data=Less,
        starts_on=Start(Begun, less, key=lambda event: event.id),
        steps=(Step("stock", do_less),),
    )
    found = [each.sentence for each in stored.in_data(waiting().recorded, smaller)]
    assert found == ["log is stored and has no place in the contract any more"]


BODY = (
    '{"specversion":"1.0","id":"01a207e9-785f-73e8-bba0-f41537ca759a","source":"s","type":"%s",'
    '"time":"2026-03-01T12:00:00Z","dataversion":%d,"data":%s}'
)


@pytest.mark.parametrize(
    ("body", "ours", "sentence"),
    [
        (BODY % ("work.paid", 1, '{"amount":5,"extra":1}'), False, None),
        (BODY % ("work.paid", 1, '{"amount":5,"extra":1}'), True, "extra is stored and has no place"),
        (BODY % ("work.paid", 2, '{"amount":5}'), False, "work.paid v2 is not known here, only v1"),
        (BODY % ("work.paid", 1, "{}"), False, "work.paid v1: amount: Field required"),
        (BODY % ("stranger.spoke", 1, "{}"), False, None),
        (
            "{",
            False,
            "cannot be read: no JSON: Expecting property name enclosed in double quotes at character 1 (in the body)",
        ),
    ],
    ids=["foreign field", "own field", "version", "schema", "not ours", "no JSON"],
)
def test_bodies_that_wait_must_be_readable(body: str, ours: bool, sentence: str | None) -> None:
    """What others wrote must parse; what we wrote must also lose nothing."""
    found = stored.in_body("outbox", "#1", body, Registry([Paid]), ours=ours)
    if sentence is None:
        assert found is None
    else:
        assert found is not None
        assert sentence in found.sentence
