"""Instances whose row cannot be read, on both databases: visibly stuck, once, and until a person decides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import Field
from sqlalchemy import update
from sqlalchemy.engine import Row
from structlog.testing import capture_logs

from messaging.database import Database
from orchestrator import Retry, Saga, hours, queries, seconds
from orchestrator.catalog import Catalog
from orchestrator.operations.action import Operator, Outcome, Result
from orchestrator.replay import reading
from orchestrator.replay.replaying import replay
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.saga.state import saga_id
from orchestrator.schema import saga as saga_table
from orchestrator.schema import saga_history
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.office import Office
from tests.unit.work import Approved, Done, Refused, Work, approval, pivot, step, work_saga

WHY = "the state of an instance of Saga('work', version=1) cannot be read: log: Tuple should have at most 0 items"
PATIENT = {"timeout": seconds(30), "retry": Retry(attempts=9, backoff=seconds(1))}


class Narrow(Work):
    """What a definition knows that cannot read what others have been told."""

    log: Annotated[tuple[str, ...], Field(max_length=0)] = ()


def _wide(*stages: Any) -> Saga[Work]:
    return work_saga(step("dig", timeout=hours(1000)), *(stages or (step("fill", **PATIENT),)), pivot("sign"))


def _narrow(*stages: Any) -> Saga[Work]:
    definition = _wide(*stages)
    object.__setattr__(definition, "data", Narrow)
    return definition


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[Database]:
    """The same database, opened by another process."""
    database = Database(database_url)
    yield database
    await database.close()


def _work(number: int) -> UUID:
    return saga_id("work", number)


async def _row(office: Office, number: int = 1) -> Row[Any]:
    return (await office.sagas())[str(number)]


async def _now_with(office: Office, definition: Saga[Work], **options: Any) -> None:
    await office.retire()
    await office.employ(definition, **options)


async def _until_stuck(office: Office, *numbers: int) -> None:
    async with asyncio.timeout(30):
        while {(await _row(office, number)).status for number in numbers} != {"stuck"}:
            office.clock.advance(1)
            await asyncio.sleep(0.005)


async def _let_pass(office: Office, length: timedelta) -> None:
    end = office.clock.now() + length
    while office.clock.now() < end:
        office.clock.advance(1)
        await asyncio.sleep(0.002)


async def _by_bea(office: Office, database: Database, action: Action, number: int = 1) -> Outcome:
    operator = Operator(database, office.catalog, office.clock)
    return await operator.act(_work(number), PersonActed(NOON, action, "bea", "v1 reads it again"))


async def _replays(office: Office, number: int = 1) -> None:
    async with office.database.reading() as connection:
        told = await reading.recorded(connection, await queries.find(connection, str(_work(number))))
    assert replay(told, office.catalog).difference is None


async def test_a_row_that_cannot_be_read_makes_its_instance_stuck_once(office: Office, elsewhere: Database) -> None:
    """The reason lies in the row and in the history, and no second transition and no second line of the log follow."""
    await office.employ(_wide())
    await office.handle(office.begun(1), office.begun(2), office.answer(1, "dig", Done()))
    before = await _row(office)
    # Its deadline may have passed while the process before it ended: then the next one looks at it at once.
    with capture_logs() as log:
        await _now_with(office, _narrow())
        await _until_stuck(office, 1)
        await office.handle(office.answer(1, "fill", Done()))
        await _let_pass(office, timedelta(minutes=5))

    row = await _row(office)
    assert (row.status, row.deadline, row.step, row.revision) == ("stuck", None, "fill", 3)
    assert row.reason.startswith(WHY)
    assert row.data == before.data
    entries = [each for each in await office.rows(saga_history, saga_history.c.seq) if each.saga_id == row.id]
    given = json.loads(entries[-1].input)
    assert (given["kind"], given["why"], entries[-1].at) == ("read_failed", row.reason, row.updated_at)
    assert json.loads(entries[-1].facts) == [{"fact": "became_stuck", "reason": row.reason, "gave_up": []}]
    told = [each for each in log if each["event"] == "saga_unreadable"]
    assert [(each["saga_id"], each["error"], each["log_level"]) for each in told] == [
        (str(row.id), row.reason, "error")
    ]
    assert [each.reason for each in await office.parked()] == ["the row of its saga cannot be read"]
    async with elsewhere.reading() as connection:
        assert [each.id for each in await queries.listing(connection, status="stuck", limit=9)] == [row.id]
    assert (await _row(office, 2)).status == "running"


async def test_once_it_can_be_read_again_a_retry_takes_up_what_was_parked(office: Office, elsewhere: Database) -> None:
    """Before, every action but its end is refused in words; after, history and row are one and replay."""
    await office.employ(_wide())
    await office.handle(office.begun(1), office.answer(1, "dig", Done()))
    await _now_with(office, _narrow())
    await office.handle(office.answer(1, "fill", Done()))
    assert await office.status_of(1) == "stuck"
    refused = await _by_bea(office, elsewhere, Action.RETRY)
    assert (refused.result, refused.why) == (
        Result.REFUSED,
        f"{(await _row(office)).reason}; deploy a definition of work v1 that reads it and then retry, or abandon it",
    )
    await _now_with(office, _wide())
    await _let_pass(office, timedelta(minutes=1))
    assert (await office.status_of(1), len(await office.parked())) == ("stuck", 1)
    assert await office.audit() == 1

    done = await _by_bea(office, elsewhere, Action.RETRY)
    assert (done.result, done.was, done.status, done.step) == (Result.DONE, "stuck", "running", "sign")
    assert await office.parked() == []
    assert (await _row(office)).reason == ""
    assert await office.audit() == 1
    await _replays(office)


async def test_what_it_was_doing_is_not_lost(office: Office, elsewhere: Database) -> None:
    """One that was going back goes on going back, for the reason it had; one that waited for an event waits for it."""
    await office.employ(_wide(approval()))
    await office.handle(office.begun(1), office.answer(1, "dig", Done()))
    await _now_with(office, _narrow(approval()))
    await office.handle(office.delivery(Approved(id=1), correlation_id=None))
    await _now_with(office, _wide(approval()))
    assert (await _by_bea(office, elsewhere, Action.RETRY)).step == "sign"
    await _replays(office)

    await _now_with(office, _wide())
    await office.handle(office.begun(2), office.answer(2, "dig", Done()), office.answer(2, "fill", Refused()))
    before = await _row(office, 2)
    await _now_with(office, _narrow())
    await office.handle(office.answer(2, "fill", Done()))
    assert await office.status_of(2) == "stuck"
    await _now_with(office, _wide())
    assert (await _by_bea(office, elsewhere, Action.RETRY, 2)).status == "compensating"
    assert (before.reason, (await _row(office, 2)).reason) == ("fill was refused: work.refused (no_time)",) * 2
    await _replays(office, 2)


async def test_one_that_is_stuck_already_stays_stuck_for_what_it_was(office: Office) -> None:
    """A person has been called already; neither the row nor the history changes."""

    def raising(data: Work, event: Done) -> Work:
        raise ZeroDivisionError("no spade")

    await office.employ(_wide(step("fill", on_success=raising)))
    await office.handle(office.begun(1), office.answer(1, "dig", Done()), office.answer(1, "fill", Done()))
    before = await _row(office)
    assert before.reason.endswith("ZeroDivisionError: no spade\n")
    await _now_with(office, _narrow(step("fill", on_success=raising)))
    await office.handle(office.answer(1, "fill", Done()))
    await _let_pass(office, timedelta(minutes=1))

    assert await _row(office) == before


@pytest.mark.parametrize("readable", [True, False])
async def test_one_that_cannot_be_read_can_be_abandoned(office: Office, elsewhere: Database, readable: bool) -> None:
    """Before it is found to be stuck or after: who, why and when are all it needs. What was parked for it expires."""
    await office.employ(_wide())
    await office.handle(office.begun(1), office.answer(1, "dig", Done()))
    if not readable:
        async with office.database.transaction() as connection:
            await connection.execute(update(saga_table).values(progress="nonsense"))
    await _now_with(office, _narrow(), patience=hours(1))
    if not readable:
        await office.handle(office.answer(1, "fill", Done()))
        row = await _row(office)
        assert (row.status, row.deadline, row.progress) == ("stuck", None, "nonsense")
    done = await _by_bea(office, elsewhere, Action.ABANDON)

    assert (done.result, done.status, done.step, done.why) == (Result.DONE, "abandoned", "", "")
    row = await _row(office)
    assert (row.status, row.step, row.reason, row.deadline) == ("abandoned", "", "bea: v1 reads it again", None)
    again = await _by_bea(office, elsewhere, Action.ABANDON)
    assert again.why == "the saga is abandoned; nothing can change it"
    async with asyncio.timeout(30):
        while await office.parked():
            office.clock.advance(60)
            await asyncio.sleep(0.002)
    if readable:
        office.catalog = Catalog([_wide()])
        assert await office.audit() == 1
        await _replays(office)
