"""Two processes with different definitions under one version, as during a roll-out: no instance is moved by both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import event, text

from messaging.bus import Outgoing, Receipt
from messaging.clock import SystemClock
from messaging.database import Database
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from messaging.memory import MemoryBus
from messaging.memory_broker import MemoryBroker
from messaging.process import BadConfiguration, Running
from messaging.service import Service
from orchestrator import CONTINUE, Retry, hours, seconds, versions
from orchestrator.assembly import orchestrator
from orchestrator.catalog import Catalog
from orchestrator.operations.action import Operator, Result
from orchestrator.saga.fingerprint import fingerprint
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.saga.state import saga_id
from orchestrator.schema import saga, saga_definition
from orchestrator.settings import OrchestratorSettings
from orchestrator.testing.crew import EVERYTHING
from orchestrator.versions import DefinitionChanged
from tests.contract.messaging.bench import NOON, PATIENCE
from tests.contract.orchestrator.office import Office
from tests.unit.work import Begun, Done, approval, pivot, step, work_saga

_DIG = step("dig", timeout=hours(1), retry=Retry(attempts=9, backoff=seconds(1)))
OLD = work_saga(_DIG, step("fill", timeout=hours(1)), pivot("sign"))
NEW = work_saga(_DIG, pivot("sign"))
DIFFERS = (
    "another one has started with another definition. What differs there: "
    'order: ["dig", "fill", "sign"], now ["dig", "sign"]; stages.fill: compensable step, now nothing.'
)


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[Database]:
    """The database as another process opens it."""
    database = Database(database_url)
    yield database
    await database.close()


async def _ends(office: Office) -> str:
    """What the office's worker dies of. It has to, and nothing that it had in hand may be settled or lost."""
    (running,) = office._running
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(DefinitionChanged) as ended:
            await running
    office._running.clear()
    await office.bus.close()
    assert (office.bus.rejected, office.bus.requeued) == ([], [])
    assert await office.letters() == []
    return str(ended.value)


async def test_a_process_does_not_start_instances_of_a_definition_that_was_changed(
    office: Office, elsewhere: Database
) -> None:
    """Nothing was in flight, so the changed one was let in: the old process ends, and the new one has the message."""
    await office.employ(OLD)
    await versions.check(office.database, office.catalog, (), NOON)
    await versions.check(elsewhere, Catalog([NEW]), (), NOON)
    begun = office.begun(1)
    office.bus.hand_over([begun])
    said = await _ends(office)
    assert said.startswith("saga 'work' v1 was changed while this process ran")
    assert DIFFERS in said
    assert office.bus.settled == []
    assert await office.rows(saga) == []
    await office.employ(NEW)
    await office.handle(begun)
    await office.handle(office.answer(1, "dig", Done()))
    assert ((await office.sagas())["1"].step, await office.audit()) == ("sign", 1)


@pytest.mark.parametrize("by", ["an answer", "a deadline"])
async def test_a_process_does_not_move_instances_of_a_definition_that_was_changed(
    office: Office, elsewhere: Database, by: str
) -> None:
    """One that the new process has started is the new process's, whoever of them gets the answer."""
    await office.employ(NEW)
    await versions.check(office.database, Catalog([OLD]), (), NOON)
    await versions.check(office.database, office.catalog, (), NOON)
    await office.handle(office.begun(1))
    await office.retire()
    if by == "a deadline":
        office.clock.advance(hours(2).total_seconds())
    await office.employ(OLD)
    answer = office.answer(1, "dig", Done())
    if by == "an answer":
        office.bus.hand_over([answer])
    assert DIFFERS in await _ends(office)
    with pytest.raises(DefinitionChanged, match=f"1 of its instances are in flight .{saga_id('work', 1)}"):
        await versions.check(elsewhere, Catalog([OLD]), (), NOON)
    await office.employ(NEW)
    await office.handle(answer)
    assert ((await office.sagas())["1"].step, await office.audit()) == ("sign", 1)


async def test_a_change_that_a_person_has_let_in_ends_those_who_have_not_got_it(
    office: Office, elsewhere: Database
) -> None:
    """AMENDS_ACCEPT_CHANGED means that the instances in flight go on with the changed definition, and with no other."""
    await office.employ(OLD)
    await versions.check(office.database, office.catalog, (), NOON)
    await office.handle(office.begun(1))
    await versions.check(elsewhere, Catalog([NEW]), ("work:1",), NOON)
    answer = office.answer(1, "dig", Done())
    office.bus.hand_over([answer])
    assert DIFFERS in await _ends(office)
    await office.employ(NEW)
    await office.handle(answer)
    assert (await office.sagas())["1"].step == "sign"
    assert await office.audit() == 1


async def test_what_comes_late_for_an_instance_that_has_ended_needs_no_definition(
    office: Office, elsewhere: Database
) -> None:
    """It changes nothing, whatever has become of the definition."""
    await office.employ(OLD)
    await versions.check(office.database, office.catalog, (), NOON)
    await office.handle(office.begun(1))
    identity = saga_id("work", 1)
    given = PersonActed(NOON, Action.ABANDON, "bea", "why")
    outcome = await Operator(elsewhere, office.catalog, office.clock).act(identity, given)
    assert outcome.result is Result.DONE
    await versions.check(elsewhere, Catalog([NEW]), (), NOON)
    await office.handle(office.answer(1, "dig", Done()))
    assert ((await office.sagas())["1"].status, (await office.sagas())["1"].revision) == ("abandoned", 3)


