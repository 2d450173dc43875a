"""When a step began, told by its deadline alone: as exactly as if it had been written down."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator import PIVOT, RETRIABLE, Retry, Saga, Step, minutes, seconds
from orchestrator.metering import begun
from tests.unit.play import NOON, Play
from tests.unit.work import Begun, Done, Refused, Work, approval, must_do, pause, pivot, step, work_saga

PATIENCE = {"timeout": seconds(10), "retry": Retry(attempts=3, backoff=seconds(2), cap=seconds(3))}


def _began(play: Play, name: str) -> float:
    """Seconds from noon."""
    found = begun(play.saga, name, play.current.steps[name])
    assert found is not None
    return (found - NOON) / timedelta(seconds=1)


def _play(saga: Saga[Work]) -> Play:
    """One that was started five seconds after noon."""
    play = Play(saga, 1)
    play.now = NOON + timedelta(seconds=5)
    play.event(Begun(id=1))
    return play


@pytest.mark.parametrize("deadlines", [0, 1, 2])
def test_a_command_that_was_sent_again_began_with_its_first_sending(deadlines: int) -> None:
    """However often, up to its last attempt, after which nothing is added to the timeout."""
    play = _play(work_saga(step("dig", **PATIENCE), pivot("sign")))
    play.deadlines(deadlines)
    assert _began(play, "dig") == 5.0


@pytest.mark.parametrize("deadlines", [0, 1, 5])
@pytest.mark.parametrize("kind", [PIVOT, RETRIABLE])
def test_what_is_sent_for_ever_began_with_its_first_sending(kind: object, deadlines: int) -> None:
    """A pivot and a retriable step, far beyond the attempts that others have."""
    last = Step("sign", must_do("sign"), kind=kind, **PATIENCE)  # type: ignore[call-overload]
    saga = work_saga(last) if kind is PIVOT else work_saga(pivot("stamp"), last)
    play = _play(saga)
    if kind is RETRIABLE:
        play.answer("stamp", Done())
    play.deadlines(deadlines)
    assert _began(play, "sign") == 5.0


@pytest.mark.parametrize("deadlines", [0, 1, 3])
def test_a_compensation_began_with_its_own_first_sending(deadlines: int) -> None:
    """By its own retries, and not with the action."""
    undoing = Retry(attempts=4, backoff=seconds(1))
    play = _play(work_saga(step("dig", compensation_retry=undoing, **PATIENCE), step("fill"), pivot("sign")))
    play.answer("dig", Done())
    play.now = NOON + timedelta(seconds=20)
    play.answer("fill", Refused())
    play.deadlines(deadlines)
    assert _began(play, "dig") == 20.0


def test_a_wait_with_a_time_limit_began_when_it_was_reached() -> None:
    """One without a limit does not say, and a delay is none."""
    assert _began(_play(work_saga(approval("approve", timeout=minutes(1)), pivot("sign"))), "approve") == 5.0
    endless = _play(work_saga(approval("approve", timeout=None), pivot("sign")))
    assert begun(endless.saga, "approve", endless.current.steps["approve"]) is None
    resting = _play(work_saga(pause("rest", seconds(5)), pivot("sign")))
    assert begun(resting.saga, "rest", resting.current.steps["rest"]) is None


def test_what_waits_for_a_person_says_nothing() -> None:
    """No deadline runs for a command that was given up."""
    saga = work_saga(step("dig", compensation_retry=Retry(attempts=1), **PATIENCE), step("fill"), pivot("sign"))
    play = _play(saga)
    play.answer("dig", Done())
    play.answer("fill", Refused())
    play.deadline()
    assert play.status == "stuck"
    assert begun(play.saga, "dig", play.current.steps["dig"]) is None
