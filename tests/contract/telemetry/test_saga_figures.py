"""What an orchestrator counts of its sagas and finds in its tables, on both databases."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from messaging.telemetry.families import Histogram
from orchestrator import Retry, Saga, seconds
from orchestrator.catalog import Catalog
from orchestrator.depths import SagaDepths
from orchestrator.engine import Engine
from orchestrator.saga.state import Direction
from orchestrator.schema import collected_letter, parked_event
from orchestrator.schema import saga as saga_table
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.office import Office
from tests.contract.telemetry.figures import total, values
from tests.unit.work import Done, Refused, Undone, Work, pivot, step, work_saga


def _saga() -> Saga[Work]:
    patience = {"timeout": seconds(30), "retry": Retry(attempts=3, backoff=seconds(2))}
    return work_saga(step("dig", **patience), step("fill", **patience), pivot("sign"))


async def _employ(office: Office) -> Engine:
    engine = await office.employ(_saga())
    engine.meter.listen()
    return engine


async def test_how_long_steps_take_is_counted_by_what_became_of_them(office: Office) -> None:
    """A success after 4 s, a refusal after 1.5 s, a compensation after 2 s; and the saga from its start to its end."""
    engine = await _employ(office)
    await office.handle(office.begun(1))
    office.clock.moment += timedelta(seconds=4)
    await office.handle(office.answer(1, "dig", Done()))
    office.clock.moment += timedelta(seconds=1.5)
    await office.handle(office.answer(1, "fill", Refused()))
    office.clock.moment += timedelta(seconds=2)
    await office.handle(office.answer(1, "dig", Undone(), direction=Direction.COMPENSATION))

    told = list(engine.meter.families())
    steps = values(told, "amends_saga_step_duration_seconds")
    assert {labels: total(value) for labels, value in steps.items()} == {
        ("work", "dig", "succeeded"): (1, 4.0),
        ("work", "fill", "refused"): (1, 1.5),
        ("work", "dig", "compensated"): (1, 2.0),
    }
    sagas = values(told, "amends_saga_duration_seconds")
    assert {labels: total(value) for labels, value in sagas.items()} == {("work", "compensated"): (1, 7.5)}
    assert values(told, "amends_sagas_started") == {("work",): 1}


async def test_a_command_that_is_sent_again_counts_from_its_first_sending(office: Office) -> None:
    """Answered 10 s after its second sending, which came 32 s after the first."""
    engine = await _employ(office)
    await office.handle(office.begun(1))
    before = office.worker.batches
    office.clock.advance(32)
    await office.pass_time(lambda: office.worker.batches > before, "the deadline is handled", step=0.001)
    office.clock.moment = NOON + timedelta(seconds=42)
    await office.handle(office.answer(1, "dig", Done()))

    told = list(engine.meter.families())
    steps = values(told, "amends_saga_step_duration_seconds")
    ((count, took),) = [total(steps["work", "dig", "succeeded"])]
    assert count == 1
    # The timer was some milliseconds late, as the test let the time go on.
    assert 41.0 <= took <= 42.0
    assert values(told, "amends_saga_step_retries") == {("work", "dig", "action"): 1}


async def test_one_whose_row_cannot_be_read_has_become_stuck_once(office: Office) -> None:
    """As one that a definition of its own made stuck; what comes for it later changes nothing."""
    engine = await _employ(office)
    await office.handle(office.begun(1))
    async with office.database.transaction() as connection:
        await connection.execute(saga_table.update().values(progress="?"))
    await office.handle(office.answer(1, "dig", Done()))
    assert await office.status_of(1) == "stuck"
    await office.handle(office.answer(1, "dig", Done()))

    assert values(engine.meter.families(), "amends_sagas_became_stuck") == {("work",): 1}


async def test_before_anybody_looks_no_transition_is_counted(office: Office) -> None:
    """Nobody pays for figures that nobody wants."""
    engine = await office.employ(_saga())
    await office.handle(office.begun(1))
    assert values(engine.meter.families(), "amends_sagas_started") == {}


def _row(number: int, name: str, status: str, seconds: float) -> dict[str, object]:
    return {
        "id": UUID(int=number),
        "name": name,
        "version": 1,
        "key": str(number),
        "status": status,
        "step": "",
        "reason": "",
        "data": "{}",
        "progress": "{}",
        "revision": 1,
        "started_at": NOON - timedelta(seconds=seconds),
        "updated_at": NOON,
    }


async def test_what_is_under_way_is_found_by_saga_and_status(office: Office) -> None:
    """With its age; sagas that nobody here knows count as one, and what has ended is not looked at."""
    rows = [
        _row(1, "work", "running", 2),
        _row(2, "work", "running", 400),
        _row(3, "work", "compensating", 4000),
        _row(4, "work", "stuck", 9),
        _row(5, "work", "completed", 9),
        _row(6, "gone", "stuck", 9),
        _row(7, "lost", "stuck", 9),
    ]
    async with office.database.transaction() as connection:
        await connection.execute(saga_table.insert(), rows)
    async with office.database.reading() as connection:
        found = await SagaDepths(Catalog([_saga()]))(connection, NOON)

    assert values(found, "amends_sagas") == {
        ("work", "running"): 2,
        ("work", "compensating"): 1,
        ("work", "stuck"): 1,
        ("other", "stuck"): 2,
    }
    assert values(found, "amends_saga_oldest_age_seconds") == {("work",): 4000}
    (ages,) = values(found, "amends_saga_age_seconds").values()
    assert total(ages) == (3, 4402.0)
    assert isinstance(ages, Histogram)
    upper = dict(zip(ages.bounds, ages.counts, strict=False))
    assert {bound: number for bound, number in upper.items() if number} == {2.5: 1, 900.0: 1, 14400.0: 1}


async def test_what_is_parked_and_what_died_is_found(office: Office) -> None:
    """Parked events by saga, open letters by service and reason; reasons and services of strangers count as one."""
    parked = {
        "saga_id": UUID(int=1),
        "name": "work",
        "type": "work.approved",
        "queue": "depot.in",
        "body": "{}",
        "reason": "early",
        "parked_at": NOON - timedelta(seconds=70),
        "retry_at": NOON,
    }
    letter = {
        "queue": "q",
        "error": "e",
        "exchange": "",
        "routing_key": "r",
        "properties": "{}",
        "size": 1,
        "attempts": 0,
        "failures": 1,
        "first_at": NOON,
        "at": NOON,
    }
    letters = [
        letter | {"id": UUID(int=number), "service": service, "reason": reason, "state": state}
        for number, (service, reason, state) in enumerate(
            [
                ("payment", "handler_failed", "open"),
                ("payment", "handler_failed", "open"),
                ("order", "because", "open"),
                ("order", "unknown", "discarded"),
            ]
        )
    ]
    async with office.database.transaction() as connection:
        await connection.execute(
            parked_event.insert(), [parked | {"message_id": UUID(int=1)}, parked | {"message_id": UUID(int=2)}]
        )
        await connection.execute(collected_letter.insert(), letters)
    async with office.database.reading() as connection:
        found = await SagaDepths(Catalog([_saga()]))(connection, NOON)

    assert values(found, "amends_parked_events") == {("work",): 2}
    assert values(found, "amends_parked_oldest_age_seconds") == {("work",): 70}
    assert values(found, "amends_collected_dead_letters") == {
        ("payment", "handler_failed"): 2,
        ("order", "other"): 1,
    }
