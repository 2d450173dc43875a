"""The rules of the machine, one after the other, each by example."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest

from orchestrator import Retry, minutes, seconds
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import DeadlinePassed
from orchestrator.saga.machine import decide, fold
from orchestrator.saga.state import command_id, outcome_id, saga_id
from tests.unit.play import ACTION, COMPENSATION, NOON, Action, Play, Verdict, seconds_from
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
    Work,
    approval,
    cancel_on_withdrawal,
    done_before,
    pivot,
    retriable,
    step,
    work_saga,
)


def journey(**options: Any) -> Saga[Work]:
    """Two steps that can be undone, the point of no return, one that must succeed."""
    return work_saga(
        step("stock", timeout=seconds(30), retry=Retry(attempts=3, backoff=seconds(2))),
        step("money"),
        pivot("ship"),
        retriable("invoice"),
        **options,
    )


def started(saga: Saga[Any] | None = None) -> Play:
    """An instance that has just started."""
    play = Play(saga or journey())
    assert play.event(Begun(id=7)).verdict is Verdict.APPLIED
    return play


def done(*names: str, saga: Saga[Any] | None = None) -> Play:
    """An instance some of whose steps have succeeded."""
    play = started(saga)
    for name in names:
        play.answer(name, Done())
    return play


# -- 1: start ------------------------------------------------------------------------------------------------


def test_an_instance_is_named_by_its_saga_and_key() -> None:
    """The id of an instance is derived from the saga's name and the key, and from nothing else."""
    saga = uuid5(uuid5(UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8"), "urn:amends:saga"), "work")
    assert uuid5(saga, "7") == saga_id("work", 7) == saga_id("work", "7")
    assert saga_id("work", 7) != saga_id("work", 8)
    assert saga_id("work", 7) != saga_id("play", 7)


def test_a_start_makes_the_data_and_sends_the_first_command() -> None:
    """A start event begins the first step and no other."""
    play = started()
    assert Work(id=7) == play.current.data
    assert ["do stock"] == play.told()
    assert {"stock": "running"} == play.steps


@pytest.mark.parametrize("reached", [(), ("stock",), ("stock", "money", "ship", "invoice")])
def test_a_second_start_is_a_duplicate(reached: tuple[str, ...]) -> None:
    """A second start with the same key is recorded nowhere, whatever the first has come to."""
    play = done(*reached)
    before, facts = play.state, len(play.facts)
    transition = play.event(Begun(id=7))
    assert Verdict.DUPLICATE is transition.verdict
    assert ((), ()) == (transition.facts, transition.sends)
    assert (before, facts) == (play.state, len(play.facts))


# -- 2: ids are derived --------------------------------------------------------------------------------------


def test_a_commands_id_is_derived_from_instance_step_direction_and_round() -> None:
    """Each of the four makes another id, and nothing else does."""
    saga = saga_id("work", 7)
    assert uuid5(saga, "stock/action/1") == command_id(saga, "stock", ACTION, 1)
    ids = {
        command_id(which, name, direction, number)
        for which in (saga, saga_id("work", 8))
        for name in ("stock", "money")
        for direction in (ACTION, COMPENSATION)
        for number in (1, 2)
    }
    assert len(ids) == 16


def test_the_same_decision_yields_the_same_ids() -> None:
    """Two processes that decide the same send the same messages under the same ids."""
    one, other = done("stock", "money", "ship", "invoice"), done("stock", "money", "ship", "invoice")
    assert one.sent == other.sent
    assert [
        command_id(one.id, "stock", ACTION, 1),
        command_id(one.id, "money", ACTION, 1),
        command_id(one.id, "ship", ACTION, 1),
        command_id(one.id, "invoice", ACTION, 1),
        outcome_id(one.id, "completed"),
    ] == [send.id for send in one.sent]


def test_a_command_sent_again_keeps_id_and_content() -> None:
    """A repetition is the same message, so that the participant's inbox absorbs it."""
    play = started()
    play.deadline()
    first, second = play.commands("stock")
    assert first == second


def test_deciding_changes_nothing_but_says_what_would() -> None:
    """The same input in the same state gives the same transition, and the state given in is left alone."""
    play = started()
    before, given = play.current, play.arrival(Done(), play.commands("stock")[0].id)
    copy = fold(None, play.facts)
    assert decide(play.saga, play.id, before, given) == decide(play.saga, play.id, before, given)
    assert copy == before


# -- 3: success moves on, a refusal turns back ---------------------------------------------------------------


def test_success_moves_on_to_the_end() -> None:
    """Each success begins the next step; after the last one the end is announced with the data."""
    play = done("stock", "money", "ship", "invoice")
    assert "completed" == play.status
    assert ["do stock", "do money", "do ship", "must invoice", "work.finished"] == play.told()
    assert Finished(log=("stock done", "money done")) == play.sent[-1].message


def test_a_refusal_turns_back_last_first_one_at_a_time() -> None:
    """Every step that succeeded before the refusal is compensated, the last one first, the next when it is answered."""
    play = done("stock", "money")
    assert ["do stock", "do money", "do ship"] == play.told()
    play.answer("ship", Refused(reason="storm"))
    assert "compensating" == play.status
    assert play.current.reason == "ship was refused: work.refused (storm)"
    assert ["undo money"] == play.told(since=3)
    play.answer("money", Undone())
    assert ["undo money", "undo stock"] == play.told(since=3)
    play.answer("stock", Undone())
    assert ["undo money", "undo stock", "work.amended"] == play.told(since=3)
    assert "compensated" == play.status
    assert {"stock": "compensated", "money": "compensated", "ship": "refused"} == play.steps


def test_a_refused_step_itself_is_not_compensated() -> None:
    """A refusal says that nothing happened there."""
    play = done("stock")
    play.answer("money", Refused())
    assert ["do stock", "do money", "undo stock"] == play.told()


def test_the_first_steps_refusal_ends_the_saga_at_once() -> None:
    """With nothing to undo amends are made already."""
    play = started()
    play.answer("stock", Refused(reason="sold_out"))
    assert "compensated" == play.status
    assert Amended(log=("stock refused: sold_out",)) == play.sent[-1].message


def test_a_step_without_compensation_is_passed_over() -> None:
    """Nothing is sent to undo what cannot be undone and needs no undoing."""
    play = done("stock", "look", saga=work_saga(step("stock"), step("look", compensation=None), step("money")))
    play.answer("money", Refused())
    assert ["do stock", "do look", "do money", "undo stock"] == play.told()


# -- 4: a timeout means unknown ------------------------------------------------------------------------------


def test_a_timeout_repeats_the_command_with_backoff_until_attempts_run_out() -> None:
    """Attempt n waits for the timeout and the doubled backoff, the last one for the timeout alone."""
    play = started()
    waits = []
    for _ in range(3):
        sent_at = play.now
        waits.append(seconds_from(sent_at, play.current.deadline))
        play.deadline()
    assert [32.0, 34.0, 30.0] == waits
    assert ["do stock", "do stock", "do stock", "undo stock"] == play.told()


def test_an_unanswered_step_is_in_doubt_and_compensated_first() -> None:
    """No answer is no refusal: it may have happened, so going back begins with that step."""
    play = done("stock")
    play.deadlines(3)
    assert "in_doubt" not in play.steps.values()
    assert {"stock": "succeeded", "money": "compensating"} == play.steps
    assert play.current.reason == "money was sent 3 times and never answered"
    assert ("stock done", "money in doubt") == play.current.data.log
    play.answer("money", Undone())
    play.answer("stock", Undone())
    assert ["undo money", "undo stock", "work.amended"] == play.told(since=4)


def test_an_answer_in_time_stops_the_repetition() -> None:
    """Answered at the second attempt, the saga goes on as if it had been the first."""
    play = started()
    play.deadline()
    play.answer("stock", Done())
    assert {"stock": "succeeded", "money": "running"} == play.steps


def test_a_deadline_that_has_not_come_changes_nothing() -> None:
    """Being looked at too early is a duplicate."""
    play = started()
    early = DeadlinePassed(NOON + timedelta(seconds=31.9))
    assert Verdict.DUPLICATE is decide(play.saga, play.id, play.state, early).verdict
    assert Verdict.DUPLICATE is decide(play.saga, play.id, None, early).verdict


def test_the_pivot_is_repeated_until_it_is_answered() -> None:
    """The pivot is never given up: its command is repeated under one id, with capped backoff."""
    saga = work_saga(
        step("stock"),
        pivot("ship", timeout=seconds(10), retry=Retry(attempts=2, backoff=seconds(4), cap=seconds(20))),
    )
    play = done("stock", saga=saga)
    waits = []
    for _ in range(40):
        waits.append(seconds_from(play.now, play.current.deadline))
        play.deadline()
    assert [14.0, 18.0, 26.0, 30.0, 30.0] == waits[:5]
    assert {30.0} == set(waits[5:])
    assert len({send.id for send in play.commands("ship")}) == 1
    assert {"stock": "succeeded", "ship": "running"} == play.steps
    play.answer("ship", Done())
    assert "completed" == play.status


@pytest.mark.parametrize(
    ("retry", "attempt", "expected"),
    [
        (Retry(backoff=seconds(2)), 1, 2),
        (Retry(backoff=seconds(2)), 4, 16),
        (Retry(backoff=seconds(2)), 8, 256),
        (Retry(backoff=seconds(2)), 9, 300),
        (Retry(backoff=seconds(2), cap=seconds(16)), 4, 16),
        (Retry(backoff=seconds(0)), 50, 0),
        (Retry(backoff=timedelta(days=1)), 31, 300),
        (Retry(backoff=timedelta(days=1)), 10_000, 300),
        (Retry(backoff=timedelta(days=1), cap=timedelta(days=2)), 10_000, 172_800),
    ],
)
def test_backoff_doubles_up_to_its_cap(retry: Retry, attempt: int, expected: float) -> None:
    """However long the backoff and however late the attempt, the wait is the cap at most."""
    assert expected == retry.wait(attempt).total_seconds()


# -- 5 and 6: what the machine owes to participants ----------------------------------------------------------


def test_a_compensation_names_the_command_it_undoes() -> None:
    """With the id of the command, a participant can leave a tombstone for one that arrives later."""
    play = done("stock")
    play.deadlines(3)
    undo = play.commands("money")[-1]
    assert Undo(step="money", seen=("stock done", "money in doubt")) == undo.message
    assert play.commands("money")[0].id == undo.compensates
    assert undo.id != undo.compensates


def test_only_compensations_undo_something() -> None:
    """Actions and announcements name no other command."""
    play = done("stock", "money", "ship", "invoice")
    assert [None] * 5 == [send.compensates for send in play.sent]


def test_a_step_done_before_the_start_has_no_command_to_name() -> None:
    """Its compensation undoes what no command of ours has done."""
    play = started(work_saga(done_before("place"), step("stock")))
    play.answer("stock", Refused())
    assert ("undo place", None) == (play.told()[-1], play.sent[-1].compensates)


def test_a_compensation_names_the_last_round_of_its_command() -> None:
    """A step asked a second time by a person is undone by the id of that second command."""
    play = started()
    play.answer("stock", Undone())
    play.person(Action.RETRY)
    assert command_id(play.id, "stock", ACTION, 2) == play.sent[-1].id
    play.person(Action.CANCEL)
    assert command_id(play.id, "stock", ACTION, 2) == play.sent[-1].compensates


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
    play = done(*reached)
    transition = play.person(action)
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


def test_a_cancellation_by_a_person_names_them() -> None:
    """Why an instance went back says who wanted it and what they wrote."""
    play = done("stock")
    play.person(Action.CANCEL)
    assert play.current.reason == "cancel by bea: she knows"
    assert {"stock": "succeeded", "money": "compensating"} == play.steps


def test_commands_are_made_from_the_newest_data() -> None:
    """What a step has learned is known to the next."""
    play = done("stock")
    assert Do(step="money", seen=("stock done",)) == play.sent[-1].message
