"""The engine on both databases: batches of events folded over instances, and what must hold whatever comes."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from messaging import schema
from messaging.database import Database
from messaging.envelope import CONTENT_TYPE
from orchestrator import Retry, Saga, history, hours, seconds
from orchestrator.catalog import Catalog
from orchestrator.operations.action import Operator, Result
from orchestrator.saga.inputs import Action, EventArrived, PersonActed
from orchestrator.saga.state import Direction, command_id, saga_id
from orchestrator.schema import parked_event, saga_history
from orchestrator.schema import saga as saga_table
from tests.contract.messaging.bench import NOON, statements, verbs
from tests.contract.orchestrator.conftest import make_tables
from tests.contract.orchestrator.office import REST, Office
from tests.unit.work import Begun, Done, Refused, Undone, Work, approval, pivot, retriable, step, work_saga


def _two(**options: Any) -> Saga[Work]:
    return work_saga(step("dig"), step("fill"), pivot("sign"), retriable("bill"), **options)


def _raising_for(*bad: int) -> Saga[Work]:
    def told(data: Work, event: Done) -> Work:
        if data.id in bad:
            raise ZeroDivisionError(f"no data for {data.id} \x00")
        return data.told("dug")

    return work_saga(step("dig", on_success=told), pivot("sign"))


async def test_a_second_start_with_the_same_key_is_a_duplicate(office: Office) -> None:
    """In one batch or later: one instance, one history entry, one command."""
    await office.employ(_two())
    await office.handle(office.begun(1), office.begun(1), office.begun(2))
    await office.handle(office.begun(1))
    await office.flush()

    assert {key: row.revision for key, row in (await office.sagas()).items()} == {"1": 1, "2": 1}
    assert office.commands() == [("work.do", "dig"), ("work.do", "dig")]
    assert [each.message_id for each in office.bus.published] == [
        str(command_id(saga_id("work", number), "dig", Direction.ACTION, 1)) for number in (1, 2)
    ]
    assert await office.audit() == 2


async def test_a_foreign_id_as_long_as_a_uuid_is_told_as_the_one_made_of_it(office: Office) -> None:
    """A history is read again, whatever its events were called where they came from."""
    engine = await office.employ(_two())
    foreign = 'evt_"0123456789abcdef0123456789abcde'
    said = {"specversion": "1.0", "id": foreign, "source": "shop", "type": "work.begun", "data": {"id": 1}}
    await office.handle(office.raw(json.dumps(said).encode(), content_type=CONTENT_TYPE))

    (line,) = await office.rows(saga_history)
    (known,) = await office.rows(schema.inbox)
    given = history.load_input(line.input, engine.registry)
    assert isinstance(given, EventArrived)
    assert (len(foreign), given.message_id) == (36, known.message_id)


async def test_a_batch_with_a_whole_saga_in_it_moves_it_to_its_end(office: Office) -> None:
    """Several events of one instance in one batch are folded one after another."""
    await office.employ(_two())
    answers = [office.answer(1, name, Done()) for name in ("dig", "fill", "sign", "bill")]
    await office.handle(office.begun(1), *answers, office.begun(2))
    await office.flush()

    sagas = await office.sagas()
    assert (sagas["1"].status, sagas["1"].revision, sagas["1"].deadline) == ("completed", 5, None)
    assert (sagas["2"].status, sagas["2"].step) == ("running", "dig")
    mine = str(saga_id("work", 1))
    assert [each.type for each in office.bus.published if each.correlation_id == mine] == [
        "work.do",
        "work.do",
        "work.do",
        "work.must",
        "work.finished",
    ]
    assert await office.audit() == 2


async def test_a_refusal_is_compensated_last_step_first(office: Office) -> None:
    """Across batches, with a compensation that names the command it undoes."""
    await office.employ(_two())
    await office.handle(office.begun(1), office.answer(1, "dig", Done()))
    await office.handle(office.answer(1, "fill", Refused()))
    assert await office.status_of(1) == "compensating"
    await office.handle(office.answer(1, "dig", Undone(), direction=Direction.COMPENSATION))
    await office.flush()

    assert await office.status_of(1) == "compensated"
    assert [each.type for each in office.bus.published] == ["work.do", "work.do", "work.undo", "work.amended"]
    assert f'"compensates":"{command_id(saga_id("work", 1), "dig", Direction.ACTION, 1)}"' in (
        office.bus.published[2].body.decode()
    )
    assert await office.audit() == 1


async def test_an_answer_that_comes_before_its_saga_is_parked_and_applied_when_it_starts(office: Office) -> None:
    """Early in an earlier batch, or early in the same one: the order of arrival does not matter."""
    await office.employ(_two())
    await office.handle(office.answer(1, "fill", Done()), office.answer(1, "dig", Done()))
    assert len(await office.parked()) == 2
    await office.handle(office.answer(2, "dig", Done()), office.begun(1), office.begun(2))

    sagas = await office.sagas()
    assert {key: row.step for key, row in sagas.items()} == {"1": "sign", "2": "fill"}
    assert await office.parked() == []
    assert await office.audit() == 2


async def test_what_is_parked_too_long_is_a_dead_letter_with_the_reason(office: Office) -> None:
    """Nothing is discarded silently, and the dead letter is announced."""
    await office.employ(_two(), patience=timedelta(hours=1))
    early = office.answer(1, "dig", Done())
    await office.handle(early)
    assert [(row.retry_at - NOON, row.reason) for row in await office.parked()] == [
        (timedelta(seconds=2), "no saga of this id has been started")
    ]

    async with asyncio.timeout(30):
        while await office.parked():
            office.clock.advance(60)
            await asyncio.sleep(0.01)
    await office.flush()

    (letter,) = await office.rows(schema.dead_letter)
    assert (letter.reason, letter.message_id) == ("expired", early.message_id)
    assert letter.error.startswith("nobody awaited it since 2026-03-01T12:00:00+00:00: ")
    assert letter.at - NOON > timedelta(hours=1)
    assert [each.routing_key for each in office.bus.published] == ["orchestrator.expired"]


async def test_what_a_sagas_own_code_raises_makes_that_one_stuck(office: Office) -> None:
    """The traceback is the reason, the event waits for a person, and the neighbors in the batch go on."""
    await office.employ(_raising_for(13))
    await office.handle(*[office.begun(number) for number in (12, 13, 14)])
    await office.handle(*[office.answer(number, "dig", Done()) for number in (12, 13, 14)])

    sagas = await office.sagas()
    assert {key: row.status for key, row in sagas.items()} == {"12": "running", "13": "stuck", "14": "running"}
    assert "ZeroDivisionError: no data for 13 \ufffd" in sagas["13"].reason
    assert sagas["13"].deadline is None
    assert [str(row.saga_id) for row in await office.parked()] == [str(saga_id("work", 13))]
    assert await office.letters() == []
    assert await office.audit() == 3


async def test_a_saga_whose_start_raises_is_stuck_and_visible(office: Office) -> None:
    """Even without data there is a row, with the reason."""

    def begin(event: Begun) -> Work:
        if event.id == 1:
            raise KeyError("no such work")
        return Work(id=event.id)

    definition = _two()
    object.__setattr__(definition.starts_on, "begin", begin)
    await office.employ(definition)
    await office.handle(office.begun(1), office.begun(2))

    assert {key: row.status for key, row in (await office.sagas()).items()} == {"1": "stuck", "2": "running"}
    assert len(await office.parked()) == 1
    assert await office.audit() == 2


async def test_an_instance_keeps_the_version_it_started_with(office: Office) -> None:
    """A newer definition beside it starts new instances only."""
    await office.employ(_two())
    await office.handle(office.begun(1))
    await office.retire()
    await office.employ(_two(), work_saga(step("plan"), pivot("sign"), version=2))
    await office.handle(office.answer(1, "dig", Done()), office.begun(2))

    assert {key: (row.version, row.step) for key, row in (await office.sagas()).items()} == {
        "1": (1, "fill"),
        "2": (2, "plan"),
    }


async def test_answers_of_a_version_that_is_not_loaded_here_wait(office: Office) -> None:
    """An older process leaves the instance alone, and the one that knows it goes on with what was parked."""
    await office.employ(work_saga(step("dig"), step("fill"), pivot("sign"), version=2))
    await office.handle(office.begun(1))
    await office.retire()
    await office.employ(work_saga(step("plan"), pivot("sign")))
    await office.handle(office.answer(1, "dig", Done()))
    assert [row.reason for row in await office.parked()] == ["no definition of work in its version is loaded here"]
    await office.retire()
    await office.employ(work_saga(step("dig"), step("fill"), pivot("sign"), version=2))
    async with asyncio.timeout(30):
        while await office.parked():
            office.clock.advance(1)
            await asyncio.sleep(0.005)

    assert (await office.sagas())["1"].step == "fill"
    assert await office.audit() == 1


@pytest.mark.parametrize("readable", [True, False])
async def test_what_comes_for_an_ended_instance_of_a_version_that_is_not_loaded_expires(
    office: Office, readable: bool
) -> None:
    """Abandoned without its definition, it awaits nothing, whether the event's contract is loaded or not; what
    is under way still waits.
    """
    definition = work_saga(step("dig"), pivot("sign"), version=2)
    await office.employ(definition)
    await office.handle(office.begun(1), office.begun(2))
    await office.retire()
    operator = Operator(office.database, Catalog([]), office.clock)
    done = await operator.act(saga_id("work", 1), PersonActed(NOON, Action.ABANDON, "bea", "no code for it"))
    assert done.result is Result.DONE, done.why
    await office.employ(_two(), patience=timedelta(hours=1))
    late = office.answer(1, "dig", Done())
    await office.handle(late, office.answer(2, "dig", Done()))
    if not readable:
        async with office.database.transaction() as connection:
            strange = late.body.decode().replace("work.done", "work.teleported")
            await connection.execute(
                update(parked_event).where(parked_event.c.saga_id == saga_id("work", 1)).values(body=strange)
            )
    async with asyncio.timeout(30):
        while len(await office.parked()) > 1:
            office.clock.advance(60)
            await asyncio.sleep(0.005)

    assert [row.saga_id for row in await office.parked()] == [saga_id("work", 2)]
    assert await office.letters() == [("expired", late.message_id)]


async def test_deadlines_of_a_version_that_is_not_loaded_here_hide_no_others(office: Office) -> None:
    """More overdue instances of an unknown version than one look takes do not keep the others from theirs."""
    patient = {"timeout": seconds(60), "retry": Retry(attempts=3, backoff=seconds(1))}
    await office.employ(work_saga(step("plan", timeout=seconds(1)), pivot("sign"), version=2))
    await office.handle(*[office.begun(number) for number in range(100, 130)])
    await office.retire()
    await office.employ(work_saga(step("dig", **patient), pivot("sign")), batch_size=10)
    await office.handle(office.begun(1))
    await office.flush()
    office.bus.published.clear()

    async with asyncio.timeout(30):
        while (await office.sagas())["1"].revision == 1:
            office.clock.advance(5)
            await asyncio.sleep(0.01)


async def test_every_deadline_that_has_passed_is_heeded(office: Office) -> None:
    """Several at once, in one transaction: each step's command is sent again with the same id."""
    definition = work_saga(step("dig", timeout=seconds(30), retry=Retry(attempts=3, backoff=seconds(2))), pivot("sign"))
    await office.employ(definition)
    await office.handle(*[office.begun(number) for number in range(5)])
    first = [each.message_id for each in await _published(office)]
    office.clock.advance(30)
    async with asyncio.timeout(30):
        while {row.revision for row in (await office.sagas()).values()} != {2}:
            office.clock.advance(0.01)
            await asyncio.sleep(0.005)

    assert sorted(each.message_id for each in await _published(office)) == sorted(first)
    assert await office.audit() == 5


