"""Wait, Delay, `when`, `cancel_on` and steps done before the start, each by example."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orchestrator import COMPENSATE, CONTINUE, Parallel, hours, minutes
from orchestrator.saga.inputs import DeadlinePassed
from orchestrator.saga.state import command_id
from tests.unit.journey import started
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
    approval,
    cancel_on_withdrawal,
    done_before,
    pause,
    pivot,
    retriable,
    step,
    work_saga,
)

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
