"""What waits in an outbox and in `deferred`, told on both databases."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from messaging import deferred, inbox, schema
from messaging.deferred import DeferredRow
from messaging.inbox import Status
from messaging.waiting import Ahead, DeferredWaiting, Filter, OutboxWaiting, deferred_waiting, outbox_waiting
from tests.contract.messaging.bench import NOON, Bench, row


async def _outbox(bench: Bench, **wanted: object) -> tuple[list[int], int]:
    async with bench.database.reading() as connection:
        found = await outbox_waiting(connection, NOON + timedelta(minutes=5), Filter(**wanted))  # type: ignore[arg-type]
    return [each.message_id.int for each in found.rows], found.total


async def test_an_outbox_row_tells_what_it_stands_behind(bench: Bench) -> None:
    """A row names the oldest pending row of its key with that one's error, and no row of another key."""
    first, second, other, third = await bench.commit_rows([row(1, "a"), row(2, "a"), row(3, "b"), row(4, "a")])
    async with bench.database.transaction() as connection:
        await connection.execute(
            schema.outbox.update().where(schema.outbox.c.id == first).values(attempts=7, last_error="unroutable")
        )
    async with bench.database.reading() as connection:
        found = await outbox_waiting(connection, NOON + timedelta(seconds=90), Filter())
    assert found.total == 4
    assert found.rows[0] == OutboxWaiting(
        id=first,
        type="parcel.packed",
        key="a",
        message_id=UUID(int=1),
        correlation_id=None,
        exchange="amends.events",
        created_at=NOON,
        age=90.0,
        attempts=7,
        available_at=NOON,
        last_error="unroutable",
        stands_behind=None,
    )
    behind = Ahead(first, "parcel.packed", 7, "unroutable")
    assert [(each.id, each.stands_behind) for each in found.rows[1:]] == [
        (second, behind),
        (other, None),
        (third, behind),
    ]


async def test_outbox_rows_without_a_key_stand_behind_nothing(bench: Bench) -> None:
    """Only a shared key makes one row wait for another."""
    await bench.commit_rows([row(1), row(2)])
    async with bench.database.reading() as connection:
        found = await outbox_waiting(connection, NOON, Filter())
    assert [each.stands_behind for each in found.rows] == [None, None]


async def test_the_outbox_is_listed_by_type_age_and_number(bench: Bench) -> None:
    """The oldest come first; the total counts what the conditions fit, whatever the limit."""
    await bench.commit_rows([row(1), row(2), row(3)])
    async with bench.database.transaction() as connection:
        young = schema.outbox.c.message_id == UUID(int=3)
        await connection.execute(
            schema.outbox.update().where(young).values(created_at=NOON + timedelta(minutes=4), type="parcel.sent")
        )
    assert await _outbox(bench) == ([1, 2, 3], 3)
    assert await _outbox(bench, limit=1) == ([1], 3)
    assert await _outbox(bench, type="parcel.sent") == ([3], 1)
    assert await _outbox(bench, older_than=timedelta(minutes=5)) == ([1, 2], 2)
    assert await _outbox(bench, older_than=timedelta(minutes=6)) == ([], 0)


async def test_a_deferred_message_tells_why_and_whether_its_call_is_under_way(bench: Bench) -> None:
    """A row whose inbox entry says `started` waits for a call outside, the others for their time."""
    waits = DeferredRow(
        UUID(int=1), "depot.in", "parcel.pack", "saga-1", "{}", NOON, NOON + timedelta(minutes=2), 3, "no box"
    )
    calls = DeferredRow(
        UUID(int=2), "depot.in", "parcel.pay", None, "{}", NOON + timedelta(minutes=1), NOON + timedelta(hours=1), 1, ""
    )
    async with bench.database.transaction() as connection:
        await inbox.claim(connection, "depot", [UUID(int=1)], NOON, Status.DEFERRED)
        await inbox.claim(connection, "depot", [UUID(int=2)], NOON, Status.STARTED)
        await deferred.put_off(connection, "depot", [waits, calls])
    async with bench.database.reading() as connection:
        found = await deferred_waiting(connection, NOON + timedelta(minutes=3), Filter())
        young = await deferred_waiting(connection, NOON + timedelta(minutes=3), Filter(type="parcel.pay"))
        old = await deferred_waiting(
            connection, NOON + timedelta(minutes=3), Filter(older_than=timedelta(minutes=3), limit=5)
        )
    assert found.rows[0] == DeferredWaiting(
        id=found.rows[0].id,
        type="parcel.pack",
        consumer="depot",
        message_id=UUID(int=1),
        correlation_id="saga-1",
        queue="depot.in",
        first_at=NOON,
        age=180.0,
        attempts=3,
        due_at=NOON + timedelta(minutes=2),
        last_error="no box",
        started=False,
    )
    assert [(each.message_id.int, each.started, each.age) for each in found.rows] == [(1, False, 180.0), (2, True, 120)]
    assert [each.message_id.int for each in young.rows] == [2]
    assert ([each.message_id.int for each in old.rows], old.total) == ([1], 1)
