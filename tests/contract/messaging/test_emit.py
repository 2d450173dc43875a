"""emit on both databases, sync and async: an event leaves if and only if its transaction commits."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, String, create_engine, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, reconstructor, sessionmaker

from contracts.message import Event
from messaging import schema
from messaging.database import Database
from messaging.envelope import Envelope, MessageTooLarge
from messaging.outbox import INFO, Emitting, collect, emit, emit_all
from messaging.relay import Relay
from tests.contract.messaging.bench import NOON, CountingEntropy, ScriptedBus, StillClock, numbers, until
from tests.contract.messaging.parcels import Ordered, Packed

CLOCK = StillClock()


class Base(DeclarativeBase):
    pass


class Box(Base):
    """An aggregate that records what happens to it."""

    __tablename__ = "box"
    name: Mapped[str] = mapped_column(String(40), primary_key=True)

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.pending_events: list[Event] = [Ordered(parcel=name)]

    @reconstructor
    def loaded(self) -> None:
        """SQLAlchemy makes loaded objects without calling __init__."""
        self.pending_events = []


class Counting(Session):
    """A session class of the application's own."""


@pytest.fixture
async def tables(database: Database) -> Database:
    """A database with the application's own table too."""
    async with database.transaction() as connection:
        await connection.run_sync(Base.metadata.create_all)
    return database


@pytest.fixture
def engine(tables: Database) -> Iterator[Engine]:
    """The same database for synchronous code."""
    drivers = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
    engine = create_engine(make_url(tables.url).set(drivername=drivers[tables.dialect]))
    if tables.dialect == "sqlite":

        @event.listens_for(engine, "connect")
        def no_transactions_of_the_driver(connection: Any, _record: Any) -> None:
            connection.isolation_level = None

        @event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN")

    yield engine
    engine.dispose()


@pytest.fixture
async def relay(tables: Database) -> AsyncIterator[tuple[Relay, ScriptedBus]]:
    """A relay that runs, and what it publishes."""
    bus = ScriptedBus()
    relay = Relay(tables, bus, StillClock())
    running = asyncio.create_task(relay.run())
    await asyncio.sleep(0)
    yield relay, bus
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def _info(relay: Relay | None = None, **given: Any) -> dict[str, Any]:
    return {INFO: Emitting(CLOCK, CountingEntropy(), "shop", relay, timedelta(seconds=10), **given)}


async def _parcels(database: Database) -> list[str]:
    async with database.reading() as connection:
        rows = await connection.execute(select(schema.outbox.c.body).order_by(schema.outbox.c.id))
        return [json.loads(body)["data"]["parcel"] for body in rows.scalars()]


async def test_an_event_emitted_in_a_synchronous_session_commits_with_it(tables: Database, engine: Engine) -> None:
    """Committed it lies in the outbox, whole; rolled back it was never there."""
    with Session(engine, info=_info()) as session, session.begin():
        identity = emit(session, Ordered(parcel="p1", note="kept"))
    with Session(engine, info=_info()) as session:
        emit(session, Ordered(parcel="p2"))
        session.flush()
        session.rollback()

    async with tables.reading() as connection:
        (row,) = (await connection.execute(select(schema.outbox))).all()
    assert row.message_id == identity
    assert (row.key, row.exchange, row.routing_key, row.type) == (
        "p1",
        "amends.events",
        "parcel.ordered",
        "parcel.ordered",
    )
    assert (row.source, row.correlation_id) == ("shop", None)
    assert (row.created_at, row.available_at) == (NOON, NOON + timedelta(seconds=10))
    assert json.loads(row.body) == {
        "specversion": "1.0",
        "id": str(identity),
        "source": "shop",
        "type": "parcel.ordered",
        "time": "2026-03-01T12:00:00Z",
        "datacontenttype": "application/json",
        "dataversion": 1,
        "partitionkey": "p1",
        "data": {"parcel": "p1", "note": "kept"},
    }


async def test_an_event_emitted_in_an_async_session_commits_with_it(tables: Database) -> None:
    """The same function, unchanged."""
    async with AsyncSession(tables.engine, info=_info()) as session, session.begin():
        emit(session, Ordered(parcel="p1"))
    async with AsyncSession(tables.engine, info=_info()) as session:
        emit(session, Ordered(parcel="p2"))
        await session.flush()
        await session.rollback()

    assert await _parcels(tables) == ["p1"]


