"""What people do to an instance, and what becomes of one whose own functions raise."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import Parallel, Retry, hours, seconds
from orchestrator.saga.inputs import DeadlinePassed
from orchestrator.saga.machine import decide, fold, stuck
from orchestrator.saga.state import SagaState, command_id
from tests.unit.play import ACTION, COMPENSATION, Action, Play, Status, Verdict
from tests.unit.work import (
    Amended,
    Approved,
    Begun,
    Do,
    Done,
    Refused,
    Undone,
    Withdrawn,
    Work,
    approval,
    cancel_on_withdrawal,
    pause,
    pivot,
    retriable,
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


# -- retry ---------------------------------------------------------------------------------------------------


def test_retry_sends_what_is_awaited_again() -> None:
    """A command that is not given up yet keeps its id and counts one attempt more."""
    play = started(step("stock"))
    play.person(Action.RETRY)
    first, second = play.commands("stock")
    assert first == second
    assert 2 == play.current.steps["stock"].attempt


def test_retry_of_one_step_leaves_the_others() -> None:
    """Named, only that step's command is sent again."""
    play = started(Parallel(step("flight"), step("hotel")))
    play.person(Action.RETRY, "hotel")
    assert ["do flight", "do hotel", "do hotel"] == play.told()


def test_retry_after_a_breach_of_contract_is_a_new_command() -> None:
    """The participant has answered the old id for good: only a new one makes it work again."""
    play = started(pivot("ship"), retriable("invoice"))
    play.answer("ship", Done())
    play.answer("invoice", Refused())
    play.person(Action.RETRY)
    assert "running" == play.status
    assert command_id(play.id, "invoice", ACTION, 2) == play.sent[-1].id
    play.answer("invoice", Done())
    assert "completed" == play.status


def test_each_retry_of_a_stuck_compensation_is_another_command() -> None:
    """Given up twice and retried twice, three rounds have three ids."""
    play = started(step("stock", compensation_retry=ONCE), step("money"))
    play.answer("stock", Done())
    play.answer("money", Refused())
    for _ in range(2):
        play.deadline()
        assert "stuck" == play.status
        play.person(Action.RETRY)
    ids = [send.id for send in play.commands("stock")]
    assert [command_id(play.id, "stock", COMPENSATION, number) for number in (1, 2, 3)] == ids[1:]
    play.answer("stock", Undone())
    assert "compensated" == play.status


@pytest.mark.parametrize(
    ("stage", "waiting"), [(approval(timeout=None), "approval"), (pause("cool_off", hours(1)), "cool_off")]
)
def test_retry_of_what_sends_nothing_is_refused(stage: Any, waiting: str) -> None:
    """A wait and a delay have no command to send again."""
    play = started(stage, step("stock"))
    expected = f"{waiting} waits for no answer to a command; there is nothing to send again"
    assert expected == refused(play, Action.RETRY)
    assert expected == refused(play, Action.RETRY, waiting)


def test_retry_of_a_step_that_waits_for_nothing_is_refused() -> None:
    """The refusal names the step."""
    play = started(step("stock"), step("money"))
    play.answer("stock", Done())
    assert refused(play, Action.RETRY, "stock") == "stock is not waiting for anything"
    assert refused(play, Action.RETRY, "monkey") == "monkey is not waiting for anything"


# -- skip and resolve ----------------------------------------------------------------------------------------


def test_skip_takes_the_given_answer_as_the_steps_answer() -> None:
    """The answer goes through on_success, and the next step begins."""
    play = started(step("stock"), step("money"))
    play.person(Action.SKIP, "stock", Done(note=" by phone"))
    assert Do(step="money", seen=("stock done by phone",)) == play.sent[-1].message
    assert Verdict.LATE is play.answer("stock", Done()).verdict


def test_skip_of_a_wait_takes_the_given_event() -> None:
    """Somebody else's approval, typed in by a person."""
    play = started(approval(), step("stock"))
    play.person(Action.SKIP, "approval", Approved(id=7, by="dora"))
    assert ("approved by dora",) == play.current.data.log
    assert ["do stock"] == play.told()


def test_skip_needs_no_answer_where_nobody_would_read_it() -> None:
    """A step without on_success and a delay go on without one."""
    play = started(step("stock", on_success=None), pause("cool_off", hours(1)), step("money"))
    play.person(Action.SKIP, "stock")
    play.person(Action.SKIP, "cool_off")
    assert ["do stock", "do money"] == play.told()


def test_skip_says_which_answer_it_needs() -> None:
    """Without the answer, or with another one, the saga's own function could not go on."""
    play = started(step("stock"), step("money"))
    assert refused(play, Action.SKIP, "stock") == "stock needs an answer of type work.done to go on"
    assert refused(play, Action.SKIP, "stock", Refused()) == "stock takes an answer of type work.done, not work.refused"
    waiting = started(approval(), step("stock"))
    assert refused(waiting, Action.SKIP, "approval") == "approval needs an answer of type work.approved to go on"
    delayed = started(pause("cool_off", hours(1)), step("stock"))
    assert refused(delayed, Action.SKIP, "cool_off", Done()) == "cool_off takes no answer, not work.done"


def test_skip_of_what_is_not_awaited_is_refused() -> None:
    """Steps that are over, not begun, or on their way back have no answer to give."""
    play = started(step("stock"), step("money"))
    play.answer("stock", Done())
    assert refused(play, Action.SKIP, "stock", Done()) == "stock is not waiting for an answer"
    assert refused(play, Action.SKIP, None, Done()) == "no step is not waiting for an answer"
    play.answer("money", Refused())
    assert refused(play, Action.SKIP, "stock", Done()) == "stock is not waiting for an answer"


