"""What must hold once all work has ended, looked up in the databases themselves and not asked of the services.

every order has ended, and as its saga says
every unit of money is where the journal says it is; what was captured is what the completed orders cost
what is missing from the stock is what the completed orders took
every history is gapless, and folded it gives the state that its saga's row holds
nothing is left over: no message to be sent, none put off, none parked, none dead
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import schema as messages
from messaging.database import Database
from orchestrator import history
from orchestrator.catalog import DEFAULT_MODULE, Catalog, load
from orchestrator.saga.machine import fold
from orchestrator.saga.state import SagaState, saga_id
from orchestrator.schema import parked_event, saga, saga_history
from services.order.store import order_line, orders, stock
from services.payment.audit import Audit, audit
from services.payment.schema import authorization

SAGA = "fulfill_order"
NAMED = 5
"""How many ids a finding names."""

_MUST_BE_EMPTY = {
    "orchestrator": (messages.outbox, messages.deferred, messages.dead_letter, parked_event),
    "order": (messages.outbox, messages.deferred, messages.dead_letter),
    "payment": (messages.outbox, messages.deferred, messages.dead_letter),
}
_WRITTEN = {
    "orchestrator": (saga, saga_history, messages.inbox),
    "order": (orders, stock, messages.inbox),
    "payment": (authorization, messages.inbox),
}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found. Two of them are equal where nothing has changed in between.

    `ended` counts orders by how they ended, `rows` the rows of every table, `findings` says in words what is wrong.
    """

    ended: Mapping[str, int]
    sagas: Mapping[str, int]
    audit: Audit
    completed_total: Mapping[str, int]
    on_hand: Mapping[str, int]
    rows: Mapping[str, int]
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Order:
    status: str
    reason: str | None
    currency: str
    total: int
    captured: int | None


@asynccontextmanager
async def opened(urls: Mapping[str, str]) -> AsyncIterator[dict[str, Database]]:
    """The three databases, by the names of their services, for looking only."""
    databases = {name: Database(url, pool_size=1) for name, url in urls.items()}
    try:
        yield databases
    finally:
        for database in databases.values():
            await database.close()


async def progress(databases: Mapping[str, Database]) -> tuple[int, int]:
    """How many orders have been placed so far, and how many of them have ended."""
    async with databases["order"].reading() as connection:
        rows = await connection.execute(select(orders.c.status, func.count().label("number")).group_by(orders.c.status))
        counts = {row.status: int(row.number) for row in rows}
    return sum(counts.values()), counts.get("completed", 0) + counts.get("canceled", 0)


async def work_left(databases: Mapping[str, Database]) -> dict[str, int]:
    """What is still to be done, by table; empty when everything has come to its end, good or bad."""
    left: dict[str, int] = {}
    for name, database in databases.items():
        async with database.reading() as connection:
            for table in _MUST_BE_EMPTY[name]:
                if table is not messages.dead_letter:
                    left[f"{name}.{table.name}"] = await _count(connection, table)
            if name == "orchestrator":
                moving = saga.c.status.in_(("running", "compensating"))
                left["sagas under way"] = await _count(connection, saga, moving)
            if name == "order":
                left["orders under way"] = await _count(
                    connection, orders, orders.c.status.in_(("placed", "confirmed"))
                )
    return {what: count for what, count in left.items() if count}


async def inspect(
    databases: Mapping[str, Database],
    *,
    default_stock: int,
    stocked: Mapping[str, int] | None = None,
    catalog: Catalog | None = None,
) -> Inspection:
    """Look at everything. `stocked` is how many of a sku there were at first, `default_stock` of any other."""
    rows = await _rows(databases)
    async with databases["order"].reading() as connection:
        placed = await _orders(connection)
        sold = await _sold(connection)
        on_hand = {row.sku: int(row.on_hand) for row in await connection.execute(select(stock.c.sku, stock.c.on_hand))}
    async with databases["orchestrator"].reading() as connection:
        sagas, damaged = await _sagas(connection, catalog or load([DEFAULT_MODULE]))
    async with databases["payment"].reading() as connection:
        paid = await _payments(connection)
    books = await audit(databases["payment"])
    completed: Counter[str] = Counter()
    for order in placed.values():
        if order.status == "completed":
            completed[order.currency] += order.total
    left = [
        f"{rows[f'{name}.{table.name}']} rows are left in {table.name} of {name}"
        for name, tables in _MUST_BE_EMPTY.items()
        for table in tables
        if rows[f"{name}.{table.name}"]
    ]
    return Inspection(
        ended=dict(sorted(Counter(order.reason or order.status for order in placed.values()).items())),
        sagas=dict(sorted(Counter(sagas.values()).items())),
        audit=books,
        completed_total=dict(completed),
        on_hand=on_hand,
        rows=rows,
        findings=(
            *left,
            *damaged,
            *_outcomes(placed, sagas, paid),
            *_stock(default_stock, stocked or {}, sold, on_hand),
            *books.findings,
            *_money(books, completed),
        ),
    )


async def _rows(databases: Mapping[str, Database]) -> dict[str, int]:
    rows = {}
    for name, database in databases.items():
        async with database.reading() as connection:
            for table in (*_MUST_BE_EMPTY[name], *_WRITTEN[name]):
                rows[f"{name}.{table.name}"] = await _count(connection, table)
    return rows


async def _count(connection: AsyncConnection, table: Table, *which: ColumnElement[bool]) -> int:
    return int((await connection.execute(select(func.count()).select_from(table).where(*which))).scalar_one())


async def _orders(connection: AsyncConnection) -> dict[UUID, _Order]:
    columns = orders.c
    found = await connection.execute(
        select(columns.id, columns.status, columns.reason, columns.currency, columns.total, columns.captured)
    )
    return {row.id: _Order(row.status, row.reason, row.currency, row.total, row.captured) for row in found}


