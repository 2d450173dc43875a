"""What becomes of an instance whose own functions raise, and of what comes in while it is stuck."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import Parallel, Retry, hours, seconds
from orchestrator.saga.inputs import DeadlinePassed, ReadFailed
from orchestrator.saga.machine import decide, fold, stuck
from orchestrator.saga.state import SagaState
from tests.unit.play import Action, Play, Status, Verdict
from tests.unit.work import (
    Amended,
    Begun,
    Done,
    Refused,
    Undone,
    Withdrawn,
    Work,
    cancel_on_withdrawal,
    pause,
    step,
    work_saga,
)

ONCE = Retry(attempts=1)


def started(*steps: Any, **options: Any) -> Play:
    """An instance that has just started."""
    play = Play(work_saga(*steps, **options))
    play.event(Begun(id=7))
    return play


def refused(play: Play, action: Action, step: str | None = None, answer: Any = None) -> str:
    """The reason why a person's action is not possible now, which must leave no trace."""
    before, facts, sent = play.state, list(play.facts), list(play.sent)
    transition = play.person(action, step, answer)
    assert Verdict.REFUSED is transition.verdict
    assert (before, facts, sent) == (play.state, play.facts, play.sent)
    return transition.note


def two_given_up() -> Play:
    """An instance two of whose compensations were given up."""
    impatient: dict[str, Any] = {"compensation_retry": ONCE}
    play = started(
        Parallel(step("flight", **impatient), step("hotel", timeout=seconds(60), **impatient)),
        step("money"),
    )
    play.answer("flight", Done())
    play.answer("hotel", Done())
    play.answer("money", Refused())
    play.deadline()
    return play


class Moody:
    """Its `done` raises while it is in a bad mood."""

    def __init__(self) -> None:
        self.bad = True

    def done(self, data: Work, event: Done) -> Work:
        """Raise or not."""
        if self.bad:
            raise ZeroDivisionError("on_success divides by zero")
        return data.told(f"{event.wire_type}!")


def test_what_a_function_raises_goes_to_the_caller() -> None:
    """`decide` hides no error of the saga's own code."""
    play = started(step("stock", on_success=Moody().done))
    with pytest.raises(ZeroDivisionError):
        play.answer("stock", Done())


def test_a_raising_function_makes_it_stuck_and_keeps_the_event() -> None:
    """The event is parked, and applied again once the code is mended and a person says retry."""
    mood = Moody()
    play = started(step("stock", on_success=mood.done), step("money"))
    answer = play.arrival(Done(), play.sent[0].id)
    assert Verdict.PARKED is play.fails(answer, "ZeroDivisionError: on_success divides by zero").verdict
    assert (Status.STUCK, "ZeroDivisionError: on_success divides by zero") == (play.status, play.current.reason)
    assert Verdict.PARKED is play.take(answer).verdict
    mood.bad = False
    play.person(Action.RETRY)
    assert "running" == play.status
    assert Verdict.APPLIED is play.take(answer).verdict
    assert {"stock": "succeeded", "money": "running"} == play.steps
    assert play.state == fold(None, play.facts)


def test_a_failing_start_is_stuck_and_can_be_retried() -> None:
    """Even an instance that could not begin is there to be seen, and begins when it is retried."""
    play = Play(work_saga(step("stock")))
    start = play.arrival(Begun(id=7))
    assert Verdict.PARKED is play.fails(start).verdict
    assert (Status.STUCK, False) == (play.status, play.current.started)
    assert play.event(Begun(id=7)).note == "the saga is stuck at its start"
    assert refused(play, Action.COMPENSATE) == "the saga has not started; there is nothing to undo"
    play.person(Action.RETRY)
    assert Verdict.APPLIED is play.take(start).verdict
    assert {"stock": "running"} == play.steps


def test_a_failing_start_can_be_abandoned() -> None:
    """Then its start, parked and tried again, is a duplicate."""
    play = Play(work_saga(step("stock")))
    start = play.arrival(Begun(id=7))
    play.fails(start)
    play.person(Action.ABANDON)
    assert Verdict.DUPLICATE is play.take(start).verdict
    assert "abandoned" == play.status


