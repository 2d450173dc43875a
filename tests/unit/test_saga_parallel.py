"""Steps whose commands are sent together, by example."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import Parallel, Retry, seconds
from orchestrator.saga.definition import Saga
from orchestrator.saga.machine import fold
from tests.unit.journey import started
from tests.unit.play import Play, Verdict
from tests.unit.work import (
    Do,
    Done,
    Refused,
    Undone,
    Work,
    pivot,
    retriable,
    step,
    work_saga,
)

IMPATIENT: dict[str, Any] = {"timeout": seconds(10), "retry": Retry(attempts=1)}


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
    assert play.current.reason == "the compensation of flight was sent once and never answered"
    assert Verdict.PARKED is play.answer("hotel", Undone()).verdict
    assert {"flight": "compensating", "hotel": "compensating", "money": "refused"} == play.steps