async def test_key_id_and_cause_can_be_given(tables: Database) -> None:
    """What the caller knows goes before what the contract says."""
    cause = Envelope(UUID(int=5), "t.t", 1, "s", NOON, correlation_id="saga-1", traceparent="00-1-1-01")
    async with tables.session(**_info(cause=cause)) as session:
        emit(session, Ordered(parcel="p1"), key="k", message_id=UUID(int=9))

    async with tables.reading() as connection:
        (row,) = (await connection.execute(select(schema.outbox))).all()
    content = json.loads(row.body)
    assert (row.key, row.message_id, row.correlation_id) == ("k", UUID(int=9), "saga-1")
    assert (content["causationid"], content["traceparent"]) == (str(UUID(int=5)), "00-1-1-01")


def test_an_event_that_no_reader_would_take_is_refused_where_it_is_emitted() -> None:
    """The caller hears of it, not the broker."""
    session = Session(info=_info())

    with pytest.raises(MessageTooLarge):
        emit(session, Ordered(parcel="p1", note="x" * 300_000))
    assert list(session.new) == []


def test_a_class_without_a_wire_type_is_refused() -> None:
    """An event that nobody can name cannot travel."""

    class Nameless(Event):
        pass

    with pytest.raises(TypeError, match="Nameless names no wire type"):
        emit(Session(info=_info()), Nameless())


async def test_a_session_without_settings_emits_all_the_same(tables: Database) -> None:
    """An application that sets nothing up: the source is the first word of the type, and any sweeper may send."""
    async with tables.session() as session:
        emit(session, Ordered(parcel="p1"))
    bus = ScriptedBus()
    await Relay(tables, bus, StillClock(), interval=0.01).sweep()
    assert numbers(bus.published) == []  # the clock of the test stands in the past

    from messaging.clock import SystemClock

    await Relay(tables, bus, SystemClock()).sweep()
    assert [(each.type, each.app_id) for each in bus.published] == [("parcel.ordered", "parcel")]


async def test_a_commit_in_another_thread_is_published_at_once(
    tables: Database, engine: Engine, relay: tuple[Relay, ScriptedBus]
) -> None:
    """A synchronous web application hands its events to the relay of the process, from whatever thread."""
    running, bus = relay

    def work() -> None:
        with Session(engine, info=_info(running)) as session, session.begin():
            emit(session, Ordered(parcel="p1"))
            emit(session, Ordered(parcel="p1", note="second"))

    thread = threading.Thread(target=work)
    thread.start()
    await asyncio.to_thread(thread.join)
    await until(lambda: len(bus.published) == 2, "both are published")

    assert [json.loads(each.body)["data"]["note"] for each in bus.published] == ["", "second"]


async def test_nothing_of_a_rolled_back_savepoint_is_published(
    tables: Database, relay: tuple[Relay, ScriptedBus]
) -> None:
    """A savepoint takes its events with it; what stays is sent, at once or by the sweeper."""
    running, bus = relay
    async with tables.session(**_info(running)) as session:
        emit(session, Ordered(parcel="before"))
        await session.flush()
        nested = await session.begin_nested()
        emit(session, Ordered(parcel="inside"))
        await session.flush()
        await nested.rollback()
        async with session.begin_nested():
            emit(session, Ordered(parcel="kept"))
        emit(session, Ordered(parcel="after"))
        await session.flush()
        assert bus.published == []

    assert await _parcels(tables) == ["before", "kept", "after"]
    assert isinstance(running._sweeper._clock, StillClock)
    async with asyncio.timeout(30):
        while len({each.message_id for each in bus.published}) < 3:
            running._sweeper._clock.advance(15)
            await asyncio.sleep(0.005)
    sent = {json.loads(each.body)["data"]["parcel"] for each in bus.published}
    assert sent == {"before", "kept", "after"}


async def test_a_session_in_somebody_elses_transaction_publishes_nothing_of_its_own(
    tables: Database, relay: tuple[Relay, ScriptedBus]
) -> None:
    """A session's commit inside an outer transaction is no commit: what the outer one rolls back never leaves."""
    running, bus = relay
    async with tables.engine.connect() as connection:
        outer = await connection.begin()
        async with AsyncSession(connection, info=_info(running), join_transaction_mode="create_savepoint") as session:
            emit(session, Ordered(parcel="p1"))
            await session.commit()
        await outer.rollback()
    async with tables.session(**_info(running)) as session:
        emit(session, Ordered(parcel="p2"))
    await until(lambda: len(bus.published) >= 1, "the second is published")

    assert [json.loads(each.body)["data"]["parcel"] for each in bus.published] == ["p2"]


async def test_a_session_that_lives_long_remembers_nothing(tables: Database) -> None:
    """Commit after commit, a session without a relay of its own keeps no list of what it has written."""
    async with AsyncSession(tables.engine, info=_info()) as session:
        for number in range(3):
            emit(session, Ordered(parcel=f"p{number}"))
            await session.commit()

        assert set(session.info) == {INFO}


# -- events recorded by aggregates -----------------------------------------------------------------------------


