"""Before a deploy: which instances in flight would notice, and what stored would not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Never, NoReturn

import pytest
from pydantic import BaseModel, ConfigDict, model_validator

from contracts.message import Command, Event
from contracts.registry import Registry
from orchestrator import Delay, Migration, Saga, Start, Step, Wait, hours, seconds
from orchestrator.catalog import Catalog
from orchestrator.preflight import stored
from orchestrator.preflight.instances import Verdict, examine
from orchestrator.saga.fingerprint import describe
from orchestrator.saga.inputs import Action, PersonActed
from tests.unit.journey import journey
from tests.unit.recording import Recording
from tests.unit.work import (
    Approved,
    Begun,
    Do,
    Done,
    Undo,
    Work,
    approval,
    pause,
    pivot,
    retriable,
    step,
    work_saga,
)

FITS, NEEDS, STUCK = (Verdict.COMPATIBLE, ""), Verdict.NEEDS_VERSION, Verdict.GETS_STUCK


def waiting(saga: Saga[Any] | None = None) -> Recording:
    """An instance whose first step has succeeded, and whose second waits for its answer."""
    play = Recording(saga or journey())
    play.event(Begun(id=7))
    play.answer("stock", Done())
    return play


def verdict(play: Recording, *sagas: Saga[Any]) -> tuple[Verdict, str]:
    """What a preflight with these definitions says of it; `before` is the definition it was started with."""
    examined = examine(play.recorded, Catalog(sagas), describe(play.saga))
    return examined.verdict, examined.reason


def changed(**stages: Any) -> Saga[Work]:
    """The journey, with some stages replaced or (None) left out."""
    made = {
        "stock": step("stock", timeout=seconds(30)),
        "money": step("money"),
        "ship": pivot("ship"),
        "invoice": retriable("invoice"),
    } | stages
    return work_saga(*(each for each in made.values() if each is not None))


def raising(_: Work) -> NoReturn:
    """What a typing error does."""
    raise KeyError("totl")


def test_the_same_definition_fits() -> None:
    """Nothing changed: every instance is compatible."""
    assert verdict(waiting(), journey()) == FITS


def test_what_has_not_been_reached_may_change() -> None:
    """A step that lies ahead may come, go, or wait longer: the instance simply takes the new way."""
    ahead = changed(ship=pivot("ship", timeout=seconds(90)), invoice=None, pause=Delay(seconds(5), name="pause"))
    assert verdict(waiting(), ahead) == FITS


def test_a_history_that_reads_differently_needs_a_version() -> None:
    """What it has done already, it would have done differently."""
    found = verdict(waiting(), changed(stock=step("stock", timeout=seconds(45))))
    assert found == (NEEDS, "the answer to attempt 1 of stock's command is awaited for 47 s instead of 32 s")


def test_a_compensation_that_is_lost_needs_a_version() -> None:
    """The history replays identically, and yet the step that has happened would never be undone."""
    found = verdict(waiting(), changed(stock=step("stock", timeout=seconds(30), compensation=None)))
    assert found == (NEEDS, "stock has happened and would not be undone any more: work.undo v1 is not sent")


def test_a_definition_that_is_not_loaded_stands_still() -> None:
    """Nobody would move the instance."""
    found = verdict(waiting(), work_saga(step("stock"), version=2))
    assert found == (STUCK, "work v1 is not loaded here: keep it beside the new one, or migrate")


def test_a_step_that_is_waited_for_must_stay() -> None:
    """Its answer would find nobody."""
    assert verdict(waiting(), changed(money=None)) == (
        STUCK,
        "it waits for money, which is no step of the definition any more",
    )


def test_a_step_must_not_become_a_wait() -> None:
    """The answer to its command is not the event that a wait waits for."""
    assert verdict(waiting(), changed(money=approval("money"))) == (
        STUCK,
        "it waits for an answer to money, which is a wait now",
    )


def test_a_compensation_under_way_must_stay() -> None:
    """Sent again it would raise."""
    play = waiting()
    play.deadlines(3)
    assert play.steps["money"] == "compensating"
    assert verdict(play, changed(money=step("money", compensation=None))) == (
        STUCK,
        "it waits for money to be compensated, which has no compensation any more",
    )


class SignedOff(Event, type="work.signed_off", key="id"):
    """Another way to agree."""

    id: int


class Accepted(Event, type="work.accepted"):
    """Another answer."""


class DoOtherwise(Command[Accepted, Never], type="work.do"):
    """Do, answered otherwise."""

    step: str
    seen: tuple[str, ...]


class UndoOtherwise(Command[Accepted, Never], type="work.undo"):
    """Undo, answered otherwise."""

    step: str
    seen: tuple[str, ...]


def do_otherwise(data: Work) -> DoOtherwise:
    """The same text on the wire as the action of stock."""
    return DoOtherwise(step="stock", seen=data.log)


def undo_otherwise(data: Work) -> UndoOtherwise:
    """The same text on the wire as the compensation of stock."""
    return UndoOtherwise(step="stock", seen=data.log)


def awaiting(*stages: Any) -> Recording:
    """An instance that waits at the first of these."""
    play = Recording(work_saga(*stages))
    play.event(Begun(id=7))
    return play


def signed(key: Any, event: type[Event] = Approved) -> Wait[Work]:
    """The approval, by another event or another key."""
    return Wait(event, key=key, name="approval", timeout=hours(1), on_event=approval().on_event)


def test_what_is_waited_for_must_stay_the_event_it_was() -> None:
    """The event may be under way already, and nobody would take it."""
    other = work_saga(signed(lambda event: event.id, SignedOff), step("stock"))
    assert verdict(awaiting(approval(), step("stock")), other) == (
        NEEDS,
        "it waits at approval for work.approved v1, and would wait for work.signed_off v1",
    )


def test_what_is_waited_for_must_find_its_instance() -> None:
    """Behind the wait, the key may change."""
    play, other = awaiting(approval(), step("stock")), work_saga(signed(lambda event: event.by), step("stock"))
    assert verdict(play, other) == (
        NEEDS,
        "it waits at approval for work.approved v1, which would find it by another key",
    )
    play.event(Approved(id=7))
    assert verdict(play, other) == FITS


@pytest.mark.parametrize(
    ("was", "now", "reason"),
    [
        (approval(), pause("approval", hours(1)), "it waits for approval, which was a wait and is a delay now"),
        (pause("approval", hours(1)), approval(), "it waits for approval, which was a delay and is a wait now"),
        (approval(), step("approval"), "it waits for approval, which sent no command and is a step now"),
    ],
    ids=["a delay", "a wait", "a step"],
)
def test_a_wait_must_not_become_something_else(was: Any, now: Any, reason: str) -> None:
    """What would end the one never ends the other."""
    assert verdict(awaiting(was, step("stock")), work_saga(now, step("stock"))) == (STUCK, reason)


def test_a_wait_that_became_a_step_is_seen_without_its_old_definition() -> None:
    """Its row says that no command was sent."""
    play = awaiting(approval("stock"))
    examined = examine(play.recorded, Catalog([work_saga(step("stock"))]), None)
    assert (examined.verdict, examined.reason) == (STUCK, "it waits for stock, which sent no command and is a step now")


def test_a_step_under_way_keeps_its_answers() -> None:
    """The command is the same text, and its participant answers as it did."""
    play = awaiting(step("stock"))
    other = work_saga(Step("stock", do_otherwise, compensation=step("stock").compensation))
    assert verdict(play, other) == (
        NEEDS,
        "it waits for stock to be answered with work.done v1 or work.refused v1, and would take work.accepted v1",
    )
    # Without the definition as it was written down, it has not changed.
    assert examine(play.recorded, Catalog([other]), None).verdict is Verdict.COMPATIBLE


def test_a_compensation_under_way_keeps_its_answer() -> None:
    """Ahead of it, the answer may change."""
    play, other = awaiting(step("stock")), work_saga(step("stock", compensation=undo_otherwise))
    assert verdict(play, other) == FITS
    play.deadlines(3)
    assert play.steps["stock"] == "compensating"
    assert verdict(play, other) == (
        NEEDS,
        "it waits for the compensation of stock to be answered with work.undone v1, and would take work.accepted v1",
    )


def test_a_step_under_way_keeps_its_place_on_the_way_back() -> None:
    """It would still be answered, but never again be undone."""
    play = awaiting(step("stock", compensation=None))
    assert verdict(play, work_saga(pivot("stock"))) == (
        NEEDS,
        "it waits for stock, which was a compensable step and is a pivot step now",
    )


def test_a_compensation_that_would_raise_is_found_before_it_is_needed() -> None:
    """With the data this instance has, and the place in the user's code."""
    kind, reason = verdict(waiting(), changed(stock=step("stock", timeout=seconds(30), compensation=must_fail)))
    assert kind is STUCK
    assert reason.startswith("stock could not be compensated: KeyError: 'totl' (test_preflight.py:")
    assert reason.endswith(" in raising)")


