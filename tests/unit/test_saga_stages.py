"""Parallel, Wait, Delay, `when`, `cancel_on` and steps done before the start, each by example."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orchestrator import COMPENSATE, CONTINUE, Parallel, Retry, hours, minutes, seconds
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import DeadlinePassed
from orchestrator.saga.machine import fold
from orchestrator.saga.state import command_id
from tests.unit.play import ACTION, Play, Verdict, seconds_from
from tests.unit.work import (
    Amended,
    Approved,
    Begun,
    Do,
    Done,
    Finished,
    Refused,
    Undo,
    Undone,
    Withdrawn,
    Work,
    approval,
    cancel_on_withdrawal,
    done_before,
    pause,
    pivot,
    retriable,
    step,
    work_saga,
)

IMPATIENT: dict[str, Any] = {"timeout": seconds(10), "retry": Retry(attempts=1)}


def started(saga: Saga[Any]) -> Play:
    """An instance that has just started."""
    play = Play(saga)
    play.event(Begun(id=7))
    return play


# -- Parallel ------------------------------------------------------------------------------------------------


def both(**options: Any) -> Saga[Work]:
    """Two steps at once between two others."""
    return work_saga(
        step("stock"),
        Parallel(step("flight"), step("hotel", timeout=seconds(40))),
        step("money"),
        **options,
    )


def at_both(**options: Any) -> Play:
    """An instance whose two parallel commands are out."""
    play = started(both(**options))
    play.answer("stock", Done())
    return play


def test_the_commands_of_a_parallel_leave_together() -> None:
    """One transition sends them all."""
    play = at_both()
    assert ["do stock", "do flight", "do hotel"] == play.told()
    assert ("flight", "hotel") == play.current.current


@pytest.mark.parametrize("order", [("flight", "hotel"), ("hotel", "flight")])
def test_a_parallel_is_joined_on_all(order: tuple[str, str]) -> None:
    """The next step begins when every member has succeeded, in whatever order."""
    play = at_both()
    play.answer(order[0], Done())
    assert 3 == len(play.sent)
    play.answer(order[1], Done())
    assert ["do money"] == play.told(since=3)


def test_when_one_is_refused_the_others_are_let_settle() -> None:
    """Nothing is compensated while a member is still at work; then those that succeeded are, and those before."""
    play = at_both()
    play.answer("flight", Refused())
    assert "running" == play.status
    assert 3 == len(play.sent)
    play.answer("hotel", Done())
    assert "compensating" == play.status
    assert play.current.reason == "flight was refused"
    assert ["undo hotel"] == play.told(since=3)
    play.answer("hotel", Undone())
    play.answer("stock", Undone())
    assert ["undo hotel", "undo stock", "work.amended"] == play.told(since=3)


def test_a_parallel_group_is_compensated_together() -> None:
    """Going back, the whole group is undone at once, and the stage before it when all are undone."""
    play = at_both()
    play.answer("flight", Done())
    play.answer("hotel", Done())
    play.answer("money", Refused())
    assert ["undo flight", "undo hotel"] == play.told(since=4)
    play.answer("hotel", Undone())
    assert ["undo flight", "undo hotel"] == play.told(since=4)
    play.answer("flight", Undone())
    assert ["undo flight", "undo hotel", "undo stock"] == play.told(since=4)


def test_a_member_in_doubt_is_compensated_with_the_rest() -> None:
    """A member that never answered may have happened."""
    play = started(work_saga(Parallel(step("flight", **IMPATIENT), step("hotel", timeout=seconds(40)))))
    play.deadline()
    assert {"flight": "in_doubt", "hotel": "running"} == play.steps
    assert Verdict.LATE is play.answer("flight", Done()).verdict
    play.answer("hotel", Done())
    assert play.current.reason == "flight was never answered"
    assert ["undo flight", "undo hotel"] == play.told(since=2)


def test_all_refused_has_nothing_to_undo() -> None:
    """When every member was refused only the stages before are compensated."""
    play = at_both()
    play.answer("flight", Refused())
    play.answer("hotel", Refused())
    assert play.current.reason == "flight was refused, hotel was refused"
    assert ["undo stock"] == play.told(since=3)


def test_members_fall_due_each_at_its_own_time() -> None:
    """Only the member whose time has come is sent again."""
    play = at_both()
    play.deadline()
    assert ["do flight"] == play.told(since=3)
    play.deadline()
    assert ["do flight", "do hotel"] == play.told(since=3)


def test_two_members_due_at_once_are_both_looked_at() -> None:
    """One deadline repeats everything that is overdue."""
    play = started(work_saga(Parallel(step("flight"), step("hotel"))))
    play.deadline()
    assert ["do flight", "do hotel"] == play.told(since=2)


def test_two_members_given_up_at_once_turn_back_once() -> None:
    """When the last two fall in doubt in one transition both are compensated."""
    play = started(work_saga(Parallel(step("flight", **IMPATIENT), step("hotel", **IMPATIENT))))
    play.deadline()
    assert ["undo flight", "undo hotel"] == play.told(since=2)
    assert ("flight in doubt", "hotel in doubt") == play.current.data.log


def test_a_member_sent_again_is_the_same_command() -> None:
    """What another member has answered meanwhile does not get into a command that was sent under its id before."""
    play = at_both()
    play.answer("flight", Done())
    play.deadline()
    play.deadline()
    first, second, third = play.commands("hotel")
    assert Do(step="hotel", seen=("stock done",)) == first.message
    assert first == second == third
    play.answer("hotel", Done())
    assert Do(step="money", seen=("stock done", "flight done", "hotel done")) == play.sent[-1].message
    assert {None} == {each.made_from for each in play.current.steps.values()}
    assert play.state == fold(None, play.facts)


def test_parallel_retriable_steps_are_both_repeated_until_answered() -> None:
    """After the pivot a parallel group only waits."""
    play = started(work_saga(pivot("ship"), Parallel(retriable("invoice"), retriable("mail"))))
    play.answer("ship", Done())
    play.deadlines(20)
    play.answer("mail", Done())
    play.deadlines(20)
    play.answer("invoice", Done())
    assert "completed" == play.status


def test_members_that_are_not_needed_are_skipped() -> None:
    """A member whose `when` says no is not waited for; when all say no the saga goes on at once."""
    play = started(work_saga(Parallel(step("flight", when=lambda _: False), step("hotel")), step("money")))
    assert ["do hotel"] == play.told()
    play.answer("hotel", Done())
    assert ["do hotel", "do money"] == play.told()
    none = started(
        work_saga(Parallel(step("flight", when=lambda _: False), step("hotel", when=lambda _: False)), step("money"))
    )
    assert ["do money"] == none.told()


def test_a_parallel_whose_compensation_fails_is_stuck_for_that_member() -> None:
    """The other member's answer is parked while it is stuck, and not lost."""
    impatient = Retry(attempts=1)
    play = started(
        work_saga(
            Parallel(step("flight", compensation_retry=impatient), step("hotel", timeout=seconds(60))), step("money")
        )
    )
    play.answer("flight", Done())
    play.answer("hotel", Done())
    play.answer("money", Refused())
    play.deadline()
    assert play.current.reason == "the compensation of flight was sent 1 times and never answered"
    assert Verdict.PARKED is play.answer("hotel", Undone()).verdict
    assert {"flight": "compensating", "hotel": "compensating", "money": "refused"} == play.steps


