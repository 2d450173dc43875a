"""What a history says of a saga's steps, counted."""

from __future__ import annotations

from dataclasses import replace

from orchestrator import Retry, seconds
from orchestrator.tallying import Tally
from tests.unit.begun import RecordedPlay
from tests.unit.play import Action
from tests.unit.work import Approved, Done, Refused, Undone, approval, pause, pivot, step, work_saga


def _tally(play: RecordedPlay) -> Tally:
    tally = Tally()
    tally.add(play.recorded)
    return tally


def test_a_wait_and_a_delay_are_measured_from_their_beginning() -> None:
    """A wait is answered by its event or times out; a delay is only measured."""
    saga = work_saga(approval(timeout=seconds(60)), pause("rest", seconds(5)), pivot("sign"))
    play = RecordedPlay(saga, 1)
    play.at(7).event(Approved(id=1))
    play.deadline()
    steps = _tally(play).steps
    assert (steps["approval"].answered, steps["approval"].took) == (1, [7.0])
    assert (steps["rest"].answered, steps["rest"].timed_out, steps["rest"].took) == (0, 0, [5.0])
    late = RecordedPlay(saga, 2)
    late.deadline()
    approvals = _tally(late).steps["approval"]
    assert (approvals.answered, approvals.timed_out, approvals.took) == (0, 1, [])


def test_a_compensation_that_is_given_up_has_timed_out_each_time() -> None:
    """Every deadline that passed counts, the last one too, at which it got stuck; a person's retry is no timeout."""
    play = RecordedPlay(
        work_saga(step("dig", compensation_retry=Retry(attempts=2)), step("fill"), pivot("sign")),
        1,
    )
    play.at(1).answer("dig", Done())
    play.at(2).answer("fill", Refused())
    play.deadlines(2)
    assert play.status == "stuck"
    play.person(Action.RETRY)
    play.answer("dig", Undone())
    dig = _tally(play).steps["dig"]
    assert (dig.sent, dig.timed_out, dig.retried, dig.compensated) == (1, 2, 1, 1)


def test_what_a_person_says_is_no_answer_and_is_not_measured() -> None:
    """A step resolved by hand counts neither as answered nor with the time that took."""
    play = RecordedPlay(work_saga(step("dig"), pivot("sign")), 1)
    play.at(20).person(Action.RESOLVE, "dig")
    dig = _tally(play).steps["dig"]
    assert (dig.sent, dig.answered, dig.took) == (1, 0, [])


def test_a_history_that_cannot_be_read_is_counted_as_that_and_stops_nobody() -> None:
    """One with a torn input leaves the figures of the others as they are."""
    whole = RecordedPlay(work_saga(step("dig"), pivot("sign")), 1).recorded
    tally = Tally()
    tally.add(replace(whole, transitions=(replace(whole.transitions[0], input='{"kind": "ev'),)))
    tally.add(whole)
    assert (tally.instances, tally.unreadable, tally.steps["dig"].sent) == (2, 1, 1)
