"""A batch's session knows its connection without a greenlet, and is otherwise SQLAlchemy's to the last refusal."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, event, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from contracts.message import Command
from messaging import schema
from messaging.database import Database
from messaging.outbox import OutboxMessage
from messaging.participant import Participant
from messaging.serving import ParticipantConsumer
from messaging.session import BatchSession
from messaging.work import Work
from tests.contract.messaging.bench import NOON, Bench, CountingEntropy, StillClock
from tests.contract.messaging.parcels import Ordered, Pack, done, note, packer

Step = Callable[[AsyncSession], Awaitable[Any]]


async def _rows(db: AsyncSession) -> int:
    return (await db.execute(select(func.count()).select_from(schema.inbox))).scalar_one()


async def _asked(db: AsyncSession) -> AsyncConnection:
    return await db.connection()


async def _added(db: AsyncSession) -> None:
    """Begins the session's own transaction, and asks for no connection yet."""
    db.add(OutboxMessage())
    db.expunge_all()


async def _committed(db: AsyncSession) -> None:
    await db.commit()


async def _undone(db: AsyncSession) -> None:
    await db.rollback()


async def _closed(db: AsyncSession) -> None:
    await db.close()


async def _is_begun(db: AsyncSession) -> bool:
    return db.in_transaction()


async def _in_a_block(db: AsyncSession) -> int:
    """As a handler may that keeps together what belongs together."""
    async with db.begin():
        return await _rows(db)


async def _in_savepoint(db: AsyncSession) -> tuple[AsyncConnection, bool]:
    async with db.begin_nested():
        found = await db.connection()
        return found, found.in_nested_transaction()


async def _in_savepoint_undone(db: AsyncSession) -> AsyncConnection:
    savepoint = await db.begin_nested()
    await savepoint.rollback()
    return await db.connection()


STEPS: dict[str, tuple[Step, ...]] = {
    "asked": (_asked, _asked, _rows),
    "read before": (_rows, _asked),
    "in a savepoint": (_asked, _in_savepoint, _asked),
    "after a savepoint": (_in_savepoint_undone, _rows),
    "committed": (_asked, _committed, _asked, _rows),
    "rolled back": (_asked, _undone, _asked, _rows),
    "added, then asked": (_added, _asked, _asked),
    "closed": (_asked, _closed, _asked, _rows),
    "begun by nobody": (_is_begun, _asked, _is_begun),
    "in a block": (_in_a_block, _asked, _in_a_block),
    "in two blocks": (_in_a_block, _in_a_block, _rows),
    "begun, then in a block": (_rows, _in_a_block),
    "rolled back at first": (_undone, _asked, _rows),
    "committed at first": (_committed, _is_begun, _asked, _rows),
    "closed at first": (_closed, _is_begun, _asked, _rows),
}


async def _told(database: Database, make: Callable[[AsyncConnection], AsyncSession], steps: tuple[Step, ...]) -> Any:
    """What comes of each step, and whether the transaction is there afterwards."""
    told: list[object] = []
    async with database.engine.connect() as connection:
        transaction = await connection.begin()
        db = make(connection)
        for step in steps:
            try:
                found = await step(db)
            except SQLAlchemyError as error:
                told.append((type(error), str(error).partition("\n")[0]))
            else:
                first, *rest = found if isinstance(found, tuple) else (found,)
                told.append((first is connection if isinstance(first, AsyncConnection) else first, *rest))
        told.append((transaction.is_active, connection.in_transaction()))
        await db.close()
        if transaction.is_active:
            await transaction.rollback()
    return told


def _plain(connection: AsyncConnection) -> AsyncSession:
    return AsyncSession(
        connection, join_transaction_mode="rollback_only", expire_on_commit=False, close_resets_only=False
    )


def _joined(connection: AsyncConnection) -> BatchSession:
    session = BatchSession(connection, {})
    session.join()
    return session


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
async def test_it_does_what_a_plain_session_does(database: Database, steps: tuple[Step, ...]) -> None:
    """Joined beforehand or not: the same connection, the same refusals, the same left of the transaction."""
    expected = await _told(database, _plain, steps)
    assert await _told(database, lambda connection: BatchSession(connection, {}), steps) == expected
    assert await _told(database, _joined, steps) == expected