# -- Wait ----------------------------------------------------------------------------------------------------


def test_a_wait_sends_nothing_and_goes_on_with_its_event() -> None:
    """The event goes into the data and begins the next step."""
    play = started(work_saga(approval(), step("stock")))
    assert ([], {"approval": "running"}) == (play.told(), play.steps)
    play.event(Approved(id=7, by="cleo"))
    assert [Do(step="stock", seen=("approved by cleo",))] == [send.message for send in play.sent]


def test_a_wait_that_lasts_too_long_turns_back() -> None:
    """With on_timeout=COMPENSATE the steps before it are undone."""
    play = started(work_saga(step("stock"), approval(timeout=hours(2), on_timeout=COMPENSATE)))
    play.answer("stock", Done())
    assert 7200 == seconds_from(play.now, play.current.deadline)
    play.deadline()
    assert play.current.reason == "approval did not come in time"
    assert {"stock": "compensating", "approval": "skipped"} == play.steps


def test_a_wait_that_lasts_too_long_may_go_on() -> None:
    """With on_timeout=CONTINUE the saga goes on without the event, which is late when it comes after all."""
    play = started(work_saga(approval(on_timeout=CONTINUE), step("stock")))
    play.deadline()
    assert ["do stock"] == play.told()
    transition = play.event(Approved(id=7))
    assert (Verdict.LATE, "it is no longer waited for") == (transition.verdict, transition.note)
    assert () == play.current.data.log


def test_a_wait_without_timeout_has_no_deadline() -> None:
    """It may wait for ever."""
    play = started(work_saga(approval(timeout=None), step("stock")))
    assert play.current.deadline is None
    play.event(Approved(id=7))
    assert ["do stock"] == play.told()