async def _published(office: Office) -> list[Any]:
    await office.flush()
    found = list(office.bus.published)
    office.bus.published.clear()
    return found


async def test_a_timeout_and_its_late_answer_have_one_winner(office: Office) -> None:
    """An answer that comes after its step was given up is recorded as late and changes nothing."""
    await office.employ(work_saga(step("dig", timeout=seconds(5), retry=Retry(attempts=1)), pivot("sign")))
    await office.handle(office.begun(1))
    async with asyncio.timeout(30):
        while await office.status_of(1) != "compensating":
            office.clock.advance(1)
            await asyncio.sleep(0.005)
    await office.handle(office.answer(1, "dig", Done()))

    assert await office.status_of(1) == "compensating"
    assert await office.parked() == []
    assert await office.audit() == 1


async def test_an_event_for_a_finished_saga_changes_nothing(office: Office) -> None:
    """Terminal is absorbing: the late event is in the history, the state as it was."""
    await office.employ(work_saga(step("dig"), approval(), pivot("sign")))
    await office.handle(office.begun(1), office.answer(1, "dig", Refused()))
    before = (await office.sagas())["1"]
    await office.handle(office.answer(1, "dig", Done()), office.begun(1))

    after = (await office.sagas())["1"]
    assert (before.status, after.status, after.data) == ("compensated", "compensated", before.data)
    assert after.revision == before.revision + 1
    assert await office.audit() == 1


