"""Orchestrator tables that do not answer in time: nothing is lost, and what can be done meanwhile is done."""

from __future__ import annotations

import asyncio

from messaging import schema
from messaging.dead_letters import announcement
from orchestrator import minutes
from orchestrator.dead_letters import Collector
from orchestrator.schema import collected_letter
from tests.contract.messaging.away import Dragging
from tests.contract.orchestrator.letters import LETTER, announced, dead_letter
from tests.contract.orchestrator.office import Office
from tests.unit.work import Done, pivot, step, work_saga


async def test_an_event_that_the_engine_is_too_slow_for_waits_and_is_applied_later(office: Office) -> None:
    """It is put off with backoff, and its saga goes on from where it was."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    await office.handle(office.begun(1))
    history = Dragging(office, "saga_history")
    answer = office.answer(1, "dig", Done())
    office.bus.hand_over([answer])
    await office.pass_time(lambda: answer.tag in office.bus.settled, "it is put off", step=0.1)

    (waiting,) = await office.rows(schema.deferred)
    # Its next try may have come meanwhile: the time does not wait for the database.
    assert (str(waiting.message_id), waiting.attempts >= 1) == (answer.message_id, True)
    assert (await office.sagas())["1"].step == "dig"
    history.slow = False
    async with asyncio.timeout(30):
        while (await office.sagas())["1"].step != "sign":
            office.clock.advance(1)
            await asyncio.sleep(0.002)
    assert await office.rows(schema.deferred) == []
    assert (await office.letters(), office.bus.rejected) == ([], [])


async def test_an_event_that_the_engine_is_too_slow_for_twelve_times_is_a_dead_letter(office: Office) -> None:
    """With the reason, so that a person can send it again when it has been found."""
    await office.employ(work_saga(step("dig"), pivot("sign")))
    Dragging(office, "saga_history")
    begun = office.begun(1)
    office.bus.hand_over([begun])
    await office.pass_time(lambda: begun.tag in office.bus.settled, "it is put off", step=0.1)
    # The time stands still now. Its next try may have come already, as above; its last one is minutes away.
    (waiting,) = await office.rows(schema.deferred)
    assert waiting.attempts < 12
    async with asyncio.timeout(30):
        while not await office.letters():
            office.clock.advance(10)
            await asyncio.sleep(0.002)

    (letter,) = await office.rows(schema.dead_letter)
    assert (letter.reason, letter.message_id) == ("retries_exhausted", begun.message_id)
    assert letter.at - waiting.first_at > minutes(10)
    assert letter.error == f"tried 12 times since {waiting.first_at.isoformat()}; the last time: TimeoutError"


async def test_an_announcement_that_cannot_be_collected_in_time_rests_at_the_collector(office: Office) -> None:
    """It has no further table to wait in: it stays unacknowledged, and is collected when that is possible."""
    worker = await office.serve(Collector())
    letters = Dragging(office, "collected_letter")
    told = announced(office, announcement(dead_letter()))
    office.bus.hand_over([told])
    await office.pass_time(lambda: bool(worker._poller._aside), "it rests", step=0.1)
    assert (office.bus.settled, office.bus.rejected) == ([], [])

    letters.slow = False
    await office.pass_time(lambda: office.bus.settled == [told.tag], "it is collected")
    assert [row.id for row in await office.rows(collected_letter)] == [LETTER]


async def test_what_rests_while_its_channel_is_lost_is_left_to_its_next_delivery(office: Office) -> None:
    """The broker hands it out again, so the old delivery is let go."""
    worker = await office.serve(Collector())
    letters = Dragging(office, "collected_letter")
    told = announced(office, announcement(dead_letter()))
    office.bus.hand_over([told])
    await office.pass_time(lambda: bool(worker._poller._aside), "it rests", step=0.1)
    office.bus.lost.add(told.tag)
    tries = letters.refused
    await office.pass_time(lambda: not worker._poller._aside, "it has rested")
    letters.slow = False
    again = announced(office, announcement(dead_letter()))
    await office.handle(again)

    assert letters.refused == tries
    assert office.bus.settled == [again.tag]
