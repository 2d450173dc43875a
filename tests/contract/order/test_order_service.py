"""The order service's handlers and tables, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event, inspect
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.fulfillment import FulfillmentCompleted, FulfillmentFailed
from contracts.money import Money
from contracts.order import CancelOrder, ConfirmOrder, OrderCanceled, OrderConfirmed, OrderRejected
from messaging import migrate
from messaging.database import Database
from services.order import store
from services.order.domain import Line, Order, OrderConflict, OrderStatus
from services.order.handlers import cancel_orders, complete_orders, note_failures, participant

Shop = Callable[..., Awaitable[list[UUID]]]
ELSEWHERE = UUID(int=999)


async def confirm(
    database: Database, ids: Sequence[UUID], default_stock: int | None = None
) -> list[OrderConfirmed | OrderRejected]:
    """Send the confirmations through the registered handler, as the worker does."""
    handler = participant(default_stock=default_stock).handlers["order.confirm"]
    async with database.session() as db:
        answers = await handler.call([ConfirmOrder(order_id=each) for each in ids], db)
    return list(answers)


async def cancel(database: Database, ids: Sequence[UUID], reason: str = "card_declined") -> Any:
    """Cancel them in one batch."""
    async with database.session() as db:
        return await cancel_orders([CancelOrder(order_id=each, reason=reason) for each in ids], db)


async def complete(database: Database, ids: Sequence[UUID], cents: int) -> None:
    """Tell of them all in one batch that so much was captured."""
    money = Money(amount=cents, currency="USD")
    async with database.session() as db:
        await complete_orders([FulfillmentCompleted(order_id=each, captured=money) for each in ids], db)


async def count(database: Database, sku: str, number: int) -> None:
    """Say how many of the sku are on hand."""
    async with database.session() as db:
        await store.set_stock(db, sku, number)


async def on_hand(database: Database, *skus: str) -> dict[str, int]:
    """How many are on hand of those that are known."""
    async with database.reading() as connection:
        return await store.on_hand(connection, skus)


async def order(database: Database, order_id: UUID) -> Order:
    """The order as it is now."""
    async with database.reading() as connection:
        found = await store.find_order(connection, order_id)
    assert found is not None
    return found.order


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """What is sent to the database meanwhile; a statement for many rows is one."""
    sent: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "COMMIT")):
            sent.append(statement.split("\n", maxsplit=1)[0])

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    yield sent
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)


async def test_the_participant_answers_and_listens() -> None:
    """The service is called "order", answers two commands and reacts to the end of a fulfillment."""
    order_service = participant()
    assert order_service.name == "order"
    assert order_service.commands() == ("order.cancel", "order.confirm")
    assert order_service.events() == ("fulfillment.completed", "fulfillment.failed")


async def test_stock_is_served_first_come_first_served(database: Database, shop: Shop) -> None:
    """In one batch each order sees what its predecessors have left, and answers come in the commands' order."""
    await count(database, "CD", 5)
    a, b, c = await shop([Line("CD", 3, 300)], [Line("CD", 3, 300)], [Line("CD", 2, 0)])
    assert await confirm(database, [a, b, c, ELSEWHERE]) == [
        OrderConfirmed(order_id=a),
        OrderRejected(order_id=b, reason="out_of_stock", detail="CD: 3 wanted, 2 on hand"),
        OrderConfirmed(order_id=c),
        OrderRejected(order_id=ELSEWHERE, reason="unknown_order", detail="the order service has no such order"),
    ]
    assert await on_hand(database, "CD") == {"CD": 0}
    assert [(await order(database, each)).status.value for each in (a, b, c)] == [
        "confirmed",
        "placed",
        "confirmed",
    ]


async def test_an_order_twice_in_a_batch_takes_its_stock_once(database: Database, shop: Shop) -> None:
    """The second of two confirmations in one batch is answered like the first and takes nothing."""
    await count(database, "CD", 10)
    (a,) = await shop([Line("CD", 3, 300), Line("CD", 1, 100)])
    assert await confirm(database, [a, a]) == [OrderConfirmed(order_id=a), OrderConfirmed(order_id=a)]
    assert await confirm(database, [a]) == [OrderConfirmed(order_id=a)]
    assert await on_hand(database, "CD") == {"CD": 6}