def must_fail(data: Work) -> Undo:
    """A compensation with a typing error."""
    raising(data)


def test_what_silence_would_do_is_tried() -> None:
    """The functions that run when nobody answers are run, though nothing happens yet."""
    kind, reason = verdict(waiting(), changed(money=step("money", on_in_doubt=raising)))
    assert kind is STUCK
    assert reason.startswith("when the deadline of money passes: KeyError: 'totl' (test_preflight.py:")


def test_data_that_cannot_be_read_stands_still() -> None:
    """A row that a definition's model refuses moves nobody."""
    play = waiting()
    torn = replace(play.recorded, data='{"id": "seven"}')
    examined = examine(torn, Catalog([journey()]), None)
    assert examined.verdict is STUCK
    assert examined.reason.startswith("its row cannot be read: the state of an instance of Saga('work', version=1)")


def test_the_version_that_an_instance_has_left_may_be_gone() -> None:
    """It goes on under the one it was brought to; what it did before is past."""
    old = journey()
    new = work_saga(step("stock"), step("money"), pivot("ship"), version=2, migrations=(Migration(old, same),))
    play = waiting(old)
    play.saga = new
    play.take(PersonActed(play.now, Action.MIGRATE, "bea", "v2", from_version=1, to_version=2))
    assert verdict(play, new) == FITS
    assert verdict(play, old, new) == FITS


def same(data: Work) -> Work:
    """The data is as it was."""
    return data


# -- what is stored ------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("column", ["input", "facts", "commands"])
@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "7", "null", '["x"]', '[{"x": 1}]'])
def test_a_torn_history_in_flight_is_a_verdict(column: str, text: str) -> None:
    """Whatever a text was torn to, the instance is told and the next one is looked at."""
    play = waiting()
    first, *rest = play.recorded.transitions
    torn = replace(first, **{column: text})  # type: ignore[arg-type]
    examined = examine(replace(play.recorded, transitions=(torn, *rest)), Catalog([journey()]), None)
    assert examined.verdict is not Verdict.COMPATIBLE


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
        ("{", False, "cannot be read: the body is"),
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
