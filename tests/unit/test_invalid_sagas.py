"""Definitions that cannot work are refused when they are made, with what is wrong and how to mend it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Never

import pytest
from pydantic import BaseModel

from contracts.message import Command, Event
from orchestrator import COMPENSATE, CONTINUE, Cancel, InvalidSaga, Parallel, Retry, Saga, Start, Step, minutes, seconds
from orchestrator.saga.steps import Kind
from tests.unit.work import (
    Begun,
    Do,
    Done,
    Must,
    Refused,
    Undo,
    Undone,
    Work,
    approval,
    begin,
    doing,
    done_before,
    must_do,
    pause,
    pivot,
    retriable,
    step,
    undoing,
    work_saga,
)

if TYPE_CHECKING:
    from decimal import Decimal

STEP: Any = Step
"""Step as a program without a type checker sees it."""


class Nameless(Command[Done, Never]):
    """A command without a wire type."""


class Unsaid(Event):
    """An event without a wire type."""


class Vague(Command[Unsaid, Never], type="work.vague"):
    """A command answered by an event without a wire type."""


class Mutable(BaseModel):
    """Data that can be changed in place."""

    id: int = 0


def nameless(data: Work) -> Nameless:
    """Make a command without a wire type."""
    return Nameless()


def vague(data: Work) -> Vague:
    """Make a command with a nameless answer."""
    return Vague()


def puzzling(data: Work) -> Decimal:
    """Say something that cannot be read at run time."""
    raise NotImplementedError


def unspoken(data: Work):  # type: ignore[no-untyped-def]  # what is tested
    """Say nothing."""


def takes_undone(data: Work, event: Undone) -> Work:
    """Take the wrong answer."""
    return data


def announces_work(data: Work) -> Work:
    """Announce something that is no event."""
    return data


def announces_unsaid(data: Work) -> Unsaid:
    """Announce an event without a wire type."""
    return Unsaid()


def saga(**options: Any) -> Saga[Any]:
    """A saga of which everything can be said wrongly."""
    start: Any = Start(Begun, begin, key=lambda event: event.id)
    return Saga(**{"name": "work", "version": 1, "data": Work, "starts_on": start, "steps": (step("stock"),)} | options)


SAGA = "saga 'work' v1"
STOCK = "saga 'work' v1, step 'stock'"

CASES: dict[str, tuple[Callable[[], object], str]] = {
    # the saga itself
    "name": (lambda: saga(name="Work"), "saga 'Work' v1: a saga's name is lower_case, at most 80 characters"),
    "long name": (lambda: saga(name="w" * 81), "a saga's name is lower_case, at most 80 characters"),
    "version": (lambda: saga(version=0), "saga 'work' v0: versions count from 1"),
    "data": (lambda: saga(data=dict), f"{SAGA}: data=<class 'dict'> must be a pydantic model class"),
    "mutable data": (
        lambda: saga(data=Mutable),
        (
            f"{SAGA}: Mutable can be changed in place, which no history would notice; give it "
            "model_config = ConfigDict(frozen=True) and return model_copy(update=...)"
        ),
    ),
    "no steps": (work_saga, f"{SAGA} has no steps; give it at least one"),
    "forgotten comma": (
        lambda: saga(steps=(step("stock"))),
        f"{SAGA}: steps must be a tuple; a single one needs its comma: steps=(Step(...),)",
    ),
    "not a stage": (lambda: work_saga("stock"), f"{SAGA}: 'stock' is no Step, Parallel, Wait or Delay"),
    "twice": (
        lambda: work_saga(step("stock"), Parallel(step("money"), step("stock"))),
        f"{SAGA}: two steps are called 'stock'; history names steps, so rename one",
    ),
    "step name": (
        lambda: work_saga(step("Take Stock")),
        f"{SAGA}: step 'Take Stock': a name is lower_case, at most 80 characters",
    ),
    # events
    "start event": (
        lambda: saga(starts_on=Start(Unsaid, begin, key=str)),  # type: ignore[arg-type]
        f"{SAGA}, starts_on: Unsaid must be an Event with a wire type: class X(Event, type='...')",
    ),
    "start is no event": (
        lambda: saga(starts_on=Start(Do, begin, key=str)),  # type: ignore[arg-type, type-var]
        f"{SAGA}, starts_on: Do must be an Event with a wire type: class X(Event, type='...')",
    ),
    "cancel event": (
        lambda: saga(cancel_on=Cancel(Unsaid, key=str)),
        f"{SAGA}, cancel_on: Unsaid must be an Event with a wire type: class X(Event, type='...')",
    ),
    "start is cancel": (
        lambda: saga(cancel_on=Cancel(Begun, key=str)),
        f"{SAGA}: work.begun is both starts_on and cancel_on; use two event types",
    ),
    "two waits for one event": (
        lambda: work_saga(approval("boss"), approval("board")),
        f"{SAGA}: work.approved is both wait 'boss' and wait 'board'; use two event types",
    ),
    "cancel is an answer": (
        lambda: saga(cancel_on=Cancel(Refused, key=str)),
        f"{SAGA}: work.refused is both cancel_on and an answer to work.do; use two event types",
    ),
    "start is an answer": (
        lambda: saga(starts_on=Start(Undone, lambda _: Work(id=7), key=str)),
        f"{SAGA}: work.undone is both starts_on and an answer to work.undo; use two event types",
    ),
    # what a step is for
    "neither": (
        lambda: work_saga(STEP("stock")),
        f"{STOCK} has neither an action nor a compensation; give it one",
    ),
    "pivot without action": (
        lambda: work_saga(STEP("stock", kind=Kind.PIVOT)),
        f"{STOCK} is pivot but has no action; give it one",
    ),
    "done before, in a group": (
        lambda: work_saga(Parallel(done_before("stock"), step("money"))),
        f"{STOCK} has no action; put it before the Parallel",
    ),
    "done before, with on_success": (
        lambda: work_saga(STEP("stock", compensation=undoing("stock"), on_success=takes_undone)),
        f"{STOCK} has no action, so its on_success would never be called; drop it",
    ),
    "done before, with when": (
        lambda: work_saga(STEP("stock", compensation=undoing("stock"), when=bool)),
        f"{STOCK} has no action, so its when would never be called; drop it",
    ),
    "timeout": (lambda: work_saga(step("stock", timeout=seconds(0))), f"{STOCK}: timeout must be positive"),
    "timeout is a number": (
        lambda: work_saga(step("stock", timeout=30)),
        f"{STOCK}: timeout=30 is no time; write seconds(30)",
    ),
    "attempts": (lambda: Retry(attempts=0), "Retry(attempts=0): a command is sent at least once"),
    "backoff": (lambda: Retry(backoff=seconds(-1)), "Retry: backoff and cap cannot be negative"),
    # pivot and what comes after
    "two pivots": (
        lambda: work_saga(pivot("ship"), pivot("stock")),
        f"{STOCK} is a second pivot beside 'ship'; make it RETRIABLE",
    ),
    "pivot in a group": (
        lambda: work_saga(Parallel(pivot("stock"), step("money"))),
        f"{STOCK}: a pivot stands alone; take it out of the Parallel",
    ),
    "retriable before the pivot": (
        lambda: work_saga(retriable("stock"), pivot("ship")),
        f"{STOCK} is RETRIABLE but no pivot comes before it; mark the point of no return PIVOT",
    ),
    "compensable after the pivot": (
        lambda: work_saga(pivot("ship"), step("stock")),
        (
            f"{STOCK} is compensable but comes after the pivot 'ship', where there is no way back; "
            "make it RETRIABLE or move it before"
        ),
    ),
    "compensated pivot": (
        lambda: work_saga(pivot("stock", compensation=undoing("stock"))),
        f"{STOCK} is pivot and would never be compensated; drop its compensation",
    ),
    "compensated retriable": (
        lambda: work_saga(pivot("ship"), retriable("stock", compensation=undoing("stock"))),
        f"{STOCK} is retriable and would never be compensated; drop its compensation",
    ),
    "pivot in doubt": (
        lambda: work_saga(pivot("stock", on_in_doubt=lambda data: data)),
        f"{STOCK} is pivot, repeated until it is answered; drop its on_in_doubt",
    ),
    "refusable after the pivot": (
        lambda: work_saga(pivot("ship"), STEP("stock", doing("stock"), kind=Kind.RETRIABLE)),
        (
            f"{STOCK}: work.do can be refused (work.refused), which after the pivot nobody could heed; "
            "its contract must say Command[..., Never]"
        ),
    ),
    "refusable compensation": (
        lambda: work_saga(step("stock", compensation=doing("stock"))),
        (
            f"{STOCK}: the compensation work.do can be refused (work.refused); "
            "a compensation's contract must say Command[..., Never]"
        ),
    ),
    # functions
    "lambda as action": (
        lambda: work_saga(STEP("stock", lambda data: Do(step="stock", seen=()))),
        f"{STOCK}: its action <lambda> must be annotated `-> SomeCommand`, not None",
    ),
    "no annotation": (
        lambda: work_saga(STEP("stock", unspoken)),
        f"{STOCK}: its action unspoken must be annotated `-> SomeCommand`, not None",
    ),
    "compensation that is no command": (
        lambda: work_saga(step("stock", compensation=announces_work)),
        f"{STOCK}: its compensation announces_work must be annotated `-> SomeCommand`, not {Work!r}",
    ),
    "unreadable annotation": (
        lambda: work_saga(STEP("stock", puzzling)),
        (
            f"{STOCK}: the annotations of puzzling cannot be read: name 'Decimal' is not defined; "
            "import it at module level, not under TYPE_CHECKING"
        ),
    ),
    "partial": (
        lambda: work_saga(STEP("stock", functools.partial(Undo, step="stock"))),
        "is no plain function; write `def` with its annotations",
    ),
    "command without a name": (
        lambda: work_saga(step("stock", compensation=nameless)),
        f"{STOCK}: Nameless names no wire type: class X(Command[...], type='...')",
    ),
    "answer without a name": (
        lambda: work_saga(step("stock", compensation=vague)),
        f"{STOCK}: Unsaid must be an Event with a wire type: class X(Event, type='...')",
    ),
    "wrong on_success": (
        lambda: work_saga(step("stock", on_success=takes_undone)),
        f"{STOCK}: on_success takes Undone, but the command is answered with Done",
    ),
    "wrong on_failure": (
        lambda: work_saga(step("stock", on_failure=takes_undone)),
        f"{STOCK}: on_failure takes Undone, but the command is answered with Refused",
    ),
    "on_failure of what cannot fail": (
        lambda: work_saga(STEP("stock", must_do("stock"), on_failure=takes_undone)),
        f"{STOCK}: on_failure would never be called: the command has no such answer; drop it",
    ),
    "on_completed": (
        lambda: saga(on_completed=announces_work),
        f"{SAGA}, on_completed: Work must be an Event with a wire type: class X(Event, type='...')",
    ),
    "on_compensated": (
        lambda: saga(on_compensated=announces_unsaid),
        f"{SAGA}, on_compensated: Unsaid must be an Event with a wire type: class X(Event, type='...')",
    ),
    # groups, waits, delays
    "group of one": (
        lambda: work_saga(Parallel(step("stock"))),
        f"{SAGA}: Parallel(stock) needs at least two steps; one needs no Parallel",
    ),
    "wait in a group": (
        lambda: work_saga(Parallel(step("stock"), approval())),  # type: ignore[arg-type]
        f"{SAGA}: Wait cannot be in a Parallel; it takes steps only",
    ),
    "group in a group": (
        lambda: work_saga(Parallel(step("stock"), Parallel(step("a"), step("b")))),  # type: ignore[arg-type]
        f"{SAGA}: Parallel cannot be in a Parallel; it takes steps only",
    ),
    "wait that turns back after the pivot": (
        lambda: work_saga(pivot("ship"), approval("boss", timeout=minutes(1), on_timeout=COMPENSATE)),
        (
            f"{SAGA}, step 'boss' comes after the pivot 'ship', where there is no way back; "
            "give it on_timeout=CONTINUE or no timeout"
        ),
    ),
    "timeout of a wait": (
        lambda: work_saga(approval("boss", timeout=timedelta(0))),
        f"{SAGA}, step 'boss': timeout must be positive",
    ),
    "negative delay": (
        lambda: work_saga(pause("cool_off", seconds(-1))),
        f"{SAGA}, step 'cool_off': a delay cannot be negative",
    ),
    "delay is a number": (
        lambda: work_saga(pause("cool_off", 24)),  # type: ignore[arg-type]
        f"{SAGA}, step 'cool_off': 24 is no time; write hours(24), or a function of the data",
    ),
}


@pytest.mark.parametrize(("build", "message"), CASES.values(), ids=CASES.keys())
def test_an_impossible_saga_is_refused(build: Callable[[], object], message: str) -> None:
    """The refusal says which saga and step, what is wrong, and what to do."""
    with pytest.raises(InvalidSaga) as refusal:
        build()
    assert str(refusal.value).endswith(message)


def test_waits_after_the_pivot_may_go_on_or_last_for_ever() -> None:
    """What is refused there is only the way back."""
    work_saga(pivot("ship"), approval(on_timeout=CONTINUE))
    work_saga(pivot("ship"), approval(timeout=None))


def test_a_definition_knows_what_it_says_and_hears() -> None:
    """Commands, compensations, answers and events are read from the annotations."""
    made = work_saga(done_before("place"), step("stock"), approval(), pivot("ship"), retriable("mail"))
    assert {"stock": Do, "ship": Do, "mail": Must} == made.commands
    assert {"place": Undo, "stock": Undo} == made.compensations
    assert (made.pivot, list(made.stages)) == ("ship", ["place", "stock", "approval", "ship", "mail"])
    assert (Done, Refused, Undone) == made.answers()
    assert ["work.begun", "work.done", "work.refused", "work.undone", "work.approved"] == [
        event.wire_type for event in made.events()
    ]