@pytest.mark.parametrize("joined", [False, True])
async def test_who_hears_that_a_session_begins_may_ask_the_database(database: Database, joined: bool) -> None:
    """As somebody may who sets a tenant: it is told when the handler asks, and not while the inbox is looked at."""
    told: list[int] = []

    def begun(_session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
        told.append(connection.execute(text("SELECT 7")).scalar_one())

    event.listen(Session, "after_begin", begun)
    try:
        async with database.engine.connect() as connection, connection.begin():
            session = _joined(connection) if joined else BatchSession(connection, {})
            assert told == []
            await _added(session)
            assert [await session.connection() is connection, await session.connection() is connection] == [True, True]
            await session.close()
    finally:
        event.remove(Session, "after_begin", begun)
    assert told == [7]


async def test_who_listens_from_the_handler_on_is_told_as_well(database: Database) -> None:
    """Its session has been made ready by then, and has not begun."""
    told: list[str] = []

    def listen(session: BatchSession) -> None:
        event.listen(session.sync_session, "after_transaction_create", lambda *_: told.append("created"))
        event.listen(session.sync_session, "after_begin", lambda *_: told.append("begun"))

    async with database.engine.connect() as connection, connection.begin():
        session = _joined(connection)
        listen(session)
        assert await session.connection() is connection
        assert told == ["created", "begun"]
        await session.close()


async def test_what_was_made_ready_is_not_used_where_the_connection_has_moved_on(database: Database) -> None:
    """A savepoint of the connection's own is what the session joins then, and takes back."""
    async with database.engine.connect() as connection, connection.begin() as transaction:
        session = _joined(connection)
        savepoint = await connection.begin_nested()
        assert await _rows(session) == 0
        await session.rollback()
        assert (savepoint.is_active, transaction.is_active) == (False, True)
        await session.close()


async def test_a_session_that_was_only_made_ready_is_no_garbage(database: Database) -> None:
    """It goes when it is closed, and not when somebody looks for what refers to itself."""
    gc.disable()
    try:
        async with database.engine.connect() as connection, connection.begin():
            session = _joined(connection)
            session.sync_session.close()
            left = weakref.ref(session.sync_session)
            del session
            assert left() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("over", [False, True])
async def test_a_session_is_made_while_the_inbox_is_looked_at(bench: Bench, over: bool) -> None:
    """And the answer's name worked out; but not for a batch that is over by then."""
    consumer = ParticipantConsumer(packer(), clock=StillClock(), entropy=CountingEntropy())
    received: Any = consumer.read(bench.delivery(Pack(parcel="p1")))
    assert isinstance(received.message, Command)
    async with bench.database.transaction() as connection:
        work = Work(connection, NOON, "depot", "depot")
        consumer.begin(work, [received], ())
        if over:
            await work.close()
        await asyncio.sleep(0)
        made = work._session
        assert (made is None) is over
        assert (received.envelope.id in work.answer_ids) is not over
        if made is not None:
            assert not made.sync_session.in_transaction()
            assert made._joined is not None
            assert await made.connection() is connection
            assert made.sync_session.get_transaction() is made._joined
        await work.close()


@pytest.mark.parametrize("order", [(1, 2), (2, 1), (2,)], ids=["last", "first", "alone"])
async def test_a_handler_that_rolls_back_is_a_dead_letter_and_undoes_nobody_else(
    bench: Bench, order: tuple[int, ...]
) -> None:
    """Its inbox row would be gone with its batch's, and nothing would say that its message had ever come."""
    participant = Participant("depot")

    @participant.on(Ordered)
    async def ordered(event: Ordered, db: AsyncSession) -> None:
        await note(db, event.parcel, "ordered")
        if event.note:
            await db.rollback()

    notes = {1: "", 2: "roll back"}
    await bench.serve(participant)
    sent = [bench.delivery(Ordered(parcel=f"p{each}", note=notes[each]), id=UUID(int=each)) for each in order]
    await bench.handle(*sent)
    assert await done(bench.database) == [("p1", "ordered")] * (1 in order)
    assert await bench.letters() == [("handler_failed", str(UUID(int=2)))]
    assert "BatchUndone: a handler has rolled its session back" in (await bench.rows(schema.dead_letter))[0].error


@pytest.mark.parametrize("order", [(1, 2, 3), (2, 1), (2,)], ids=["between", "first", "alone"])
async def test_a_handler_that_leaves_a_savepoint_open_is_a_dead_letter_and_takes_nobody_along(
    bench: Bench, order: tuple[int, ...]
) -> None:
    """What it and those behind it did would be undone with its savepoint, and all of them answered."""
    participant = Participant("depot")

    @participant.on(Ordered)
    async def ordered(event: Ordered, db: AsyncSession) -> None:
        if event.note == "session":
            _ = await db.begin_nested()
        elif event.note:
            _ = await (await db.connection()).begin_nested()
        await note(db, event.parcel, "ordered")

    await bench.serve(participant)
    for each in ("session", "connection"):
        notes = {1: "", 2: each, 3: ""}
        sent = [Ordered(parcel=f"{each}{number}", note=notes[number]) for number in order]
        await bench.handle(*(bench.delivery(event) for event in sent))
        assert {parcel for parcel, _ in await done(bench.database) if parcel.startswith(each)} == {
            f"{each}{number}" for number in order if number != 2
        }
    letters = await bench.rows(schema.dead_letter)
    assert [letter.reason for letter in letters] == ["handler_failed"] * 2
    assert all("SavepointOpen: a handler has left a savepoint open" in letter.error for letter in letters)


async def test_a_handler_may_put_what_it_does_into_a_block(bench: Bench) -> None:
    """As code that is written for any session does: it begins, and what it commits is committed with its batch."""
    participant = Participant("depot")

    @participant.on(Ordered)
    async def ordered(event: Ordered, db: AsyncSession) -> None:
        async with db.begin():
            await note(db, event.parcel, "ordered")

    await bench.serve(participant)
    await bench.handle(bench.delivery(Ordered(parcel="p1")))
    await bench.handle(bench.delivery(Ordered(parcel="p2")))
    await bench.handle(bench.delivery(Ordered(parcel="p3")), bench.delivery(Ordered(parcel="p4")))
    assert await done(bench.database) == [(parcel, "ordered") for parcel in ("p1", "p2", "p3", "p4")]
    assert await bench.letters() == []