@pytest.mark.parametrize("count", [2, 100])
async def test_a_batch_takes_the_same_number_of_statements_whatever_its_size(office: Office, count: int) -> None:
    """Inbox, shard, instances, what is parked, and all that is written: a constant number, for starts and for answers.

    PostgreSQL gets what is written as one. Starts hold their definition, too: nobody may change it meanwhile.
    """
    await office.employ(_two())
    with statements(office.database) as starting:
        await office.handle(*[office.begun(number) for number in range(count)])
    with statements(office.database) as answering:
        await office.handle(*[office.answer(number, "dig", Done()) for number in range(count)])

    # The poller's looks, which may fall into the block, are no part of the batch.
    starting, answering = (
        [each for each in sent if "LIMIT" not in each and not each.startswith("SET LOCAL")]
        for sent in (starting, answering)
    )
    parts = [part for each in verbs(answering) for part in each.split(" + ")]
    written = ["INSERT inbox", "UPDATE saga", "INSERT saga_history", "INSERT outbox"]
    assert [each for each in parts if not each.startswith("SELECT")] == written
    together = office.database.dialect == "postgresql"
    # What is parked is read with the instances, and once more with what is written: others may write there, too.
    assert len(parts) == len(written) + (5 if together else 4)
    assert len(answering) == (2 if together else 8)
    assert sum("FROM saga_definition WHERE" in each for each in starting) == 1
    assert len(starting) == len(answering) + (0 if together else 1)
    assert await office.audit() == count