def test_a_deadline_that_raises_is_tried_again_after_retry() -> None:
    """Nothing is lost with the deadline: what was due still is."""
    play = started(pause("cool_off", hours(1)), step("stock"))
    given = DeadlinePassed(play.now + hours(1))
    assert Verdict.APPLIED is play.fails(given).verdict
    assert (Status.STUCK, None) == (play.status, play.current.deadline)
    play.person(Action.RETRY)
    play.deadline()
    assert {"cool_off": "succeeded", "stock": "running"} == play.steps


def test_going_back_is_resumed_as_going_back() -> None:
    """Stuck on the way back, it goes on backward."""
    play = started(step("stock"), step("money"))
    play.answer("stock", Done())
    play.answer("money", Refused())
    play.fails(play.arrival(Undone(), play.sent[-1].id))
    play.person(Action.RETRY)
    assert (Status.COMPENSATING, "undo stock") == (play.status, play.told()[-1])


def test_what_could_not_be_read_is_stuck_until_it_is_retried() -> None:
    """With the reason, without a deadline; then it goes on as it was going, whatever that was."""
    play = started(step("stock"), step("money"))
    play.answer("stock", Done())
    play.answer("money", Refused())
    play.take(ReadFailed(play.now, "no such field"))
    assert (Status.STUCK, "no such field", None) == (play.status, play.current.reason, play.current.deadline)
    assert Verdict.PARKED is play.answer("stock", Undone()).verdict
    play.person(Action.RETRY)
    assert (Status.COMPENSATING, "money was refused: work.refused (no_time)") == (play.status, play.current.reason)
    assert play.told()[-2:] == ["undo stock", "undo stock"]


@pytest.mark.parametrize("action", [Action.ABANDON, None])
def test_what_waits_for_a_person_or_has_ended_cannot_get_stuck_by_being_unreadable(action: Action | None) -> None:
    """There is nothing to save it from, and its reason stays."""
    play = two_given_up()
    if action is not None:
        play.person(action)
    before = play.state
    transition = play.take(ReadFailed(play.now, "no such field"))
    assert (Verdict.DUPLICATE, (), before) == (transition.verdict, transition.facts, play.state)


def test_an_error_while_stuck_is_a_refusal() -> None:
    """A person's action that raises in a stuck instance changes nothing and says why."""
    play = two_given_up()
    transition = stuck(play.state, play.arrival(Done()), "ValueError: no such hotel")
    assert (Verdict.REFUSED, (), "ValueError: no such hotel") == (
        transition.verdict,
        transition.facts,
        transition.note,
    )


def test_what_it_was_doing_survives_getting_stuck_twice() -> None:
    """Two reasons on top of each other do not make it forget which way it was going."""
    play = two_given_up()
    state = fold(play.state, stuck(None, play.arrival(Done()), "again").facts)
    assert (Status.STUCK, Status.COMPENSATING) == (state.status, state.before)


@pytest.mark.parametrize(
    "saga",
    [
        work_saga(step("stock", on_success=lambda data, event: None)),
        work_saga(step("stock", on_success=lambda data, event: event)),
    ],
)
def test_a_function_that_returns_no_data_is_an_error(saga: Any) -> None:
    """The error names the saga, what was returned and what should have been."""
    play = Play(saga)
    play.event(Begun(id=7))
    with pytest.raises(TypeError, match=r"a function of Saga\('work', version=1\) returned .* instead of Work"):
        play.answer("stock", Done())


def test_a_begin_that_returns_no_data_is_an_error() -> None:
    """It would look like an instance that never started."""
    saga = work_saga(step("stock"))
    nothing: Any = None
    saga.starts_on.begin = lambda _: nothing
    play = Play(saga)
    with pytest.raises(TypeError, match="returned None instead of Work"):
        decide(saga, play.id, None, play.arrival(Begun(id=7)))


def test_a_cancellation_that_came_while_stuck_is_applied_when_it_goes_on() -> None:
    """Parked, it is heeded after the retry."""
    play = started(step("stock"), cancel_on=cancel_on_withdrawal())
    play.answer("stock", Undone())
    assert Verdict.PARKED is play.event(Withdrawn(id=7)).verdict
    play.person(Action.RETRY)
    play.event(Withdrawn(id=7))
    play.answer("stock", Undone())
    assert Amended(log=("withdrawn",)) == play.sent[-1].message


def test_an_empty_history_is_an_instance_that_has_not_started() -> None:
    """Folding nothing gives the state before the start."""
    state = fold(None, ())
    assert SagaState() == state
    assert (False, None, ()) == (state.started, state.deadline, state.current)
