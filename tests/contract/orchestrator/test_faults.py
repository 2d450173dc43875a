"""Faults round the machine: whose fault it was is who pays, and nothing waits for ever unseen."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import update

from contracts.message import Event
from messaging import schema
from orchestrator import Delay, Saga, Start, Step, Wait, days
from orchestrator.saga.state import saga_id
from orchestrator.schema import parked_event
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.office import Office
from tests.unit.work import Approved, Do, Done, Work, pivot, step, work_saga


def _shouting(data: Work) -> Do:
    return Do(step="fill", seen=("x" * 300_000,))


async def test_a_command_that_cannot_be_sent_makes_its_saga_stuck(office: Office) -> None:
    """A function that makes a command too large is the saga's own fault: not the answer's, and not the neighbor's."""
    await office.employ(work_saga(step("dig"), Step("fill", _shouting), pivot("sign")))
    await office.handle(office.begun(1))
    await office.handle(office.answer(1, "dig", Done()), office.begun(2))

    sagas = await office.sagas()
    assert {key: row.status for key, row in sagas.items()} == {"1": "stuck", "2": "running"}
    assert "MessageTooLarge" in sagas["1"].reason
    assert await office.letters() == []
    assert [row.saga_id for row in await office.parked()] == [saga_id("work", 1)]
    assert await office.audit() == 2


async def test_what_cannot_be_read_back_from_parking_costs_no_innocent_answer(office: Office) -> None:
    """An event that newer code has parked stays; the instance goes on with what can be read."""
    await office.employ(work_saga(step("dig"), Wait(Approved, key=lambda event: event.id), pivot("sign")))
    await office.handle(office.begun(1), office.delivery(Approved(id=1), correlation_id=None))
    strange = '{"specversion":"1.0","id":"1","source":"s","type":"work.teleported","data":{}}'
    async with office.database.transaction() as connection:
        await connection.execute(update(parked_event).values(body=strange))
    await office.handle(office.answer(1, "dig", Done()))

    assert (await office.sagas())["1"].step == "work.approved"
    assert await office.letters() == []
    assert len(await office.parked()) == 1


async def test_an_answer_to_one_saga_may_start_another(office: Office) -> None:
    """The event moves the saga that waits for it, and starts the one that listens for it."""

    class Shipping(BaseModel):
        model_config = ConfigDict(frozen=True)
        note: str

    other = Saga(
        name="celebrate",
        version=1,
        data=Shipping,
        starts_on=Start(Done, lambda event: Shipping(note=event.note), key=lambda event: event.note),
        steps=(Delay(days(1), name="wait_a_day"),),
    )
    await office.employ(work_saga(step("dig"), pivot("sign")), other)
    await office.handle(office.begun(1))
    await office.handle(office.answer(1, "dig", Done(note="party")))

    found = {(row.name, row.key): row.step for row in (await office.sagas()).values()}
    assert found == {("work", "1"): "sign", ("celebrate", "party"): "wait_a_day"}
    # An answer to somebody else's command starts it too, and waits for nobody.
    stranger = office.answer(77, "dig", Done(note="ball"), name="elsewhere")
    await office.handle(stranger)
    assert {row.key for row in (await office.sagas()).values()} == {"1", "party", "ball"}
    assert await office.parked() == []


async def test_an_early_approval_lasts_until_its_saga_has_come_that_far(office: Office) -> None:
    """It is not given up while the wait for it still lies ahead, however long that takes."""
    definition = work_saga(
        Delay(days(7), name="cool_off"), Wait(Approved, key=lambda event: event.id), step("dig"), pivot("sign")
    )
    await office.employ(definition, patience=timedelta(hours=1))
    await office.handle(office.begun(1), office.delivery(Approved(id=1), correlation_id=None))
    async with asyncio.timeout(60):
        while (await office.sagas())["1"].step != "dig":
            looked_at = all(row.retry_at > office.clock.now() for row in await office.parked())
            over = office.clock.now() >= NOON + timedelta(days=7)
            # Hours, once the orchestrator has looked at what is parked; at the end moments, so that dig's own deadline
            # is not passed before it is seen here.
            office.clock.advance(0.001 if over else 3 * 3600 if looked_at else 1)
            await asyncio.sleep(0.005)

    assert (await office.letters(), await office.parked()) == ([], [])
    assert await office.audit() == 1


class Named(Event, type="work.named"):
    """An event whose field is called otherwise on the wire."""

    number: int = Field(alias="theNumber")


async def test_a_field_alias_survives_the_database(office: Office) -> None:
    """Data is written by the names it is read by."""

    class Aliased(BaseModel):
        model_config = ConfigDict(frozen=True)
        number: int = Field(default=0, alias="theNumber")

    definition: Saga[Any] = Saga(
        name="aliased",
        version=1,
        data=Aliased,
        starts_on=Start(Named, lambda event: Aliased(theNumber=event.number), key=lambda event: event.number),
        steps=(Delay(days(1), name="first"), Delay(days(1), name="second")),
    )
    await office.employ(definition)
    await office.handle(office.delivery(Named(theNumber=3), correlation_id=None))
    async with asyncio.timeout(30):
        while (await office.sagas())["3"].step != "second":
            office.clock.advance(3600)
            await asyncio.sleep(0.002)

    assert (await office.sagas())["3"].data == '{"theNumber":3}'
    assert await office.rows(schema.dead_letter) == []
    assert await office.audit() == 1