async def test_an_uncounted_sku_gets_the_default_stock_once(database: Database, shop: Shop) -> None:
    """The default is given when a sku is first asked for, and never again."""
    a, b = await shop([Line("CD", 3, 300)], [Line("CD", 3, 300)])
    assert await confirm(database, [a], default_stock=5) == [OrderConfirmed(order_id=a)]
    answers = await confirm(database, [b], default_stock=5)
    assert answers == [OrderRejected(order_id=b, reason="out_of_stock", detail="CD: 3 wanted, 2 on hand")]


async def test_without_a_default_an_uncounted_sku_is_not_there(database: Database, shop: Shop) -> None:
    """No row, no stock, and none is made up."""
    (a,) = await shop([Line("CD", 1, 100)])
    answers = await confirm(database, [a])
    assert answers == [OrderRejected(order_id=a, reason="out_of_stock", detail="CD: 1 wanted, 0 on hand")]
    assert await on_hand(database, "CD") == {}


async def test_cancellation_gives_back_only_what_was_reserved(database: Database, shop: Shop) -> None:
    """A confirmed order returns its stock once, a placed or unknown one nothing; all are canceled."""
    await count(database, "CD", 10)
    a, b = await shop([Line("CD", 4, 400)], [Line("CD", 5, 500)])
    await confirm(database, [a])
    answers = await cancel(database, [a, b, a, ELSEWHERE])
    assert answers == [OrderCanceled(order_id=each) for each in (a, b, a, ELSEWHERE)]
    await cancel(database, [a], reason="again")
    assert await on_hand(database, "CD") == {"CD": 10}
    assert [(await order(database, each)).reason for each in (a, b)] == ["card_declined"] * 2


async def test_a_confirmation_behind_its_cancellation_is_refused(database: Database, shop: Shop) -> None:
    """An order canceled first never takes stock afterwards."""
    (a,) = await shop([Line("CD", 1, 100)])
    await cancel(database, [a])
    answers = await confirm(database, [a], default_stock=5)
    assert answers == [
        OrderRejected(order_id=a, reason="canceled", detail="canceled before it was confirmed: card_declined")
    ]


async def test_completion_stores_what_was_captured(database: Database, shop: Shop) -> None:
    """The end of a fulfillment completes the order; a repetition and an unknown order change nothing."""
    a, free = await shop([Line("CD", 1, 2933)], [Line("CD", 1, 0)])
    await confirm(database, [a, free], default_stock=5)
    await complete(database, [a, a, ELSEWHERE], 2933)
    await complete(database, [free], 0)
    completed = await order(database, a)
    assert (completed.status, completed.captured) == (OrderStatus.COMPLETED, 2933)
    assert (await order(database, free)).captured == 0


async def test_a_failure_adds_its_reason_only_where_there_is_none(database: Database, shop: Shop) -> None:
    """What the cancellation said stays."""
    a, b = await shop([Line("CD", 1, 1)], [Line("CD", 1, 1)])
    await cancel(database, [a])
    async with database.session() as db:
        events = [FulfillmentFailed(order_id=each, reason="abandoned") for each in (a, b, ELSEWHERE)]
        await note_failures(events, db)
    assert [(await order(database, each)).reason for each in (a, b)] == ["card_declined", "abandoned"]


async def test_a_conflict_writes_nothing(database: Database, shop: Shop) -> None:
    """Canceling a completed order is raised, and the rest of its transaction is undone."""
    a, b = await shop([Line("CD", 1, 1)], [Line("CD", 1, 1)])
    await confirm(database, [a], default_stock=5)
    await complete(database, [a], 1)
    with pytest.raises(OrderConflict, match="completed and paid"):
        await cancel(database, [b, a])
    assert (await order(database, b)).status is OrderStatus.PLACED


