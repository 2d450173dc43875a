"""The rules of the machine by example, from the start to the pivot (rules 1 to 6)."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid5

import pytest

from orchestrator import Retry, seconds
from orchestrator.saga.inputs import DeadlinePassed
from orchestrator.saga.machine import decide, fold
from orchestrator.saga.state import command_id, outcome_id, saga_id
from tests.unit.journey import done, started
from tests.unit.play import ACTION, COMPENSATION, NOON, Action, Verdict, seconds_from
from tests.unit.work import (
    Amended,
    Begun,
    Done,
    Finished,
    Refused,
    Undo,
    Undone,
    Work,
    done_before,
    pivot,
    step,
    work_saga,
)

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
    play.person(Action.COMPENSATE)
    assert command_id(play.id, "stock", ACTION, 2) == play.sent[-1].compensates