async def test_a_sessionmaker_collects_what_aggregates_record(tables: Database, engine: Engine) -> None:
    """Each recorded event is emitted once, new object or loaded, changed or not."""
    sessions = sessionmaker(engine, info=_info())
    collect(sessions)
    with sessions.begin() as session:
        session.add(Box("p1"))
        session.flush()
        session.flush()
    with sessions.begin() as session:
        box = session.get_one(Box, "p1")
        box.pending_events.append(Packed(parcel="p1"))
    with sessions.begin() as session:
        session.get_one(Box, "p1")
    with Session(engine, info=_info()) as plain, plain.begin():
        plain.add(Box("p2"))

    async with tables.reading() as connection:
        rows = (
            await connection.execute(select(schema.outbox.c.type, schema.outbox.c.key).order_by(schema.outbox.c.id))
        ).all()
    assert [tuple(row) for row in rows] == [("parcel.ordered", "p1"), ("parcel.packed", "p1")]


async def test_what_an_aggregate_records_outlives_the_last_reference_to_it(tables: Database, engine: Engine) -> None:
    """An aggregate loaded in a function, unchanged and forgotten, still has its events emitted."""
    sessions = sessionmaker(engine, info=_info())
    collect(sessions)

    def pack(session: Session) -> None:
        session.get_one(Box, "p1").pending_events.append(Packed(parcel="p1"))

    with sessions.begin() as session:
        session.add(Box("p1"))
    with sessions.begin() as session:
        pack(session)
        gc.collect()

    async with tables.reading() as connection:
        types = (await connection.execute(select(schema.outbox.c.type).order_by(schema.outbox.c.id))).scalars().all()
    assert types == ["parcel.ordered", "parcel.packed"]


async def test_an_async_sessionmaker_collects_and_keeps_its_own_session_class(tables: Database) -> None:
    """The application's own synchronous session class is still what lies below."""
    sessions = async_sessionmaker(tables.engine, info=_info(), sync_session_class=Counting)
    collect(sessions)
    other = async_sessionmaker(tables.engine, info=_info(), sync_session_class=Counting)
    async with sessions.begin() as session:
        assert isinstance(session.sync_session, Counting)
        session.add(Box("p1"))
    async with other.begin() as session:
        session.add(Box("p2"))

    assert await _parcels(tables) == ["p1"]


async def test_a_session_class_collects(tables: Database, engine: Engine) -> None:
    """A class of the application's own, for all its sessions; others are left alone."""

    class Collecting(Session):
        pass

    collect(Collecting)
    with Collecting(engine, info=_info()) as session, session.begin():
        session.add(Box("p1"))

    assert await _parcels(tables) == ["p1"]


async def test_events_emitted_on_a_connection_commit_with_it(
    tables: Database, relay: tuple[Relay, ScriptedBus]
) -> None:
    """Without a session: rolled back they were never there; committed they lie in the outbox and leave at once."""
    emitting: Emitting = _info(relay[0])[INFO]
    async with tables.engine.connect() as connection:
        await emit_all(connection, [Ordered(parcel="p0")], emitting)
        await connection.rollback()
    async with tables.transaction() as connection:
        emitted = await emit_all(connection, [Ordered(parcel="p1"), Packed(parcel="p1")], emitting)
        assert relay[1].published == []
    emitting.committed(emitted)
    await until(lambda: len(relay[1].published) == 2, "both are published")

    assert [(each.type, each.app_id) for each in relay[1].published] == [
        ("parcel.ordered", "shop"),
        ("parcel.packed", "shop"),
    ]
    assert await _parcels(tables) == ["p1", "p1"]


async def test_an_event_emitted_on_a_connection_waits_for_an_older_one_of_its_key(
    tables: Database, relay: tuple[Relay, ScriptedBus]
) -> None:
    """An older row that somebody else is to send goes first: the younger one is left to the sweepers, too."""
    async with AsyncSession(tables.engine, info=_info()) as session, session.begin():
        emit(session, Ordered(parcel="p1", note="older"))
    emitting: Emitting = _info(relay[0])[INFO]
    async with tables.transaction() as connection:
        emitted = await emit_all(connection, [Packed(parcel="p1"), Packed(parcel="p2")], emitting)
    emitting.committed(emitted)
    await until(lambda: len(relay[1].published) == 1, "the other key's is published")

    assert [json.loads(each.body)["data"]["parcel"] for each in relay[1].published] == ["p2"]


def test_what_a_message_leads_to_is_emitted_as_all_else() -> None:
    """With its cause, and everything else as it was, whatever an Emitting will have."""
    given: dict[str, Any] = {each.name: object() for each in fields(Emitting)}
    cause: Any = object()
    assert Emitting(**given).caused_by(cause) == replace(Emitting(**given), cause=cause)