@pytest.mark.parametrize("size", [1, 60])
async def test_statements_do_not_grow_with_the_batch(database: Database, shop: Shop, size: int) -> None:
    """One order or sixty with two skus each: the same few statements."""
    await count(database, "CD", 1000)
    await count(database, "LP", 1000)
    ids = await shop(*[[Line("CD", 1, 100), Line("LP", 1, 100)]] * size)
    together = ["WITH", "WITH"]  # orders with their lines and their stock, both written
    alone = ["SELECT", "SELECT", "SELECT", "UPDATE", "UPDATE"]
    expected = together if database.dialect == "postgresql" else alone
    with statements(database) as sent:
        await confirm(database, ids)
    assert [each.split()[0] for each in sent] == expected
    with statements(database) as sent:
        await cancel(database, ids)
    if database.dialect == "postgresql":
        expected = ["WITH", "SELECT", "WITH"]  # here the stock is read only where an order holds some
    assert [each.split()[0] for each in sent] == expected
    assert await on_hand(database, "CD", "LP") == {"CD": 1000, "LP": 1000}


async def test_canceling_what_holds_no_stock_locks_none(database: Database, shop: Shop) -> None:
    """The usual cancellation, before the confirmation, waits for nobody's stock."""
    ids = await shop([Line("CD", 1, 100)], [Line("LP", 1, 100)])
    with statements(database) as sent:
        await cancel(database, ids)
    read = ["WITH"] if database.dialect == "postgresql" else ["SELECT", "SELECT"]
    assert [each.split()[0] for each in sent] == [*read, "UPDATE"]


async def test_two_batches_at_once_never_oversell(database: Database, shop: Shop) -> None:
    """Ten batches that compete for the same stock sell exactly what there is."""
    await count(database, "CD", 25)
    ids = await shop(*[[Line("CD", 1, 100)]] * 50)
    answers = await asyncio.gather(*(confirm(database, ids[start : start + 5]) for start in range(0, 50, 5)))
    confirmed = [each for batch in answers for each in batch if isinstance(each, OrderConfirmed)]
    assert len(confirmed) == 25
    assert await on_hand(database, "CD") == {"CD": 0}


async def test_the_database_refuses_negative_stock(database: Database) -> None:
    """Whatever a program does, a row with less than nothing on hand cannot be."""
    with pytest.raises(IntegrityError, match="ck_stock_on_hand"):
        await count(database, "CD", -1)


async def test_migrations_make_what_the_code_expects(database: Database) -> None:
    """The tables the migrations make are those of `store.metadata`, and a way down leads back to none."""

    def differences(connection: Connection) -> list[Any]:
        tables = set(store.metadata.tables)
        context = MigrationContext.configure(
            connection,
            opts={
                "include_name": lambda name, kind, _: kind != "table" or name in tables,
                "compare_type": True,
            },
        )
        return list(compare_metadata(context, store.metadata))

    def left(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names()) & set(store.metadata.tables)

    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []
    await migrate.downgrade(database, ["services.order:migrations"])
    async with database.reading() as connection:
        assert await connection.run_sync(left) == set()


async def test_a_key_is_claimed_once(database: Database, shop: Shop) -> None:
    """The second claim of a key learns whose it is."""
    (a,) = await shop([Line("CD", 1, 100)])

    async def claim(connection: AsyncConnection, request_hash: str) -> store.ClaimedKey | None:
        placed_at = (await _stored(database, a)).placed_at
        return await store.claim_key(connection, "key", request_hash, a, placed_at)

    async with database.transaction() as connection:
        assert await claim(connection, "1" * 64) is None
    async with database.transaction() as connection:
        assert await claim(connection, "2" * 64) == store.ClaimedKey(a, "1" * 64)


async def _stored(database: Database, order_id: UUID) -> store.StoredOrder:
    async with database.reading() as connection:
        found = await store.find_order(connection, order_id)
    assert found is not None
    return found
