"""Where orders, their stock and the keys of repeated requests lie; every function runs in the caller's
transaction.

A batch costs a constant number of statements whatever its size. Locks are taken in one order everywhere
(orders by id, then stock by sku), so that two batches wait for each other instead of deadlocking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CHAR,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from messaging import bulk
from messaging.bulk import Writes
from messaging.schema import NAMING, UTCDateTime
from messaging.together import together
from services.order.domain import Line, Order, OrderStatus, Stock

metadata = MetaData(naming_convention=NAMING)

orders = Table(
    "orders",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("customer_id", String(200), nullable=False),
    Column("currency", CHAR(3), nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("items", BigInteger, nullable=False),
    Column("status", String(9), nullable=False),
    Column("reason", Text),
    Column("captured", BigInteger),
    Column("placed_at", UTCDateTime(), nullable=False),
    CheckConstraint("total >= 0", name="total"),
    CheckConstraint("items >= 1", name="items"),
    CheckConstraint("status IN ('placed', 'confirmed', 'completed', 'canceled')", name="status"),
    CheckConstraint("(captured IS NOT NULL) = (status = 'completed')", name="captured"),
    CheckConstraint("status <> 'canceled' OR reason IS NOT NULL", name="reason"),
    # GET /orders?customer_id=…: "this customer's orders, in the order they were placed"
    Index("ix_orders_customer_id_id", "customer_id", "id"),
    # GET /orders?status=…: "the orders in this state, in the order they were placed"
    Index("ix_orders_status_id", "status", "id"),
)

order_line = Table(
    "order_line",
    metadata,
    Column("order_id", Uuid, ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("sku", String(64), nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    CheckConstraint("number >= 1", name="number"),
    CheckConstraint("quantity >= 1", name="quantity"),
    CheckConstraint("amount >= 0", name="amount"),
)

stock = Table(
    "stock",
    metadata,
    Column("sku", String(64), primary_key=True),
    Column("on_hand", BigInteger, nullable=False),
    CheckConstraint("on_hand >= 0", name="on_hand"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("request_hash", CHAR(64), nullable=False),
    # Checked at commit, because the key is claimed before the order is written.
    Column(
        "order_id",
        Uuid,
        ForeignKey("orders.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED"),
        nullable=False,
    ),
    Column("created_at", UTCDateTime(), nullable=False),
    # a deleted order takes its key along: "which keys name this order?"
    Index("ix_idempotency_order_id", "order_id"),
)


_ORDER, _ORDER_ID = tuple(orders.c), orders.c.id
_ORDER_OF_LINE = order_line.c.order_id
_LINE = (_ORDER_OF_LINE, order_line.c.sku, order_line.c.quantity, order_line.c.amount)
_SKU = stock.c.sku
_COUNTED, _BY_SKU = (_SKU, stock.c.on_hand), "ORDER BY sku FOR UPDATE"


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """An order as a reader sees it; `lines` is empty in listings."""

    order: Order
    total: int
    items: int
    placed_at: datetime


@dataclass(frozen=True, slots=True)
class ClaimedKey:
    """Whose order an idempotency key stands for, and a hash of the request that made it."""

    order_id: UUID
    request_hash: str


def insert_order(writes: Writes, order: Order, placed_at: datetime) -> None:
    """Add a new order and its lines to what is written."""
    record = {
        "id": order.id,
        "customer_id": order.customer_id,
        "currency": order.currency,
        "total": order.total.amount,
        "items": order.items,
        "status": order.status.value,
        "placed_at": placed_at,
    }
    lines = [
        {
            "order_id": order.id,
            "number": number,
            "sku": line.sku,
            "quantity": line.quantity,
            "amount": line.amount,
        }
        for number, line in enumerate(order.lines, start=1)
    ]
    writes.insert(orders, tuple(record), [record])
    writes.insert(order_line, tuple(lines[0]), lines)


async def claim_key(
    connection: AsyncConnection, key: str, request_hash: str, order_id: UUID, now: datetime
) -> ClaimedKey | None:
    """Take `key` for `order_id` and return None, or return what it was taken for before.

    A concurrent claim of the same key waits here until the other transaction has ended.
    """
    record = {"key": key, "request_hash": request_hash, "order_id": order_id, "created_at": now}
    claimed = await bulk.insert(
        connection, idempotency, tuple(record), [record], ignore_conflicts=True, returning="key"
    )
    if claimed:
        return None
    (earlier,) = await bulk.select(
        connection, (idempotency.c.order_id, idempotency.c.request_hash), idempotency.c.key, [key]
    )
    return ClaimedKey(earlier.order_id, earlier.request_hash)


async def orders_for_update(db: AsyncSession, ids: Iterable[UUID]) -> dict[UUID, Order]:
    """The orders among `ids` that exist, with their lines, locked until the transaction ends: one round trip."""
    orders_found, _ = await _locked_orders(db, ids, with_stock=False)
    return orders_found


async def orders_and_stock_for_update(
    db: AsyncSession, ids: Iterable[UUID]
) -> tuple[dict[UUID, Order], dict[str, int]]:
    """The same, and what is on hand of all that they are for, as far as it has been counted, locked behind them."""
    return await _locked_orders(db, ids, with_stock=True)


async def _locked_orders(
    db: AsyncSession, ids: Iterable[UUID], *, with_stock: bool
) -> tuple[dict[UUID, Order], dict[str, int]]:
    wanted = sorted(set(ids))
    reads = Writes()
    found = reads.select(_ORDER, _ORDER_ID, wanted, "ORDER BY id FOR UPDATE")
    # Lines never change: it does not matter that they are read while the lock is waited for.
    lines = reads.select(_LINE, _ORDER_OF_LINE, wanted, "ORDER BY order_id, number")
    counted = reads.select(_COUNTED, _ORDER_OF_LINE, wanted if with_stock else (), _BY_SKU, by=(_SKU, "sku"))
    await reads.run(await db.connection())
    of: dict[UUID, list[Line]] = {}
    for order_id, sku, quantity, amount in lines.rows:
        of.setdefault(order_id, []).append(Line(sku, quantity, amount))
    return {row.id: _order(row, tuple(of.get(row.id, ()))) for row in found.rows}, dict(counted.rows)


async def stock_for_update(
    db: AsyncSession, skus: Iterable[str], *, default: int | None = None, known: Mapping[str, int] | None = None
) -> Stock:
    """The stock of `skus`, locked until the transaction ends; of `known` it is locked already.

    A sku without a row gets one with `default` on hand; where there is no default, it is not on hand.
    """
    wanted = sorted(set(skus))
    found = (
        await _locked_stock(await db.connection(), wanted)
        if known is None
        else {sku: known[sku] for sku in wanted if sku in known}
    )
    missing = [sku for sku in wanted if sku not in found]
    if missing and default is not None:
        # Once in a sku's life. Another transaction may insert the same sku first: read again what there is.
        records = [{"sku": sku, "on_hand": default} for sku in missing]
        connection = await db.connection()
        await bulk.insert(connection, stock, ("sku", "on_hand"), records, ignore_conflicts=True)
        found = await _locked_stock(connection, wanted)
    return Stock(found)


async def _locked_stock(connection: AsyncConnection, skus: Sequence[str]) -> dict[str, int]:
    rows = await bulk.select(connection, _COUNTED, _SKU, skus, _BY_SKU)
    return {row.sku: row.on_hand for row in rows}


async def save(db: AsyncSession, changed: Sequence[Order], on_hand: Mapping[str, int]) -> None:
    """Write what may change of orders, and the new numbers of skus, with what else the batch writes.

    The caller holds the locks of both (`orders_for_update`, `stock_for_update`).
    """
    async with together(db) as writes:
        writes.update(
            orders,
            ("id",),
            ("status", "reason", "captured"),
            [(order.id, order.status.value, order.reason, order.captured) for order in changed],
        )
        writes.update(stock, ("sku",), ("on_hand",), [*on_hand.items()])


async def set_stock(db: AsyncSession, sku: str, on_hand: int) -> None:
    """Say how many of a sku are on hand, whether or not it was known."""
    connection = await db.connection()
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(stock).values(sku=sku, on_hand=on_hand)
    await connection.execute(statement.on_conflict_do_update(index_elements=["sku"], set_={"on_hand": on_hand}))


async def on_hand(connection: AsyncConnection, skus: Iterable[str]) -> dict[str, int]:
    """How many are on hand of those among `skus` that are known."""
    rows = await bulk.select(connection, (stock.c.sku, stock.c.on_hand), stock.c.sku, sorted(set(skus)))
    return {row.sku: row.on_hand for row in rows}


async def find_order(connection: AsyncConnection, order_id: UUID) -> StoredOrder | None:
    """One order with its lines."""
    found = await connection.execute(_ORDER_WITH_LINES.where(orders.c.id == order_id).order_by(order_line.c.number))
    return next(iter(_assemble(found.all())), None)


async def list_orders(
    connection: AsyncConnection,
    *,
    status: OrderStatus | None,
    customer_id: str | None,
    after: UUID | None,
    limit: int,
) -> list[StoredOrder]:
    """At most `limit` orders behind the id `after`, in the order of their ids, without their lines."""
    query = select(orders).order_by(orders.c.id).limit(limit)
    if status is not None:
        query = query.where(orders.c.status == status.value)
    if customer_id is not None:
        query = query.where(orders.c.customer_id == customer_id)
    if after is not None:
        query = query.where(orders.c.id > after)
    return [_stored(row, ()) for row in await connection.execute(query)]


_ORDER_WITH_LINES = select(orders, order_line.c.sku, order_line.c.quantity, order_line.c.amount).join(
    order_line, order_line.c.order_id == orders.c.id
)


def _assemble(rows: Sequence[Any]) -> list[StoredOrder]:
    lines: dict[UUID, list[Line]] = {}
    first: dict[UUID, Any] = {}
    for row in rows:
        first.setdefault(row.id, row)
        lines.setdefault(row.id, []).append(Line(row.sku, row.quantity, row.amount))
    return [_stored(row, tuple(lines[row.id])) for row in first.values()]


def _stored(row: Any, lines: tuple[Line, ...]) -> StoredOrder:
    return StoredOrder(_order(row, lines), row.total, row.items, row.placed_at)


def _order(row: Any, lines: tuple[Line, ...]) -> Order:
    return Order(row.id, row.customer_id, row.currency, lines, OrderStatus(row.status), row.reason, row.captured)