def test_resolve_says_that_a_step_was_done_by_hand() -> None:
    """It succeeds with the data as it is."""
    play = started(step("stock"), step("money"))
    play.person(Action.RESOLVE, "stock")
    assert Do(step="money", seen=()) == play.sent[-1].message


def test_resolve_says_that_a_compensation_was_done_by_hand() -> None:
    """A stuck compensation that a person has done is done, and the way back goes on."""
    play = started(step("stock"), step("money", compensation_retry=ONCE), step("mail"))
    play.answer("stock", Done())
    play.answer("money", Done())
    play.answer("mail", Refused())
    play.deadline()
    assert "stuck" == play.status
    play.person(Action.RESOLVE, "money")
    assert (Status.COMPENSATING, "undo stock") == (play.status, play.told()[-1])
    assert Verdict.LATE is play.answer("money", Undone()).verdict


def test_resolve_of_what_is_not_awaited_is_refused() -> None:
    """There is nothing to resolve in a step that is over."""
    play = started(step("stock"), step("money"))
    play.answer("stock", Done())
    assert refused(play, Action.RESOLVE, "stock") == "stock is not waiting for anything"
    assert refused(play, Action.RESOLVE) == "no step is not waiting for anything"


# -- back, and the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [Action.COMPENSATE, Action.CANCEL])
def test_a_person_turns_it_back(action: Action) -> None:
    """Also from where it is stuck: the step that nobody could answer is in doubt and undone first."""
    play = started(step("stock"), step("money"))
    play.answer("stock", Done())
    play.answer("money", Undone())
    assert "stuck" == play.status
    play.person(action)
    assert {"stock": "succeeded", "money": "compensating"} == play.steps
    assert play.current.reason == f"{action.value} by bea: she knows"


@pytest.mark.parametrize("action", [Action.COMPENSATE, Action.CANCEL])
def test_turning_back_twice_is_refused(action: Action) -> None:
    """It is going back already, stuck on the way or not."""
    play = started(step("stock", compensation_retry=ONCE))
    play.person(action)
    assert refused(play, action) == "the saga is compensating already"
    play.deadline()
    assert "stuck" == play.status
    assert refused(play, action) == "the saga is compensating already"


def test_abandoning_ends_it_as_it_is() -> None:
    """No command leaves, and nothing is announced."""
    play = started(step("stock"))
    play.person(Action.ABANDON)
    assert (Status.ABANDONED, "bea: she knows", None) == (play.status, play.current.reason, play.current.deadline)
    assert ["do stock"] == play.told()


@pytest.mark.parametrize("action", list(Action))
def test_nothing_can_be_done_to_a_saga_that_does_not_exist(action: Action) -> None:
    """A person's action never brings an instance into being."""
    play = Play(work_saga(step("stock")))
    assert refused(play, action, "stock") == "the saga has not started; there is nothing to act on"


# -- several decisions to make -------------------------------------------------------------------------------


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


def test_deciding_about_one_step_leaves_it_stuck_for_the_other() -> None:
    """What was given up is not sent again by itself, so the instance never looks as if it went on without it."""
    play = two_given_up()
    reason = play.current.reason
    play.person(Action.RESOLVE, "hotel")
    assert (Status.STUCK, reason) == (play.status, play.current.reason)
    assert {"flight": "compensating", "hotel": "compensated", "money": "refused"} == play.steps
    play.person(Action.RETRY, "flight")
    assert "compensating" == play.status
    play.answer("flight", Undone())
    assert "compensated" == play.status
    assert play.state == fold(None, play.facts)


def test_retrying_another_step_sends_it_and_stays_stuck() -> None:
    """Its answer is parked until the given-up step is decided too."""
    play = two_given_up()
    play.person(Action.RETRY, "hotel")
    assert (Status.STUCK, "undo hotel") == (play.status, play.told()[-1])
    assert Verdict.PARKED is play.answer("hotel", Undone()).verdict
    play.person(Action.RETRY)
    play.answer("hotel", Undone())
    play.answer("flight", Undone())
    assert "compensated" == play.status


def test_a_step_given_up_while_another_is_stuck_waits_its_turn() -> None:
    """Time stands still for a stuck instance; what fell due meanwhile is looked at when it goes on."""
    play = two_given_up()
    play.now += hours(1)
    assert Verdict.DUPLICATE is play.take(DeadlinePassed(play.now)).verdict
    play.person(Action.RESOLVE, "flight")
    play.deadline()
    assert (Status.STUCK, "the compensation of hotel was sent 1 times and never answered") == (
        play.status,
        play.current.reason,
    )


def test_two_compensations_given_up_at_once_are_decided_one_after_the_other() -> None:
    """The reason shown is that of the first; the second says its own when the first has been decided."""
    play = started(
        Parallel(step("flight", compensation_retry=ONCE), step("hotel", compensation_retry=ONCE)), step("money")
    )
    play.answer("flight", Done())
    play.answer("hotel", Done())
    play.answer("money", Refused())
    play.deadline()
    assert "the compensation of flight was sent 1 times and never answered" == play.current.reason
    play.person(Action.RESOLVE, "flight")
    play.deadline()
    assert "the compensation of hotel was sent 1 times and never answered" == play.current.reason


# -- functions that raise ------------------------------------------------------------------------------------


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
    assert refused(play, Action.CANCEL) == "the saga has not started; there is nothing to undo"
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
