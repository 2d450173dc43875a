"""What is parked, told on both databases."""

from __future__ import annotations

from datetime import timedelta

from messaging.waiting import Filter
from orchestrator.parked_list import parked_waiting
from orchestrator.saga.state import saga_id
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.office import Office
from tests.unit.work import Approved, Done, approval, pivot, step, work_saga


async def test_a_parked_event_tells_which_instance_it_waits_for_and_where_that_is(office: Office) -> None:
    """An early approval stands behind its running saga; an answer to a saga that is not there, behind nothing."""
    await office.employ(work_saga(step("dig"), approval(), pivot("sign")))
    await office.handle(office.begun(1))
    await office.handle(office.delivery(Approved(id=1), correlation_id=None), office.answer(2, "dig", Done()))
    later = NOON + timedelta(minutes=10)
    async with office.database.reading() as connection:
        found = await parked_waiting(connection, later, Filter())
        approvals = await parked_waiting(connection, later, Filter(type="work.approved"))
        none = await parked_waiting(connection, later, Filter(older_than=timedelta(minutes=11)))
        one = await parked_waiting(connection, later, Filter(limit=1))
    assert found.total == 2
    told = {each.type: each for each in found.rows}
    early = told["work.approved"]
    assert (early.saga, early.saga_id, early.key, early.status, early.step) == (
        "work",
        saga_id("work", 1),
        "1",
        "running",
        "dig",
    )
    assert (early.parked_at, early.age, early.retry_at) == (NOON, 600.0, NOON + timedelta(seconds=2))
    assert early.reason == "approval is not reached yet"
    orphan = told["work.done"]
    assert (orphan.saga_id, orphan.key, orphan.status, orphan.step) == (saga_id("work", 2), None, None, None)
    assert [each.type for each in approvals.rows] == ["work.approved"]
    assert (none.rows, none.total) == ((), 0)
    assert (len(one.rows), one.total) == (1, 2)
