"""Replaying one instance: what means the same is the same, and what differs is told for what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from contracts.message import Command
from orchestrator import PIVOT, Delay, Parallel, Retry, Saga, Start, Step, Wait, days, hours, seconds
from orchestrator.catalog import Catalog
from orchestrator.replay.recorded import Recorded
from orchestrator.replay.replaying import Kind, replay
from orchestrator.saga.inputs import Action
from orchestrator.saga.story import LONGEST_TRACEBACK
from tests.unit.journey import journey
from tests.unit.recording import Recording
from tests.unit.replayed import ask, completed, difference, found, recording
from tests.unit.work import (
    Approved,
    Begun,
    Done,
    Refused,
    Undone,
    Withdrawn,
    Work,
    cancel_on_withdrawal,
    finished,
    pivot,
    step,
    work_saga,
)

# -- the same ------------------------------------------------------------------------------------------------


def test_unchanged_code_gives_the_same_transitions() -> None:
    """There and back, with deadlines, late answers and a person."""
    back = recording()
    back.answer("stock", Done())
    back.answer("money", Refused())
    back.answer("stock", Undone())
    late = recording()
    late.deadlines(3)
    late.answer("stock", Done(), nth=0)
    late.deadlines(10)
    late.person(Action.RESOLVE, "stock")
    for play, number in ((completed(), 5), (back, 4), (late, 16)):
        replayed = replay(play.recorded, Catalog([journey()]))
        assert (replayed.transitions, replayed.difference) == (number, None)
        assert (replayed.id, replayed.name, replayed.version, replayed.key) == (play.id, "work", 1, "7")


def test_waits_delays_and_parallel_steps_replay() -> None:
    """A definition of another shape."""

    def shape() -> Saga[Work]:
        return work_saga(
            Parallel(step("left"), step("right")),
            Wait(Approved, key=lambda event: event.id, timeout=hours(1)),
            Delay(days(1), name="pause"),
            pivot("ship"),
        )

    play = recording(shape())
    play.answer("right", Done())
    play.answer("left", Done())
    play.event(Approved(id=7))
    play.deadline()
    play.answer("ship", Done())
    assert difference(play, shape()) is None
    longer = work_saga(
        Parallel(step("left"), step("right")),
        Wait(Approved, key=lambda event: event.id, timeout=hours(2)),
        Delay(days(2), name="pause"),
        pivot("ship"),
    )
    assert found(play, longer) == (3, Kind.DEADLINE, "work.approved waits for 2 h instead of 1 h")


def _raising(error: Callable[[], Exception]) -> Saga[Work]:
    def told(data: Work, event: Done) -> Work:
        raise error()

    return work_saga(step("stock", on_success=told), pivot("ship"))


def _raising_elsewhere(error: Callable[[], Exception]) -> Saga[Work]:
    def made() -> Exception:
        return error()

    def told(data: Work, event: Done) -> Work:
        problem = made()
        raise problem

    return work_saga(step("stock", on_success=told), pivot("ship"))


def test_a_traceback_is_compared_by_what_was_raised() -> None:
    """The lines of the code move with every edit; the exception and its message say what went wrong."""
    play = recording(_raising(lambda: ValueError("no data for 7")))
    play.answer("stock", Done())
    assert play.status == "stuck"
    assert difference(play, _raising_elsewhere(lambda: ValueError("no data for 7"))) is None
    assert found(play, _raising(lambda: ValueError("no data for 8"))) == (
        2,
        Kind.BECOMES_STUCK,
        "would become stuck for another reason: ValueError: no data for 8",
    )
    assert found(play, _raising(lambda: KeyError("no data for 7")))[1] is Kind.BECOMES_STUCK
    assert found(play, work_saga(step("stock"), pivot("ship"))) == (
        2,
        Kind.NO_LONGER_STUCK,
        "no longer becomes stuck (ValueError: no data for 7)",
    )


class BadValueError(ValueError):
    """Told by its bare name, like an exception that Python itself has."""


BadValueError.__module__ = "builtins"


def _fails(saga: Saga[Any]) -> Recording:
    play = recording(saga)
    play.answer("stock", Done())
    assert play.status == "stuck"
    return play


def test_an_exception_whose_line_ends_like_anothers_is_another() -> None:
    """By its name, or by what the message says in a line of its own."""
    play = _fails(_raising(lambda: BadValueError("x")))
    assert found(play, _raising(lambda: ValueError("x"))) == (
        2,
        Kind.BECOMES_STUCK,
        "would become stuck for another reason: ValueError: x",
    )
    assert difference(play, _raising_elsewhere(lambda: BadValueError("x"))) is None
    quoting = _fails(_raising(lambda: RuntimeError("it said\nValueError: x")))
    assert found(quoting, _raising(lambda: ValueError("x")))[1] is Kind.BECOMES_STUCK
    assert difference(quoting, _raising_elsewhere(lambda: RuntimeError("it said\nValueError: x"))) is None


@pytest.mark.parametrize("length", [3700, 3900, 3981, 3982, 3983, 3984, 3985, 3986, 3987, 3988, 3989, 3990, 5000])
def test_an_error_that_filled_what_is_kept_of_a_traceback_is_the_same(length: int) -> None:
    """What was cut off is the beginning: frames, then the exception's own name."""

    def cut(saga: Saga[Any]) -> Recorded:
        recorded = _fails(saga).recorded
        line = recorded.transitions[1]
        (fact,) = json.loads(line.facts)
        kept = fact["reason"][-LONGEST_TRACEBACK:]
        told = replace(line, facts=json.dumps([fact | {"reason": kept}], separators=(",", ":")))
        return replace(recorded, reason=kept, transitions=(recorded.transitions[0], told))

    play = cut(_raising(lambda: BadValueError("x" * length)))
    assert difference(play, _raising_elsewhere(lambda: BadValueError("x" * length))) is None
    assert found(play, _raising(lambda: BadValueError("x" * length + "y")))[1] is Kind.BECOMES_STUCK


