"""Before a deploy: which instances in flight would notice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Never, NoReturn

import pytest

from contracts.message import Command, Event
from orchestrator import Delay, Migration, Saga, Step, Wait, hours, seconds
from orchestrator.catalog import Catalog
from orchestrator.preflight.instances import Verdict, examine
from orchestrator.saga.fingerprint import describe
from orchestrator.saga.inputs import Action, PersonActed
from tests.unit.journey import journey
from tests.unit.recording import Recording, waiting
from tests.unit.work import (
    Approved,
    Begun,
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


@pytest.mark.parametrize("column", ["input", "facts", "commands"])
@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "7", "null", '["x"]', '[{"x": 1}]'])
def test_a_torn_history_in_flight_is_a_verdict(column: str, text: str) -> None:
    """Whatever a text was torn to, the instance is told and the next one is looked at."""
    play = waiting()
    first, *rest = play.recorded.transitions
    torn = replace(first, **{column: text})  # type: ignore[arg-type]
    examined = examine(replace(play.recorded, transitions=(torn, *rest)), Catalog([journey()]), None)
    assert examined.verdict is not Verdict.COMPATIBLE