def test_the_event_wins_when_it_comes_before_the_deadline_is_looked_at() -> None:
    """Timeout and event have one winner: whichever is taken up first."""
    play = started(work_saga(approval(), step("stock")))
    play.event(Approved(id=7))
    assert Verdict.DUPLICATE is play.take(DeadlinePassed(play.now + minutes(0))).verdict
    assert Verdict.LATE is play.event(Approved(id=7)).verdict
    assert ["do stock"] == play.told()


def test_an_awaited_event_that_comes_while_going_back_is_late() -> None:
    """Nobody will wait for it any more, whether its wait was reached or not."""
    unreached = started(work_saga(step("stock"), step("money"), approval()))
    unreached.answer("stock", Done())
    unreached.answer("money", Refused())
    assert Verdict.LATE is unreached.event(Approved(id=7)).verdict
    reached = started(work_saga(step("stock"), approval()))
    reached.answer("stock", Done())
    reached.deadline()
    assert Verdict.LATE is reached.event(Approved(id=7)).verdict
    assert {"stock": "compensating", "approval": "skipped"} == reached.steps


def test_a_wait_that_is_not_needed_is_skipped() -> None:
    """`when` decides with the data as it is then."""
    play = started(work_saga(approval(when=lambda data: data.id > 7), step("stock")))
    assert {"approval": "skipped", "stock": "running"} == play.steps
    assert Verdict.LATE is play.event(Approved(id=7)).verdict


# -- Delay ---------------------------------------------------------------------------------------------------


def test_a_delay_lets_a_fixed_time_pass() -> None:
    """Nothing but its deadline ends it."""
    play = started(work_saga(pause("cool_off", minutes(5)), step("stock")))
    assert 300 == seconds_from(play.now, play.current.deadline)
    assert Verdict.PARKED is play.event(Done()).verdict
    play.deadline()
    assert {"cool_off": "succeeded", "stock": "running"} == play.steps


def test_a_delay_may_depend_on_the_data() -> None:
    """Its length is decided when it begins."""
    saga = work_saga(step("stock"), pause("cool_off", lambda data: minutes(len(data.log))), step("money"))
    play = started(saga)
    play.answer("stock", Done())
    assert 60 == seconds_from(play.now, play.current.deadline)


@pytest.mark.parametrize("length", [timedelta(0), timedelta(days=-3)])
def test_a_delay_that_is_over_is_due_now(length: timedelta) -> None:
    """A length in the past is no length."""
    play = started(work_saga(pause("cool_off", lambda _: length), step("stock")))
    assert play.now == play.current.deadline
    play.deadline()
    assert ["do stock"] == play.told()


def test_a_delay_that_is_not_needed_is_skipped() -> None:
    """`when` decides."""
    play = started(work_saga(pause("cool_off", hours(1), when=lambda _: False), step("stock")))
    assert {"cool_off": "skipped", "stock": "running"} == play.steps


def test_delays_and_waits_are_not_compensated() -> None:
    """Going back passes over them."""
    play = started(work_saga(step("stock"), pause("cool_off", hours(1)), approval(), step("money")))
    play.answer("stock", Done())
    play.deadline()
    play.event(Approved(id=7))
    play.answer("money", Refused())
    assert ["do stock", "do money", "undo stock"] == play.told()
    play.answer("stock", Undone())
    assert {"stock": "compensated", "cool_off": "succeeded", "approval": "succeeded", "money": "refused"} == play.steps


# -- when ----------------------------------------------------------------------------------------------------


def test_a_step_that_is_not_needed_is_skipped_both_ways() -> None:
    """It gets no command, and nothing is undone for it."""
    saga = work_saga(step("gift", when=lambda data: data.id == 8), step("stock"), step("money"))
    play = started(saga)
    assert {"gift": "skipped", "stock": "running"} == play.steps
    play.answer("stock", Done())
    play.answer("money", Refused())
    play.answer("stock", Undone())
    assert ["do stock", "do money", "undo stock", "work.amended"] == play.told()


def test_when_sees_what_the_steps_before_have_learned() -> None:
    """The data is asked when the step's turn has come."""
    saga = work_saga(step("stock"), step("gift", when=lambda data: "stock done: rich" in data.log), step("money"))
    play = started(saga)
    play.answer("stock", Done(note=": rich"))
    assert ["do stock", "do gift"] == play.told()


def test_a_saga_that_needs_no_step_is_complete_at_once() -> None:
    """Starting and ending are one transition."""
    play = started(work_saga(step("gift", when=lambda _: False)))
    assert "completed" == play.status
    assert [Finished(log=())] == [send.message for send in play.sent]