def test_a_stuck_saga_that_a_person_has_freed_replays() -> None:
    """The reason that is kept is the recorded one, whatever the traceback would look like now."""
    play = recording(_raising(lambda: ValueError("no data")))
    play.answer("stock", Done())
    play.person(Action.COMPENSATE)
    play.answer("stock", Undone())
    assert play.status == "compensated"
    assert difference(play, _raising_elsewhere(lambda: ValueError("no data"))) is None


class DoGently(Command[Done, Refused], type="work.do"):
    """The same command, which has gained a field."""

    step: str
    seen: tuple[str, ...]
    gently: bool = False


class Labor(Work):
    """The same data, which has gained one."""

    priority: int = 3


def _gained(*, gently: bool = False, priority: int = 3) -> Saga[Labor]:
    def do(data: Labor) -> DoGently:
        return DoGently(step="stock", seen=data.log, gently=gently)

    return Saga(
        name="work",
        version=1,
        data=Labor,
        starts_on=Start(Begun, lambda event: Labor(id=event.id, priority=priority), key=lambda event: event.id),
        steps=(Step("stock", do, kind=PIVOT),),
        on_completed=finished,
    )


def test_a_field_with_a_default_that_came_later_means_the_same() -> None:
    """In the data and in a command: reading the old text gives the same value."""
    play = recording(work_saga(pivot("stock")))
    play.answer("stock", Done())
    assert difference(play, _gained()) is None
    assert found(play, _gained(gently=True)) == (1, Kind.COMMAND_FIELD, "work.do carries gently, which is new")
    assert found(play, _gained(priority=4)) == (1, Kind.DATA, "the data has priority, which is new")


def test_a_field_that_is_gone_is_a_difference() -> None:
    """What was kept and is not kept any more."""
    play = recording(_gained())
    assert found(play, work_saga(pivot("stock"))) == (
        1,
        Kind.COMMAND_FIELD,
        "work.do carries no gently any more; the data has no priority any more",
    )


# -- not accepted, stuck -------------------------------------------------------------------------------------


def test_a_wait_that_is_gone_is_a_step_that_is_gone() -> None:
    """Where it began."""
    with_wait = work_saga(step("stock"), Wait(Approved, key=lambda event: event.id), pivot("ship"))
    play = recording(with_wait)
    play.answer("stock", Done())
    play.event(Approved(id=7))
    play.answer("ship", Done())
    assert found(play, journey())[:2] == (2, Kind.STEP_REMOVED)


class Insist(Command[Done, Undone], type="work.do"):
    """The same command, which may be refused with another event."""

    step: str
    seen: tuple[str, ...]


def insist(data: Work) -> Insist:
    """Ask for it."""
    return Insist(step="stock", seen=data.log)


def test_an_answer_that_its_contract_does_not_allow_any_more_makes_it_stuck() -> None:
    """Known to the process through another step, and no answer to this command."""
    play = recording()
    play.answer("stock", Refused())
    stricter = Step("stock", insist, timeout=seconds(30), retry=Retry(attempts=3, backoff=seconds(2)))
    assert found(play, work_saga(stricter, Step("ship", ask, kind=PIVOT))) == (
        2,
        Kind.BECOMES_STUCK,
        "would become stuck: stock was answered with work.refused (no_time), which its contract does not allow there",
    )


def test_an_event_that_turned_the_saga_back_and_would_be_parked_is_not_accepted() -> None:
    """The saga does not listen for it any more, another one does."""
    play = recording(journey(cancel_on=cancel_on_withdrawal()))
    play.event(Withdrawn(id=7))
    other = journey(name="other", cancel_on=cancel_on_withdrawal())
    assert found(play, journey(), other) == (
        2,
        Kind.NOT_ACCEPTED,
        "would not accept work.withdrawn: it answers no command of this saga",
    )


def test_an_answer_that_came_in_time_and_would_be_late_is_not_accepted() -> None:
    """And the other way round, it is told that it would be accepted."""
    play = recording(journey(cancel_on=cancel_on_withdrawal()))
    for name in ("stock", "money"):
        play.answer(name, Done())
    play.event(Withdrawn(id=7))
    pivot_sent = (4, Kind.OUTCOME)
    earlier = work_saga(step("stock"), step("money"), step("ship"), cancel_on=cancel_on_withdrawal())
    assert found(play, earlier)[:2] == pivot_sent
    assert found(play, earlier)[2] == "would accept work.withdrawn, which came late"
