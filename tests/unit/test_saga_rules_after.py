"""The rules of the machine by example, from the pivot to the end and beyond (rules 7 to 12)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator import Retry, minutes
from orchestrator.saga.inputs import DeadlinePassed
from orchestrator.saga.machine import decide, fold
from orchestrator.saga.state import command_id, saga_id
from tests.unit.journey import done, journey, started
from tests.unit.play import ACTION, COMPENSATION, NOON, Action, Play, Verdict
from tests.unit.work import (
    Approved,
    Begun,
    Do,
    Done,
    Refused,
    Undo,
    Undone,
    Withdrawn,
    approval,
    cancel_on_withdrawal,
    pivot,
    step,
    work_saga,
)

# -- 7: after the pivot only forward -------------------------------------------------------------------------


def test_a_retriable_step_is_repeated_for_ever() -> None:
    """After the pivot no number of timeouts turns the saga back."""
    play = done("stock", "money", "ship")
    play.deadlines(100)
    assert "running" == play.status
    assert ["must invoice"] * 101 == play.told(since=3)
    play.answer("invoice", Done())
    assert "completed" == play.status


def test_a_refusal_after_the_pivot_makes_it_stuck() -> None:
    """A retriable step that is refused all the same is a breach of contract for a person to look at."""
    play = done("stock", "money", "ship")
    play.answer("invoice", Refused(reason="closed"))
    assert "stuck" == play.status
    assert (
        play.current.reason
        == "invoice was answered with work.refused (closed), which its contract does not allow there"
    )
    assert "undo" not in " ".join(play.told())


@pytest.mark.parametrize("reached", [("stock", "money"), ("stock", "money", "ship")])
@pytest.mark.parametrize("action", [Action.CANCEL, Action.COMPENSATE])
def test_nobody_turns_it_back_after_the_pivots_command_is_sent(reached: tuple[str, ...], action: Action) -> None:
    """Not even a person: the refusal says where the way back ended."""
    play = done(*reached, saga=journey(cancel_on=cancel_on_withdrawal()))
    transition = play.person(action, None, Withdrawn(id=7))
    assert (Verdict.REFUSED, "the pivot 'ship' has begun: there is no way back") == (
        transition.verdict,
        transition.note,
    )
    assert "running" == play.status


def test_the_pivots_own_refusal_still_turns_back() -> None:
    """A pivot that was refused has not happened."""
    play = done("stock", "money")
    play.answer("ship", Refused())
    play.answer("money", Undone())
    play.answer("stock", Undone())
    assert "compensated" == play.status


# -- 8: a compensation that keeps failing --------------------------------------------------------------------


def failing_compensation() -> Play:
    """An instance whose compensation was never answered."""
    play = done("stock", saga=work_saga(step("stock", compensation_retry=Retry(attempts=4)), step("money")))
    play.answer("money", Refused(reason="broke"))
    play.deadlines(4)
    return play


def test_a_compensation_that_keeps_failing_makes_it_stuck() -> None:
    """It is never called compensated: it waits for a person, with the reason, and for nothing else."""
    play = failing_compensation()
    assert "stuck" == play.status
    assert play.current.reason == "the compensation of stock was sent 4 times and never answered"
    assert ["undo stock"] * 4 == play.told(since=2)
    assert play.current.deadline is None
    assert {"stock": "compensating", "money": "refused"} == play.steps


def test_a_compensation_answered_with_anything_else_makes_it_stuck() -> None:
    """A compensation cannot be refused."""
    play = done("stock")
    play.answer("money", Refused())
    play.answer("stock", Refused(reason="never"))
    assert "stuck" == play.status
    assert "stock was answered with work.refused (never)" in play.current.reason


def test_a_stuck_compensation_retried_by_a_person_is_a_new_command() -> None:
    """A new round has a new id, so that a participant that remembers the old one runs its handler again."""
    play = failing_compensation()
    assert Verdict.APPLIED is play.person(Action.RETRY).verdict
    assert "compensating" == play.status
    assert command_id(play.id, "stock", COMPENSATION, 2) == play.sent[-1].id
    assert command_id(play.id, "stock", ACTION, 1) == play.sent[-1].compensates
    play.answer("stock", Undone())
    assert "compensated" == play.status


# -- 9: terminal is absorbing --------------------------------------------------------------------------------


def completed() -> Play:
    """An instance that ended well."""
    return done("stock", "money", "ship", "invoice")


def compensated() -> Play:
    """An instance that made amends, with an answer still on its way."""
    play = done("stock")
    play.deadlines(3)
    play.answer("money", Undone())
    play.answer("stock", Undone())
    return play


def abandoned() -> Play:
    """An instance that a person ended as it was."""
    play = done("stock")
    play.person(Action.ABANDON)
    return play


@pytest.mark.parametrize(
    ("ended", "status"),
    [(completed, "completed"), (compensated, "compensated"), (abandoned, "abandoned")],
)
def test_late_answers_are_recorded_and_change_nothing(ended: Any, status: str) -> None:
    """In every terminal state each answer, of each command there was, is late."""
    play = ended()
    assert status == play.status
    before = play.state
    for send in list(play.sent):
        for event in (Done(), Refused(), Undone()):
            transition = play.event(event, send.id)
            assert (Verdict.LATE, f"the saga is {status}") == (transition.verdict, transition.note)
            assert (1, ()) == (len(transition.facts), transition.sends)
    assert before == play.state
    assert play.state == fold(None, play.facts)


@pytest.mark.parametrize("ended", [completed, compensated, abandoned])
def test_a_terminal_saga_takes_nothing_from_anybody(ended: Any) -> None:
    """Starts are duplicates, time passes by, and a person is told so."""
    play = ended()
    before, facts = play.state, list(play.facts)
    assert play.current.deadline is None
    assert Verdict.DUPLICATE is play.event(Begun(id=7)).verdict
    assert Verdict.DUPLICATE is play.take(DeadlinePassed(NOON + timedelta(days=900))).verdict
    for action in Action:
        transition = play.person(action, "stock", Done())
        assert Verdict.REFUSED is transition.verdict
        assert f"the saga is {play.status}; nothing can change it" == transition.note
    assert (before, facts) == (play.state, play.facts)


def test_an_abandoned_saga_says_who_and_why() -> None:
    """The reason of an abandoned instance names the person and what they wrote."""
    assert abandoned().current.reason == "bea: she knows"


def test_a_timeout_and_its_late_answer_have_one_winner() -> None:
    """An answer that comes after its step was given up is late, in whatever way the saga then ends."""
    play = done("stock")
    play.deadlines(3)
    transition = play.answer("money", Done(), nth=0)
    assert (Verdict.LATE, "its command is no longer waited for") == (transition.verdict, transition.note)
    assert {"stock": "succeeded", "money": "compensating"} == play.steps


def test_an_answer_of_an_older_round_is_late() -> None:
    """What a person has had sent anew is answered by the new command's answer only."""
    play = failing_compensation()
    play.person(Action.RETRY)
    transition = play.answer("stock", Undone(), nth=1)
    assert command_id(play.id, "stock", COMPENSATION, 1) == play.commands("stock")[1].id
    assert (Verdict.LATE, "its command is no longer waited for") == (transition.verdict, transition.note)
    assert "compensating" == play.status


