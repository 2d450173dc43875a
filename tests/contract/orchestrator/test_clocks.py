"""Processes whose clocks do not agree: within one instance the time never goes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from messaging.database import Database
from orchestrator import Retry, queries, seconds, versions
from orchestrator.operations.action import Operator, Result
from orchestrator.replay.reading import recorded
from orchestrator.replay.recorded import Recorded
from orchestrator.replay.replaying import replay
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.saga.state import saga_id
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
