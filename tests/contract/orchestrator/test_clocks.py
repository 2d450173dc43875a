"""Processes whose clocks do not agree: within one instance the time goes back only where they differ too much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from messaging.database import Database
from orchestrator import Retry, queries, seconds, versions
from orchestrator.cli.timeline import story
from orchestrator.diagnosis.durations import usual
from orchestrator.diagnosis.findings import Usual
from orchestrator.operations.action import Operator, Result
from orchestrator.replay.reading import recorded
from orchestrator.replay.recorded import Recorded
from orchestrator.replay.replaying import replay
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.saga.state import Direction, saga_id
from orchestrator.statistics import statistics
from tests.contract.messaging.bench import NOON, PATIENCE, StillClock
from tests.contract.orchestrator.office import Office
from tests.unit.work import Approved, Done, approval, pivot, step, work_saga

SAGA = work_saga(step("dig", timeout=seconds(30), retry=Retry(attempts=2)), approval(), pivot("sign"))
BEHIND = timedelta(seconds=10)


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[Database]:
    """The database as a person's own process opens it."""
    database = Database(database_url)
    yield database
    await database.close()


def _behind() -> StillClock:
    clock = StillClock()
    clock.advance(-BEHIND.total_seconds())
    return clock


async def _told(office: Office) -> Recorded:
    async with office.database.reading() as connection:
        return await recorded(connection, await queries.find(connection, "1"))


async def _checked(office: Office) -> list[timedelta]:
    """The moments of its history, from noon on; the row and the inputs say the same, and it replays."""
    found = await _told(office)
    assert replay(found, office.catalog).difference is None
    assert (found.started_at, found.updated_at) == (found.transitions[0].at, found.transitions[-1].at)
    assert [f'"at":"{each.at.isoformat().replace("+00:00", "Z")}"' in each.input for each in found.transitions] == [
        True
    ] * len(found.transitions)
    return [each.at - NOON for each in found.transitions]


async def test_an_answer_that_a_process_behind_takes_up_comes_when_the_command_left(office: Office) -> None:
    """Not before it. What is parked and becomes due with it comes then, too; what is waited for next is reckoned so."""
    await office.employ(SAGA)
    await office.handle(office.begun(1), office.delivery(Approved(id=1), correlation_id=None))
    office.clock.advance(-BEHIND.total_seconds())
    await office.handle(office.answer(1, "dig", Done()))
    assert await _checked(office) == [timedelta(0)] * 3
    assert (await office.sagas())["1"].step == "sign"
    office.clock.advance(BEHIND.total_seconds() + 1)
    await office.handle(office.answer(1, "sign", Done()))
    assert await _checked(office) == [timedelta(0)] * 3 + [timedelta(seconds=1)]
    assert await office.audit() == 1


async def test_a_deadline_is_the_same_moment_to_every_process(office: Office) -> None:
    """A process that is behind acts on it when its own clock says so; the next one is reckoned from then."""
    await office.employ(SAGA)
    await office.handle(office.begun(1))
    assert (await office.sagas())["1"].deadline == NOON + timedelta(seconds=32)
    office.clock.advance(-BEHIND.total_seconds())
    async with asyncio.timeout(PATIENCE):
        while (await office.sagas())["1"].revision == 1:
            office.clock.advance(1)
    begun, again = await _checked(office)
    assert begun == timedelta(0)
    assert again >= timedelta(seconds=32)
    assert (await office.sagas())["1"].deadline == NOON + again + timedelta(seconds=30)


@pytest.mark.parametrize("action", [Action.RETRY, Action.ABANDON])
async def test_a_person_whose_clock_is_behind_acts_now(office: Office, elsewhere: Database, action: Action) -> None:
    """Now is, at the earliest, when the instance last moved."""
    await office.employ(SAGA)
    await versions.check(office.database, office.catalog, (), NOON)
    await office.handle(office.begun(1))
    clock = _behind()
    given = PersonActed(clock.now(), action, "bea", "why")
    outcome = await Operator(elsewhere, office.catalog, clock).act(saga_id("work", 1), given)
    assert outcome.result is Result.DONE
    assert [each.at for each in outcome.transitions] == [NOON]
    assert await _checked(office) == [timedelta(0)] * 2


async def test_an_instance_without_its_definition_is_abandoned_now(office: Office, elsewhere: Database) -> None:
    """That, too, at the earliest when it last moved."""
    await office.employ(SAGA)
    await office.handle(office.begun(1))
    clock = _behind()
    given = PersonActed(clock.now(), Action.ABANDON, "bea", "why")
    nobody = type(office.catalog)([])
    outcome = await Operator(elsewhere, nobody, clock).act(saga_id("work", 1), given)
    assert outcome.result is Result.DONE
    assert await _checked(office) == [timedelta(0)] * 2


async def test_a_rescheduled_deadline_that_is_past_is_due_at_once(office: Office, elsewhere: Database) -> None:
    """At once is when the instance last moved, where that is later than the person's own clock says."""
    await office.employ(SAGA)
    await versions.check(office.database, office.catalog, (), NOON)
    await office.handle(office.begun(1))
    clock = _behind()
    given = PersonActed(clock.now(), Action.RESCHEDULE, "bea", "why", "dig", due=clock.now())
    outcome = await Operator(elsewhere, office.catalog, clock).act(saga_id("work", 1), given)
    assert outcome.result is Result.DONE
    assert (await office.sagas())["1"].deadline == NOON
    assert await _checked(office) == [timedelta(0)] * 2


AHEAD = timedelta(days=365)
"""A clock that is wrong by more than any two may differ."""


