"""What people do to an instance: retry, skip, resolve, compensate, cancel, abandon, reschedule."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from orchestrator import CONTINUE, Cancel, Parallel, Retry, hours, seconds
from orchestrator.saga.inputs import DeadlinePassed, PersonActed
from orchestrator.saga.machine import Transition, fold
from orchestrator.saga.state import command_id
from tests.unit.play import ACTION, COMPENSATION, NOON, Action, Play, Status, Verdict
from tests.unit.work import (
    Amended,
    Approved,
    Begun,
    Do,
    Done,
    Refused,
    Undone,
    Withdrawn,
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
    assert (
        refused(waiting, Action.SKIP, "approval", Approved(id=8))
        == "the work.approved that was given is for another instance: its key is not this one's"
    )
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


def test_a_person_turns_it_back() -> None:
    """Also from where it is stuck: the step that nobody could answer is in doubt and undone first."""
    play = started(step("stock"), step("money"))
    play.answer("stock", Done())
    play.answer("money", Undone())
    assert "stuck" == play.status
    play.person(Action.COMPENSATE)
    assert {"stock": "succeeded", "money": "compensating"} == play.steps
    assert play.current.reason == "compensate by bea: she knows"


def test_a_person_cancels_as_the_sagas_own_event_would() -> None:
    """What the event says goes into the data, so that the announcement of the end knows it: no compensation by hand
    does that.
    """
    play = started(step("stock"), cancel_on=cancel_on_withdrawal())
    play.person(Action.CANCEL, None, Withdrawn(id=7))
    assert (Status.COMPENSATING, "cancel by bea: she knows") == (play.status, play.current.reason)
    play.answer("stock", Undone())
    assert Amended(log=("withdrawn",)) == play.sent[-1].message


def test_a_person_cancels_a_stuck_saga() -> None:
    """The event itself would only be parked."""
    play = started(step("stock"), cancel_on=cancel_on_withdrawal())
    play.answer("stock", Undone())
    assert Verdict.PARKED is play.event(Withdrawn(id=7)).verdict
    play.person(Action.CANCEL, None, Withdrawn(id=7))
    assert (Status.COMPENSATING, "undo stock") == (play.status, play.told()[-1])


def test_canceling_needs_no_event_where_nobody_would_read_it() -> None:
    """A cancel_on without on_event only turns back."""
    play = started(step("stock"), cancel_on=Cancel(Withdrawn, key=lambda event: event.id))
    play.person(Action.CANCEL)
    assert "compensating" == play.status


def test_canceling_says_what_it_needs() -> None:
    """A cancellation the saga knows, its event, of the right type and for this instance."""
    assert (
        refused(started(step("stock")), Action.CANCEL)
        == "the saga knows no cancellation (it has no cancel_on); compensate turns it back"
    )
    play = started(step("stock"), cancel_on=cancel_on_withdrawal())
    assert refused(play, Action.CANCEL) == "to be canceled it needs an event of type work.withdrawn"
    assert (
        refused(play, Action.CANCEL, None, Done()) == "it is canceled by an event of type work.withdrawn, not work.done"
    )
    assert (
        refused(play, Action.CANCEL, None, Withdrawn(id=8))
        == "the work.withdrawn that was given is for another instance: its key is not this one's"
    )


@pytest.mark.parametrize("action", [Action.COMPENSATE, Action.CANCEL])
def test_turning_back_twice_is_refused(action: Action) -> None:
    """It is going back already, stuck on the way or not."""
    play = started(step("stock", compensation_retry=ONCE), cancel_on=cancel_on_withdrawal())
    play.person(action, None, Withdrawn(id=7))
    assert refused(play, action, None, Withdrawn(id=7)) == "the saga is compensating already"
    play.deadline()
    assert "stuck" == play.status
    assert refused(play, action, None, Withdrawn(id=7)) == "the saga is compensating already"


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


# -- time ----------------------------------------------------------------------------------------------------


def rescheduled(play: Play, step: str | None, due: datetime | None) -> Transition:
    """A person moves a deadline."""
    return play.take(PersonActed(play.now, Action.RESCHEDULE, "bea", "she knows", step, due=due))


def not_rescheduled(play: Play, step: str | None, due: datetime | None) -> str:
    """The reason why a deadline cannot be moved, which must leave no trace."""
    before = play.state
    transition = rescheduled(play, step, due)
    assert (Verdict.REFUSED, before) == (transition.verdict, play.state)
    return transition.note


def test_a_deadline_can_be_put_off() -> None:
    """Nothing is sent when the old one comes; when the new one does, all is as it would have been."""
    play = started(step("stock", timeout=seconds(30), retry=ONCE), step("money"))
    rescheduled(play, "stock", NOON + hours(2))
    assert NOON + hours(2) == play.current.deadline
    assert Verdict.DUPLICATE is play.take(DeadlinePassed(NOON + hours(1))).verdict
    play.deadline()
    assert {"stock": "compensating"} == play.steps
    assert play.state == fold(None, play.facts)


def test_a_deadline_in_the_past_is_due_at_once() -> None:
    """Whoever does not want to wait says so."""
    play = started(approval(timeout=hours(5), on_timeout=CONTINUE), step("stock"))
    rescheduled(play, "approval", NOON - hours(3))
    assert NOON == play.current.deadline
    play.deadline()
    assert {"approval": "skipped", "stock": "running"} == play.steps


def test_a_revoked_deadline_never_comes() -> None:
    """The command is not sent again and not given up; its answer goes on as ever."""
    play = started(step("stock", retry=ONCE), step("money"))
    rescheduled(play, "stock", None)
    assert (Status.RUNNING, None, ("stock",)) == (play.status, play.current.deadline, play.current.current)
    assert Verdict.DUPLICATE is play.take(DeadlinePassed(NOON + hours(1000))).verdict
    play.answer("stock", Done())
    assert {"stock": "succeeded", "money": "running"} == play.steps
    assert play.current.deadline is not None


def test_a_revoked_deadline_is_no_command_given_up() -> None:
    """Another decision about the instance does not make it stuck, and a retry sends the same command again."""
    play = started(Parallel(step("flight"), step("hotel")))
    rescheduled(play, "flight", None)
    play.person(Action.RETRY, "hotel")
    assert "running" == play.status
    play.person(Action.RETRY, "flight")
    first, second = play.commands("flight")
    assert first == second
    assert play.current.steps["flight"].due is not None


def test_a_wait_without_end_can_be_given_one() -> None:
    """And turns the saga back then, where it says so."""
    play = started(step("stock"), approval(timeout=None))
    play.answer("stock", Done())
    rescheduled(play, "approval", NOON + hours(1))
    play.deadline()
    assert {"stock": "compensating", "approval": "skipped"} == play.steps


def test_a_compensation_and_a_delay_have_deadlines_too() -> None:
    """What is awaited on the way back is put off alike, and a delay ends when a person says."""
    play = started(step("stock", compensation_retry=ONCE), step("money"))
    play.answer("stock", Done())
    play.answer("money", Refused())
    rescheduled(play, "stock", NOON + hours(9))
    assert NOON + hours(9) == play.current.deadline
    delayed = started(pause("cool_off", hours(8)), step("stock"))
    rescheduled(delayed, "cool_off", NOON + hours(1))
    delayed.deadline()
    assert (NOON + hours(1), {"cool_off": "succeeded", "stock": "running"}) == (delayed.now, delayed.steps)


def test_a_pivot_is_put_off_and_still_never_given_up() -> None:
    """Its command is sent again later, that is all."""
    play = started(pivot("ship", retry=ONCE))
    rescheduled(play, "ship", NOON + hours(1))
    play.deadline()
    assert ["do ship", "do ship"] == play.told()


def test_no_deadline_that_turns_back_is_given_after_the_pivot() -> None:
    """A wait that would compensate then can only wait."""
    play = started(pivot("ship"), approval(timeout=None), retriable("invoice"))
    play.answer("ship", Done())
    assert (
        not_rescheduled(play, "approval", NOON + hours(1))
        == "approval would turn the saga back then, but the pivot 'ship' has begun: it can only wait"
    )


def test_a_deadline_is_moved_only_where_one_runs() -> None:
    """Not of a step that is over or unknown, not to where it is, not while the saga is stuck."""
    play = started(step("stock", timeout=seconds(30), retry=ONCE), step("money", compensation_retry=ONCE))
    assert not_rescheduled(play, "stock", NOON + seconds(30)) == "stock is due then already"
    assert not_rescheduled(play, None, None) == "no step is not waiting for anything"
    play.answer("stock", Done())
    assert not_rescheduled(play, "stock", None) == "stock is not waiting for anything"
    rescheduled(play, "money", None)
    assert not_rescheduled(play, "money", None) == "money has no deadline already"
    play.answer("money", Undone())
    assert (
        not_rescheduled(play, "money", NOON + hours(1))
        == "the saga is stuck, and no deadline runs until somebody has decided what it is stuck for"
    )
    play.person(Action.ABANDON)
    assert not_rescheduled(play, "money", None) == "the saga is abandoned; nothing can change it"


def test_what_a_persons_action_raises_is_a_refusal() -> None:
    """They are there to be told: the instance, running or stuck, stays as it is."""
    play = started(step("stock"))
    given = PersonActed(play.now, Action.SKIP, "bea", "she knows", "stock", Done())
    assert Verdict.REFUSED is play.fails(given).verdict
    assert "running" == play.status


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
    assert (Status.STUCK, "the compensation of hotel was sent once and never answered") == (
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
    assert "the compensation of flight was sent once and never answered" == play.current.reason
    play.person(Action.RESOLVE, "flight")
    play.deadline()
    assert "the compensation of hotel was sent once and never answered" == play.current.reason