def test_a_second_answer_is_late() -> None:
    """The same answer twice moves the saga once."""
    play = done("stock")
    assert Verdict.LATE is play.answer("stock", Done()).verdict
    assert Verdict.LATE is play.answer("stock", Refused()).verdict
    assert {"stock": "succeeded", "money": "running"} == play.steps


# -- 10: what nobody awaits yet ------------------------------------------------------------------------------


def test_an_event_before_the_start_is_parked() -> None:
    """Nothing is recorded, and it is applied when it comes again after the start."""
    play = Play(work_saga(approval(), step("stock")))
    transition = play.event(Approved(id=7))
    assert (Verdict.PARKED, "the saga has not started", ()) == (transition.verdict, transition.note, transition.facts)
    assert play.state is None
    play.event(Begun(id=7))
    assert Verdict.APPLIED is play.event(Approved(id=7)).verdict


def test_an_event_ahead_of_its_wait_is_parked() -> None:
    """An approval that outruns the steps before it is kept for when its turn has come."""
    play = started(work_saga(step("stock"), approval("boss")))
    transition = play.event(Approved(id=7))
    assert (Verdict.PARKED, "boss is not reached yet") == (transition.verdict, transition.note)
    play.answer("stock", Done())
    assert Verdict.APPLIED is play.event(Approved(id=7)).verdict
    assert "completed" == play.status