async def test_what_is_left_of_a_history_stops_its_own_instance_only(office: Office) -> None:
    """Nothing is appended to it or written over it; the message is a dead letter that says so, the others go on."""
    await office.employ(_two())
    left = {"saga_id": saga_id("work", 1), "seq": 1, "at": NOON, "input": "{}", "facts": "[]", "commands": "[]"}
    async with office.database.transaction() as connection:
        await connection.execute(saga_history.insert(), left)
    await office.handle(office.begun(1), office.begun(2))

    assert set(await office.sagas()) == {"2"}
    (letter,) = await office.rows(schema.dead_letter)
    assert letter.reason == "handler_failed"
    assert "a history holds transitions already that its instance does not know of" in letter.error
    assert [row.facts for row in await office.rows(saga_history) if row.saga_id == left["saga_id"]] == ["[]"]


async def test_a_person_is_told_of_what_is_left_of_a_history(office: Office) -> None:
    """What they want is not done, and nothing of it is written."""
    await office.employ(_two())
    await office.handle(office.begun(1))
    left = {"saga_id": saga_id("work", 1), "seq": 2, "at": NOON, "input": "{}", "facts": "[]", "commands": "[]"}
    async with office.database.transaction() as connection:
        await connection.execute(saga_history.insert(), left)
    operator = Operator(office.database, office.catalog, office.clock)
    outcome = await operator.act(saga_id("work", 1), PersonActed(NOON, Action.ABANDON, "bea", "no use"))

    assert outcome.result is Result.REFUSED
    assert "a history holds transitions already that its instance does not know of" in outcome.why
    assert await office.status_of(1) == "running"


