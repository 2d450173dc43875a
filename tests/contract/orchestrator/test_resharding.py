"""Moving instances to databases that are added, on both kinds of database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from messaging import bulk, inbox, schema
from messaging.clock import SystemClock
from messaging.consumer import Batch
from messaging.database import Database
from messaging.work import Work
from orchestrator import stamping
from orchestrator.catalog import Catalog
from orchestrator.engine import Engine
from orchestrator.operations.action import Operator, Result
from orchestrator.resharding import Moved, NotReady, reshard
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.schema import parked_event, saga, saga_attribute, saga_definition, saga_history, saga_shard
from orchestrator.sharding import ALONE, Placement, shard_of
from orchestrator.timers import DeadlineDue
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.conftest import make_tables

IDS = [UUID(int=(number << 64) + number) for number in range(1, 41)]
EARLY = next(each for each in (UUID(int=number) for number in range(100, 200)) if shard_of(each, 2) == 1)
"""An instance of which only an early event is there."""
GOING = [each for each in IDS if shard_of(each, 2) == 1]


@pytest.fixture(params=["sqlite", "postgresql"])
async def three(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Database]]:
    """Databases with tables; the first holds forty instances and an early event."""
    if request.param == "sqlite":
        urls = [f"sqlite:///{tmp_path / str(number)}.db" for number in range(3)]
    else:
        fresh: Callable[[], str] = request.getfixturevalue("fresh_postgres")
        urls = [fresh() for _ in range(3)]
    databases = [Database(url) for url in urls]
    for each in databases:
        await make_tables(each)
    await _fill(databases[0])
    yield databases
    for each in databases:
        await each.close()


async def test_an_instance_moves_with_all_that_is_its_own(three: list[Database]) -> None:
    """Row, history, attributes and parked events go, each once; what belongs here stays; definitions are in both."""
    assert await reshard(three[:2], dry_run=True) == [Moved(0, 1, len(GOING) + 1)]
    assert await _ids(three[0], saga.c.id) == set(IDS)

    assert await reshard(three[:2]) == [Moved(0, 1, len(GOING) + 1)]

    for column in (saga.c.id, saga_history.c.saga_id, saga_attribute.c.saga_id):
        assert await _ids(three[1], column) == set(GOING)
        assert await _ids(three[0], column) == set(IDS) - set(GOING)
    assert await _ids(three[0], parked_event.c.saga_id) == set()
    assert await _ids(three[1], parked_event.c.saga_id) == {EARLY}
    assert await _ids(three[1], saga_definition.c.name) == {"work"}
    assert [await _stamp(each) for each in three] == [Placement(0, 2), Placement(1, 2), None]
    assert await reshard(three[:2]) == []


async def test_cut_short_it_goes_on_where_it_was(three: list[Database], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost, nothing is there twice in the end, and until then no process starts."""

    async def torn(*_: Any) -> list[Any]:
        raise OSError("the machine is gone")

    with monkeypatch.context() as broken:
        broken.setattr(bulk, "delete", torn)
        with pytest.raises(OSError, match="gone"):
            await reshard(three[:2])
    assert await _ids(three[0], saga.c.id) == set(IDS)
    assert await _ids(three[1], saga.c.id) == set(GOING)
    for number in (0, 1):
        with pytest.raises(stamping.WrongShard, match="is being resharded"):
            await stamping.check(three[number], Placement(number, 2))

    assert await reshard(three[:2]) == [Moved(0, 1, len(GOING) + 1)]

    assert await _ids(three[0], saga.c.id) == set(IDS) - set(GOING)
    assert await _ids(three[1], saga.c.id) == set(GOING)
    await stamping.check(three[1], Placement(1, 2))


async def test_what_would_lose_instances_is_refused(three: list[Database]) -> None:
    """A filled database that is added, another order, one that is left out; each is named, and nothing is moved."""
    with pytest.raises(NotReady, match="holds sagas of its own"):
        await reshard([three[1], three[0]])
    assert [await _stamp(each) for each in three] == [None, None, None]
    await reshard(three)
    with pytest.raises(NotReady, match="not number 1; mend the order"):
        await reshard([three[0], three[2], three[1]])
    with pytest.raises(NotReady, match="is one of 3 shards; they are not taken away"):
        await reshard(three[:2])


async def test_an_instance_with_a_command_still_to_be_sent_stays(three: list[Database]) -> None:
    """Its next command, from the other database, could come before it."""
    async with three[0].transaction() as connection:
        row: dict[str, Any] = dict.fromkeys(("exchange", "routing_key", "type", "source", "body"), "x")
        row |= {"key": str(GOING[0]), "message_id": UUID(int=1), "created_at": NOON, "available_at": NOON}
        await connection.execute(schema.outbox.insert(), row)

    with pytest.raises(NotReady, match=f"still has messages to send, of {GOING[0]}"):
        await reshard(three[:2])

    async with three[0].transaction() as connection:
        await connection.execute(schema.outbox.delete())
    assert await reshard(three[:2]) == [Moved(0, 1, len(GOING) + 1)]


async def test_parked_events_keep_the_order_in_which_they_came(three: list[Database]) -> None:
    """Also where a row has been rewritten since, and lies behind the younger ones in its table."""
    early: dict[str, Any] = dict.fromkeys(("name", "type", "queue", "body", "reason"), "x")
    early |= {"saga_id": EARLY, "parked_at": NOON, "retry_at": NOON}
    async with three[0].transaction() as connection:
        await connection.execute(parked_event.insert(), [early | {"message_id": UUID(int=each)} for each in (8, 9)])
        await connection.execute(update(parked_event).where(parked_event.c.message_id == UUID(int=7)).values(name="y"))

    await reshard(three[:2])

    async with three[1].reading() as connection:
        query = select(parked_event.c.message_id).order_by(parked_event.c.id)
        found = (await connection.execute(query)).scalars().all()
    assert list(found) == [UUID(int=7), UUID(int=8), UUID(int=9)]