def test_a_pivot_that_is_not_needed_still_ends_the_way_back() -> None:
    """What comes after it is retriable, and was checked as such."""
    saga = work_saga(
        step("stock"), pivot("ship", when=lambda _: False), retriable("mail"), cancel_on=cancel_on_withdrawal()
    )
    play = started(saga)
    play.answer("stock", Done())
    assert Verdict.LATE is play.event(Withdrawn(id=7)).verdict
    assert {"stock": "succeeded", "ship": "skipped", "mail": "running"} == play.steps


# -- cancel_on -----------------------------------------------------------------------------------------------


def cancelable(*middle: Any) -> Play:
    """An instance that may be withdrawn."""
    return started(work_saga(step("stock"), *middle, pivot("ship"), cancel_on=cancel_on_withdrawal()))


def test_a_cancellation_turns_back_and_leaves_the_running_step_in_doubt() -> None:
    """The step at work may have happened or not, so it is compensated, with the command it was sent."""
    play = cancelable(step("money"))
    play.answer("stock", Done())
    play.event(Withdrawn(id=7))
    assert play.current.reason == "canceled by work.withdrawn"
    assert ("stock done", "withdrawn") == play.current.data.log
    undo = play.sent[-1]
    assert Undo(step="money", seen=("stock done", "withdrawn")) == undo.message
    assert command_id(play.id, "money", ACTION, 1) == undo.compensates
    assert Verdict.LATE is play.answer("money", Done(), nth=0).verdict
    play.answer("money", Undone())
    play.answer("stock", Undone())
    assert Amended(log=("stock done", "withdrawn")) == play.sent[-1].message


def test_a_cancellation_compensates_a_whole_parallel_group() -> None:
    """Members that succeeded and members at work are undone together; a refused one is not."""
    play = cancelable(Parallel(step("flight"), step("hotel"), step("car")))
    play.answer("stock", Done())
    play.answer("flight", Done())
    play.answer("car", Refused())
    play.event(Withdrawn(id=7))
    assert ["undo flight", "undo hotel"] == play.told(since=4)


@pytest.mark.parametrize("stage", [approval(), pause("approval", hours(1))])
def test_a_cancellation_ends_waits_and_delays(stage: Any) -> None:
    """Nobody waits any longer, and there is nothing to undo for it."""
    play = cancelable(stage)
    play.answer("stock", Done())
    play.event(Withdrawn(id=7))
    assert {"stock": "compensating", "approval": "skipped"} == play.steps
    assert ["do stock", "undo stock"] == play.told()


def test_a_cancellation_before_the_start_is_parked() -> None:
    """It is applied when the saga has started."""
    play = Play(work_saga(step("stock"), cancel_on=cancel_on_withdrawal()))
    assert Verdict.PARKED is play.event(Withdrawn(id=7)).verdict
    play.event(Begun(id=7))
    play.event(Withdrawn(id=7))
    assert {"stock": "compensating"} == play.steps


def test_a_cancellation_after_the_pivot_is_late() -> None:
    """There is no way back once the pivot's command is sent, answered or not."""
    play = cancelable()
    play.answer("stock", Done())
    transition = play.event(Withdrawn(id=7))
    assert (Verdict.LATE, "the pivot 'ship' has begun: there is no way back") == (transition.verdict, transition.note)
    assert ("stock done",) == play.current.data.log
    assert ["do stock", "do ship"] == play.told()


def test_a_cancellation_while_going_back_is_late() -> None:
    """It is going back already."""
    play = cancelable(step("money"))
    play.answer("stock", Done())
    play.answer("money", Refused())
    transition = play.event(Withdrawn(id=7))
    assert (Verdict.LATE, "the saga is compensating already") == (transition.verdict, transition.note)
    assert ("stock done", "money refused: no_time") == play.current.data.log


# -- steps done before the start -----------------------------------------------------------------------------


def test_a_step_done_before_the_start_is_only_ever_compensated() -> None:
    """It gets no command going forward, and is undone last going back."""
    play = started(work_saga(done_before("place"), step("stock")))
    assert {"place": "succeeded", "stock": "running"} == play.steps
    play.answer("stock", Refused())
    assert ["do stock", "undo place"] == play.told()
    play.answer("place", Undone())
    assert "compensated" == play.status


def test_a_saga_of_what_was_done_before_is_complete_at_once() -> None:
    """With no step to take it ends where it starts."""
    assert "completed" == started(work_saga(done_before("place"))).status
