"""What people do to an instance: retry, skip, resolve, compensate, cancel, abandon."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import Parallel, Retry, hours, seconds
from orchestrator.saga.inputs import DeadlinePassed
from orchestrator.saga.machine import fold
from orchestrator.saga.state import command_id
from tests.unit.play import ACTION, COMPENSATION, Action, Play, Status, Verdict
from tests.unit.work import (
    Approved,
    Begun,
    Do,
    Done,
    Refused,
    Undone,
    approval,
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