async def test_what_an_instance_has_taken_in_is_known_where_it_goes(three: list[Database]) -> None:
    """Delivered once more after the move, it is dropped there: the inbox knows what the history and parked events do.

    Had it been forgotten, an event that a saga waits for twice would be taken for the second one.
    """
    taken = UUID(int=77)
    given = json.dumps({"kind": "event", "at": NOON.isoformat(), "message_id": str(taken)})
    async with three[0].transaction() as connection:
        await connection.execute(
            update(saga_history).where(saga_history.c.saga_id == GOING[0], saga_history.c.seq == 2).values(input=given)
        )

    await reshard(three[:2])

    async with three[1].reading() as connection:
        known = await inbox.entries(connection, "orchestrator", [taken, UUID(int=7), UUID(int=78)])
    assert known == {taken: inbox.Entry(inbox.Status.DONE), UUID(int=7): inbox.Entry(inbox.Status.DONE)}


async def test_what_one_of_several_shards_has_taken_in_another_may_still_have_to(three: list[Database]) -> None:
    """An event for two instances may wait on the queue of one shard while the other is done: both go to the third."""
    taken = UUID(int=77)
    given = json.dumps({"kind": "event", "at": NOON.isoformat(), "message_id": str(taken)})
    async with three[0].transaction() as connection:
        await connection.execute(update(saga_history).where(saga_history.c.seq == 2).values(input=given))
    await reshard(three[:2])

    assert [(each.source, each.target) for each in await reshard(three)] == [(0, 2), (1, 2)]

    async with three[2].reading() as connection:
        assert await inbox.entries(connection, "orchestrator", [taken]) == {}


async def test_whoever_runs_without_shards_ends_once_they_are_made(three: list[Database]) -> None:
    """Its database says that it was its own from its first start on, and is not its own any more."""
    await stamping.check(three[0], ALONE)
    await reshard(three[:2])

    async with three[0].transaction() as connection:
        work = Work(connection, NOON, "orchestrator", "orchestrator")
        with pytest.raises(stamping.WrongShard, match="is shard 0 of 2, and this process has no shards"):
            await Engine(Catalog([])).handle(work, Batch(ticks=[DeadlineDue(GOING[0])]))


async def test_a_process_that_starts_while_another_writes_the_stamp_finds_it(three: list[Database]) -> None:
    """On PostgreSQL; SQLite has one writer at a time."""
    if three[1].dialect == "sqlite":
        await stamping.check(three[1], Placement(1, 2))
        assert await _stamp(three[1]) == Placement(1, 2)
        return
    async with three[1].transaction() as connection:
        await connection.execute(saga_shard.insert(), {"number": 1, "shards": 2})
        starting = asyncio.create_task(stamping.check(three[1], Placement(1, 2)))
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = :what"
        )
        while not (await connection.execute(waiting, {"what": "transactionid"})).scalar_one():
            # What is seen of others stays as it was for the rest of a transaction.
            await connection.execute(text("SELECT pg_stat_clear_snapshot()"))
            assert not starting.done()
            await asyncio.sleep(0.01)
    await starting
    assert await _stamp(three[1]) == Placement(1, 2)


async def test_nobody_acts_on_an_instance_while_it_may_be_in_two_places(three: list[Database]) -> None:
    """A person neither: what is done to one of the two copies would be undone with the other."""
    async with three[0].transaction() as connection:
        await connection.execute(saga_shard.insert(), {"number": 0, "shards": -2})

    operator = Operator(three[0], Catalog([]), SystemClock())
    said = await operator.act(GOING[0], PersonActed(NOON, Action.ABANDON, "ada", "enough"))
    assert (said.result, "let `amends reshard` come to its end" in said.why) == (Result.REFUSED, True)


async def _fill(database: Database) -> None:
    rows = [
        {
            "id": each,
            "name": "work",
            "version": 1,
            "key": str(each),
            "status": "running",
            "step": "dig",
            "reason": "",
            "data": "{}",
            "progress": "{}",
            "revision": 2,
            "started_at": NOON,
            "updated_at": NOON,
        }
        for each in IDS
    ]
    transition = {"at": NOON, "input": "{}", "facts": "[]", "commands": "[]"}
    early: dict[str, Any] = dict.fromkeys(("name", "type", "queue", "body", "reason"), "x")
    early |= {"saga_id": EARLY, "message_id": UUID(int=7), "parked_at": NOON, "retry_at": NOON}
    definition = {"name": "work", "version": 1, "fingerprint": "f", "description": "{}", "seen_at": NOON}
    histories = [{"saga_id": each, "seq": seq} | transition for each in IDS for seq in (1, 2)]
    async with database.transaction() as connection:
        await connection.execute(saga.insert(), rows)
        await connection.execute(saga_history.insert(), histories)
        await connection.execute(
            saga_attribute.insert(), [{"saga_id": each, "name": "customer", "value": "ada"} for each in IDS]
        )
        await connection.execute(parked_event.insert(), early)
        await connection.execute(saga_definition.insert(), definition)


async def _ids(database: Database, column: Any) -> set[Any]:
    async with database.reading() as connection:
        found: Sequence[Any] = (await connection.execute(select(column))).scalars().all()
    return set(found)


async def _stamp(database: Database) -> Placement | None:
    async with database.reading() as connection:
        return await stamping.stamp(connection)