async def test_who_changes_a_definition_waits_for_what_is_being_started(office: Office, elsewhere: Database) -> None:
    """A start that is not committed yet is seen all the same, and the change is refused."""
    await versions.check(office.database, Catalog([OLD]), (), NOON)
    async with office.database.transaction() as connection:
        await versions.hold(connection, [OLD])
        changing = asyncio.create_task(versions.check(elsewhere, Catalog([NEW]), (), NOON))
        await _waits(elsewhere, changing)
        row = {
            "id": saga_id("work", 1),
            "name": "work",
            "version": 1,
            "key": "1",
            "status": "running",
            "step": "dig",
            "reason": "",
            "data": "{}",
            "progress": "{}",
            "revision": 1,
            "started_at": NOON,
            "updated_at": NOON,
        }
        await connection.execute(saga.insert(), row)
    with pytest.raises(DefinitionChanged, match="1 of its instances are in flight"):
        await changing
    assert [each.fingerprint for each in await office.rows(saga_definition)] == [fingerprint(OLD)]


async def test_who_starts_an_instance_waits_for_a_change_that_is_being_written(
    office: Office, elsewhere: Database
) -> None:
    """A change that is not committed yet is seen all the same, and nothing is started."""
    await office.employ(OLD)
    await versions.check(office.database, office.catalog, (), NOON)
    locked = asyncio.Event()

    @event.listens_for(elsewhere.engine.sync_engine, "after_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("UPDATE saga_definition"):
            locked.set()

    async with elsewhere.transaction() as connection:
        await versions.accept(connection, NEW, NOON)
        assert locked.is_set()
        office.bus.hand_over([office.begun(1)])
        await _waits(elsewhere, office._running[0])
    assert DIFFERS in await _ends(office)
    assert await office.rows(saga) == []


async def _waits(database: Database, task: asyncio.Task[None]) -> None:
    """Until the other one waits for a lock. On SQLite, which has one for all, nobody can be asked: give it a while."""
    if database.dialect == "sqlite":
        await asyncio.wait([task], timeout=0.2)
        assert not task.done()
        return
    async with asyncio.timeout(PATIENCE), database.reading() as connection:
        query = text(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = "
            "current_database()"
        )
        while not (await connection.execute(query)).scalar_one():
            assert not task.done()
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("round", range(8))
async def test_a_start_and_a_change_at_once_never_both_succeed(office: Office, elsewhere: Database, round: int) -> None:
    """Either the change is refused, because the instance is seen, or the old process ends, because the change is."""
    await office.employ(OLD)
    await versions.check(office.database, office.catalog, (), NOON)
    (running,) = office._running
    begun = office.begun(round)

    async def start() -> str:
        await asyncio.sleep(0.001 * (round % 4))
        office.bus.hand_over([begun])
        while not running.done():
            if office.bus.settled:
                return "started"
            await asyncio.sleep(0.001)
        return "ended"

    async def change() -> str:
        try:
            await versions.check(elsewhere, Catalog([NEW]), (), NOON)
        except DefinitionChanged:
            return "refused"
        return "changed"

    async with asyncio.timeout(PATIENCE):
        started, changed = await asyncio.gather(start(), change())
    instances = len(await office.rows(saga))
    (written,) = await office.rows(saga_definition)
    if changed == "refused":
        assert (started, instances, written.fingerprint) == ("started", 1, fingerprint(OLD))
    else:
        assert (started, instances, written.fingerprint) == ("ended", 0, fingerprint(NEW))
        await _ends(office)


def _process(database_url: str, broker: MemoryBroker, definition: Any) -> Service:
    settings = OrchestratorSettings(
        database_url=SecretStr(database_url), amqp_url=SecretStr("memory://"), port=0, migrate_on_start=True
    )
    return orchestrator(settings, Catalog([definition]), MemoryBus(broker, service="orchestrator"), interval=0.05)


def _begun() -> Outgoing:
    message, now = Begun(id=1), SystemClock().now()
    envelope = Envelope(UUID(int=1), message.wire_type, 1, "tester", now)
    return Outgoing(
        exchange="amends.events",
        routing_key=message.wire_type,
        message_id=str(envelope.id),
        body=encode(envelope, message).encode(),
        type=message.wire_type,
        timestamp=now,
        app_id="tester",
        content_type=CONTENT_TYPE,
    )


async def test_a_service_ends_as_badly_configured_and_its_message_waits_for_the_other(
    database_url: str, elsewhere: Database
) -> None:
    """The whole process, as `amends run` runs it: it stops, closes, and what it had in hand is on the queue."""
    broker, definition = MemoryBroker(), work_saga(_DIG, approval(on_timeout=CONTINUE), pivot("sign"))
    tester = MemoryBus(broker, service="tester")
    await tester.start()
    await tester.declare(EVERYTHING)
    old = _process(database_url, broker, OLD)
    publishing: list[asyncio.Task[Sequence[Receipt]]] = []

    async def run() -> None:
        async with Running([old]) as running:
            await running.start()
            await versions.check(elsewhere, Catalog([definition]), (), SystemClock().now())
            publishing.append(asyncio.create_task(tester.publish([_begun()])))
            await running.failed()

    with pytest.raises(BadConfiguration, match="saga 'work' v1 was changed while this process ran"):
        await asyncio.wait_for(run(), PATIENCE)
    assert not old.bus.connected
    assert not publishing[0].done()
    async with asyncio.timeout(PATIENCE), Running([_process(database_url, broker, definition)]) as running:
        await running.start()
        assert list(await publishing[0]) == [Receipt.CONFIRMED]
    async with elsewhere.reading() as connection:
        (row,) = (await connection.execute(saga.select())).all()
    assert (row.id, row.status, row.step) == (saga_id("work", 1), "running", "dig")
    await tester.close()