async def test_two_engines_that_start_one_saga_at_once_start_it_once(postgres_url: str) -> None:
    """Whoever loses the race does its batch again and finds the instance: one history, one set of command ids."""
    first, second = Database(postgres_url), Database(postgres_url)
    await make_tables(first)
    offices = [Office(first), Office(second)]
    for office in offices:
        # Waiting for the other's transaction may take hours of the test's time.
        await office.employ(
            work_saga(step("dig", timeout=hours(1000)), step("fill", timeout=hours(1000)), pivot("sign"))
        )
    numbers = range(40)
    # Each engine gets its own message of the same event, so that the inbox does not decide the race.
    batches = [
        [
            office.delivery(Begun(id=number), id=UUID(int=(place + 1) << 80 | number), correlation_id=None)
            for number in numbers
        ]
        for place, office in enumerate(offices)
    ]
    try:
        await asyncio.gather(*(_handle_in_time(each, batch) for each, batch in zip(offices, batches, strict=True)))
        answers = [[office.answer(number, "dig", Done()) for number in numbers] for office in offices]
        await asyncio.gather(_handle_in_time(offices[0], answers[0][:30]), _handle_in_time(offices[1], answers[1][30:]))
        for office in offices:
            await office.flush()
        # A command behind one that the other engine had sent and not yet deleted is left to the sweepers.
        offices[0].clock.advance(60)
        while await offices[0].relay.sweep():
            pass

        assert await offices[0].audit() == 40
        assert {row.revision for row in (await offices[0].sagas()).values()} == {2}
        sent = [each.message_id for office in offices for each in office.bus.published]
        assert len(set(sent)) == 80
    finally:
        for office in offices:
            await office.close()


async def _handle_in_time(office: Office, batch: list[Any]) -> None:
    """Handle a batch whose transaction may have to be done again after a wait."""
    office.bus.hand_over(batch)
    await office.pass_time(lambda: len(office.bus.settled) >= office.bus.handed, "all are settled", step=0.5)


@pytest.mark.parametrize("damage", [{"progress": "nonsense"}, {"progress": "[]"}, {"data": '{"id":"no number"}'}])
async def test_instances_that_cannot_be_read_stop_no_other(office: Office, damage: dict[str, str]) -> None:
    """More corrupt rows than one look takes, all overdue before the sound one: its deadline and its answer are heeded,
    and they are stuck.
    """
    definition = work_saga(step("dig", timeout=seconds(5), retry=Retry(attempts=9, backoff=seconds(1))), pivot("sign"))
    await office.employ(definition)
    await office.handle(*[office.begun(number) for number in range(20)])
    await office.retire()
    async with office.database.transaction() as connection:
        await connection.execute(update(saga_table).values(damage))
    await office.employ(definition, batch_size=3)
    await office.handle(office.begun(99))
    began = office.clock.now()
    async with asyncio.timeout(30):
        while (await office.sagas())["99"].revision == 1:
            office.clock.advance(1)
            await asyncio.sleep(0.01)
    assert office.clock.now() - began < timedelta(seconds=60)
    await office.handle(office.answer(1, "dig", Done()), office.answer(99, "dig", Done()))

    assert (await office.sagas())["99"].step == "sign"
    async with asyncio.timeout(30):
        while {key for key, row in (await office.sagas()).items() if row.status == "stuck"} != set(map(str, range(20))):
            office.clock.advance(1)
            await asyncio.sleep(0.01)
    assert {row.deadline for row in (await office.sagas()).values() if row.status == "stuck"} == {None}


async def test_a_parked_event_that_older_code_cannot_read_stops_no_other(office: Office) -> None:
    """It waits for the process that knows it; everybody else's parked events are looked at."""
    await office.employ(_two(), patience=timedelta(minutes=10))
    await office.handle(office.answer(1, "dig", Done()), office.answer(2, "dig", Done()))
    async with office.database.transaction() as connection:
        strange = '{"specversion":"1.0","id":"1","source":"s","type":"work.teleported","data":{}}'
        await connection.execute(
            update(parked_event).where(parked_event.c.saga_id == saga_id("work", 1)).values(body=strange)
        )
    async with asyncio.timeout(30):
        while len(await office.parked()) > 1:
            office.clock.advance(REST.total_seconds() / 10)
            await asyncio.sleep(0.005)

    assert [row.saga_id for row in await office.parked()] == [saga_id("work", 1)]
    assert [reason for reason, _ in await office.letters()] == ["expired"]


async def test_an_event_that_no_saga_listens_for_is_a_dead_letter(office: Office) -> None:
    """An answer without a saga's id is nobody's."""
    await office.employ(_two())
    stray = office.delivery(Done(), correlation_id="not a saga")
    await office.handle(stray)

    assert await office.letters() == [("unhandled", stray.message_id)]