async def _moved_by_a_clock_far_ahead(office: Office) -> None:
    """An instance whose last transition lies in the next year, and so does its deadline; it waits for approval."""
    await office.employ(SAGA)
    await versions.check(office.database, office.catalog, (), NOON)
    await office.handle(office.begun(1))
    office.clock.moment += AHEAD
    await office.handle(office.answer(1, "dig", Done()))
    office.clock.moment -= AHEAD
    assert (await office.sagas())["1"].deadline == NOON + AHEAD + timedelta(hours=1)


async def test_one_clock_far_ahead_stops_no_timer_for_longer_than_until_the_next_transition(office: Office) -> None:
    """The next process goes by its own clock again, says once that something is wrong, and so do the deadlines."""
    await _moved_by_a_clock_far_ahead(office)
    with capture_logs() as logged:
        await office.handle(office.delivery(Approved(id=1), correlation_id=None))
        office.clock.advance(1)
        await office.handle(office.answer(1, "sign", Done()))
    assert await _checked(office) == [timedelta(0), AHEAD, timedelta(0), timedelta(seconds=1)]
    assert [each for each in logged if each["event"] == "clock_behind"] == [
        {
            "event": "clock_behind",
            "log_level": "error",
            "saga": "work",
            "saga_id": str(saga_id("work", 1)),
            "at": "2026-03-01T12:00:00+00:00",
            "last_moved_at": "2027-03-01T12:00:00+00:00",
            "mend": "synchronize the clocks of the machines that the orchestrator runs on",
        }
    ]
    assert ((await office.sagas())["1"].status, await office.audit()) == ("completed", 1)


@pytest.mark.parametrize(
    ("ahead", "moment"),
    [(timedelta(minutes=1), timedelta(minutes=1)), (timedelta(minutes=1, microseconds=1), timedelta(0))],
)
async def test_a_minute_is_smoothed_over_and_no_more(office: Office, ahead: timedelta, moment: timedelta) -> None:
    """Up to there it may be what two good clocks differ by; beyond, one of the two is wrong, and is told of."""
    await office.employ(SAGA)
    office.clock.moment += ahead
    await office.handle(office.begun(1))
    office.clock.moment -= ahead
    with capture_logs() as logged:
        await office.handle(office.answer(1, "dig", Done()))
    assert await _checked(office) == [ahead, moment]
    assert [each["event"] for each in logged].count("clock_behind") == (ahead > moment)


async def test_a_deadline_is_moved_to_the_moment_that_was_asked_for(office: Office, elsewhere: Database) -> None:
    """Whatever the clock said that the instance was moved by last; then it comes."""
    await _moved_by_a_clock_far_ahead(office)
    due = NOON + timedelta(minutes=1)
    given = PersonActed(NOON, Action.RESCHEDULE, "bea", "why", "approval", due=due)
    outcome = await Operator(elsewhere, office.catalog, office.clock).act(saga_id("work", 1), given)
    assert (outcome.result, (await office.sagas())["1"].deadline) == (Result.DONE, due)
    async with asyncio.timeout(PATIENCE):
        while (await office.sagas())["1"].revision == 3:
            office.clock.advance(61)
            await asyncio.sleep(0.005)
    assert (await office.sagas())["1"].status == "compensating"


async def test_a_deadline_that_the_instance_would_take_for_past_is_refused(office: Office, elsewhere: Database) -> None:
    """Within the minute that is smoothed over, another moment would be set than was asked for: that is said."""
    await office.employ(SAGA)
    await versions.check(office.database, office.catalog, (), NOON)
    await office.handle(office.begun(1))
    given = PersonActed(NOON, Action.RESCHEDULE, "bea", "why", "dig", due=NOON - timedelta(seconds=5))
    operator = Operator(elsewhere, office.catalog, _behind())
    outcome = await operator.act(saga_id("work", 1), given)
    assert outcome.result is Result.REFUSED
    assert outcome.why == (
        "it last moved at 2026-03-01 12:00:00+00:00, by a clock that is ahead of the one here; "
        "a deadline can be put there or later, or into the past for now"
    )
    later = replace(given, due=NOON + timedelta(seconds=5))
    assert (await operator.act(saga_id("work", 1), later)).result is Result.DONE
    assert (await office.sagas())["1"].deadline == NOON + timedelta(seconds=5)


async def test_an_instance_without_its_definition_is_abandoned_by_this_process_s_clock(
    office: Office, elsewhere: Database
) -> None:
    """Also where it was moved by one far ahead."""
    await _moved_by_a_clock_far_ahead(office)
    given = PersonActed(NOON, Action.ABANDON, "bea", "why")
    with capture_logs() as logged:
        outcome = await Operator(elsewhere, type(office.catalog)([]), office.clock).act(saga_id("work", 1), given)
    assert outcome.result is Result.DONE
    assert await _checked(office) == [timedelta(0), AHEAD, timedelta(0)]
    assert [each["event"] for each in logged] == ["clock_behind"]


async def test_nothing_is_shown_to_have_taken_less_than_no_time(office: Office) -> None:
    """Where the clock went back between a command and its answer."""
    await office.employ(SAGA)
    office.clock.moment += AHEAD
    await office.handle(office.begun(1))
    office.clock.moment -= AHEAD
    await office.handle(office.answer(1, "dig", Done()))
    await office.handle(office.delivery(Approved(id=1), correlation_id=None), office.answer(1, "sign", Done()))
    assert [entry.took for entry in story(await _told(office)).entries] == [None, 0.0, None, 0.0]
    async with office.database.reading() as connection:
        (figures,) = await statistics(connection, NOON + AHEAD)
        usually = await usual(connection, "work")
    assert (figures.duration.p50, figures.steps[0].duration.p50) == (0.0, 0.0)
    assert usually["dig", Direction.ACTION] == Usual(0.0, 0.0, 1)