def test_an_event_that_answers_nothing_is_parked() -> None:
    """An answer that names no command of this instance is not thrown away."""
    play = started()
    for cause in (None, UUID(int=1), saga_id("work", 8)):
        transition = play.event(Done(), cause)
        assert (Verdict.PARKED, "it answers no command of this saga") == (transition.verdict, transition.note)
    assert {"stock": "running"} == play.steps


def test_whatever_comes_while_it_is_stuck_is_parked() -> None:
    """A stuck instance waits for a person; what comes meanwhile is applied afterwards."""
    play = failing_compensation()
    transition = play.answer("stock", Undone())
    assert (Verdict.PARKED, "the saga is stuck") == (transition.verdict, transition.note)
    saga = work_saga(step("stock"), cancel_on=cancel_on_withdrawal())
    assert Verdict.PARKED is Play(saga).event(Done()).verdict


# -- 11: what an instance keeps ------------------------------------------------------------------------------


def test_a_step_inserted_in_front_does_not_mislead_an_instance() -> None:
    """State names steps and never counts them: folded by a newer definition, each step is still itself."""
    play = done("stock")
    newer = work_saga(step("greet"), step("stock"), step("money"), pivot("ship"))
    transition = decide(newer, play.id, play.state, play.arrival(Refused(), play.commands("money")[0].id))
    assert [Undo(step="stock", seen=("stock done", "money refused: no_time"))] == [
        send.message for send in transition.sends
    ]


def test_a_step_that_is_gone_is_said_to_be_gone() -> None:
    """A definition without the step an instance waits for is an error that names both."""
    play = started()
    newer = work_saga(step("money"))
    with pytest.raises(LookupError, match=r"step 'stock' is not in Saga\('work', version=1\)"):
        decide(newer, play.id, play.state, play.arrival(Done(), play.commands("stock")[0].id))
    with pytest.raises(LookupError, match="step 'stock' is not in"):
        decide(newer, play.id, play.state, DeadlinePassed(NOON + minutes(1)))


# -- 12: people (more in test_saga_people) -------------------------------------------------------------------


def test_a_persons_actions_are_inputs_and_fold_like_any_other() -> None:
    """The history of an instance that people have touched folds into its state."""
    play = done("stock")
    play.person(Action.RETRY)
    play.person(Action.SKIP, "money", Done(note=" by hand"))
    play.person(Action.RESOLVE, "ship")
    play.person(Action.ABANDON)
    assert ("stock done", "money done by hand") == play.current.data.log
    assert ["do stock", "do money", "do money", "do ship", "must invoice"] == play.told()
    assert play.state == fold(None, play.facts)


def test_a_way_back_by_a_person_names_them() -> None:
    """Why an instance went back says who wanted it and what they wrote."""
    play = done("stock")
    play.person(Action.COMPENSATE)
    assert play.current.reason == "compensate by bea: she knows"
    assert {"stock": "succeeded", "money": "compensating"} == play.steps


def test_commands_are_made_from_the_newest_data() -> None:
    """What a step has learned is known to the next."""
    play = done("stock")
    assert Do(step="money", seen=("stock done",)) == play.sent[-1].message