async def _payments(connection: AsyncConnection) -> dict[UUID, tuple[str, int | None]]:
    columns = authorization.c
    found = await connection.execute(select(columns.order_id, columns.status, columns.amount))
    return {row.order_id: (row.status, row.amount) for row in found}


async def _sagas(connection: AsyncConnection, catalog: Catalog) -> tuple[dict[UUID, str], list[str]]:
    """The status of every instance, and what is wrong with its history."""
    rows = await connection.execute(select(saga))
    instances = {row.id: row for row in rows}
    folded, gaps = await _folded(connection, instances, catalog)
    differing = []
    for identity, instance in instances.items():
        stored = _stored(instance, catalog)
        if stored is None or folded.get(identity) != stored:
            differing.append(identity)
    return {identity: instance.status for identity, instance in instances.items()}, [
        *_named("sagas have a history with a gap, or one that cannot be read", gaps),
        *_named("sagas are not what their history says", differing),
    ]


def _stored(instance: Row[Any], catalog: Catalog) -> SagaState | None:
    """The state in an instance's row; None where it cannot be read."""
    definition = catalog.get(instance.name, instance.version)
    if definition is None:
        return None
    try:
        return history.load_state(
            definition, status=instance.status, reason=instance.reason, data=instance.data, progress=instance.progress
        )
    except history.CorruptHistory:
        return None


async def _folded(
    connection: AsyncConnection, instances: Mapping[UUID, Row[Any]], catalog: Catalog
) -> tuple[dict[UUID, SagaState], set[UUID]]:
    """What every instance's history folds to, and the instances whose history has a gap or cannot be read."""
    past = saga_history.c
    seen: Counter[UUID] = Counter()
    states: dict[UUID, SagaState] = {}
    gaps: set[UUID] = set()
    query = select(past.saga_id, past.seq, past.facts).order_by(past.saga_id, past.seq)
    async with connection.stream(query.execution_options(yield_per=1000)) as stream:
        async for row in stream:
            seen[row.saga_id] += 1
            instance = instances.get(row.saga_id)
            definition = catalog.get(instance.name, instance.version) if instance is not None else None
            if definition is None or row.seq != seen[row.saga_id]:
                gaps.add(row.saga_id)
                continue
            try:
                facts = history.load_facts(row.facts, definition)
            except history.CorruptHistory:
                gaps.add(row.saga_id)
                continue
            states[row.saga_id] = fold(states.get(row.saga_id), facts)
    gaps |= {identity for identity, instance in instances.items() if seen[identity] != instance.revision}
    return states, gaps


def _outcomes(
    placed: Mapping[UUID, _Order], sagas: Mapping[UUID, str], paid: Mapping[UUID, tuple[str, int | None]]
) -> list[str]:
    """Whether every order, its saga and its payment tell the same story."""
    unfinished, unlike, unpaid, kept = [], [], [], []
    for identity, order in placed.items():
        status = sagas.get(saga_id(SAGA, identity), "missing")
        payment, amount = paid.get(identity, ("none", None))
        if order.status not in ("completed", "canceled") or status not in ("completed", "compensated"):
            unfinished.append(identity)
        elif (order.status == "completed") != (status == "completed"):
            unlike.append(identity)
        elif order.status == "completed" and (payment, amount, order.captured) != (
            "captured",
            order.total,
            order.total,
        ):
            unpaid.append(identity)
        elif order.status == "canceled" and payment not in ("none", "voided", "tombstone"):
            kept.append(identity)
    ours = {saga_id(SAGA, identity) for identity in placed}
    return [
        *_named("orders or their sagas have not ended", unfinished),
        *_named("orders ended otherwise than their sagas", unlike),
        *_named("completed orders are not paid in full", unpaid),
        *_named("canceled orders are paid or hold money", kept),
        *_named("sagas belong to no order", sagas.keys() - ours),
        *_named("payments belong to no order", paid.keys() - placed.keys()),
    ]


async def _sold(connection: AsyncConnection) -> dict[str, int]:
    lines = order_line.c
    found = await connection.execute(
        select(lines.sku, func.sum(lines.quantity).label("sold"))
        .join(orders, orders.c.id == lines.order_id)
        .where(orders.c.status == "completed")
        .group_by(lines.sku)
    )
    # PostgreSQL sums BIGINT into NUMERIC, because it could overflow.
    return {row.sku: int(row.sold) for row in found}


def _stock(default: int, stocked: Mapping[str, int], sold: Mapping[str, int], on_hand: Mapping[str, int]) -> list[str]:
    found = []
    for sku in sorted(sold.keys() | on_hand.keys()):
        first, gone = stocked.get(sku, default), sold.get(sku, 0)
        now = on_hand.get(sku, first)
        if first - gone != now:
            found.append(f"{sku}: {first} at first, {gone} in completed orders, but {now} on hand")
    return found


def _money(books: Audit, completed: Mapping[str, int]) -> list[str]:
    captured = {currency: amount for currency, amount in books.captured.items() if amount}
    expected = {currency: amount for currency, amount in completed.items() if amount}
    found = []
    if captured != expected:
        found.append(f"captured {captured}, but the completed orders cost {expected} (minor units)")
    if any(books.held.values()):
        found.append(f"still held: {books.held} (minor units)")
    return found


def _named(what: str, identities: Collection[UUID]) -> list[str]:
    if not identities:
        return []
    some = ", ".join(map(str, sorted(identities)[:NAMED]))
    return [f"{len(identities)} {what}: {some}{' …' if len(identities) > NAMED else ''}"]
