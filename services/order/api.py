"""The order service's HTTP interface.

An order and the event that tells of it are written in one transaction: a 201 is a promise that the
saga will run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import FastAPI, Header, Query, Response
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from messaging.bulk import Writes
from messaging.clock import Entropy, SystemClock, SystemEntropy
from messaging.database import Database
from messaging.outbox import INFO, Emitting, emit, emit_all
from services.order import docs_page, problems, store
from services.order.domain import Order, OrderConflict
from services.order.limits import BodyLimit
from services.order.problems import Problem, documented
from services.order.store import StoredOrder
from services.order.views import (
    PATTERNS_IN_WORDS,
    Cancellation,
    IdempotencyKey,
    NewOrder,
    OrderPage,
    OrderQuery,
    OrderSummary,
    OrderView,
    Sku,
    StockLevel,
)

REPLAYED = "Idempotency-Replayed"


def create_app(
    database: Database,
    *,
    info: Mapping[str, Any] | None = None,
    now: Callable[[], datetime] | None = None,
    new_id: Callable[[], UUID] | None = None,
    default_stock: int | None = None,
) -> FastAPI:
    """The order service's web application over `database`.

    `info` goes into every session, where `emit` looks for its relay, clock and ids. `new_id` makes order ids,
    which must sort by time, as listings do (default: UUID version 7 of `now`). Without a
    `default_stock`, an order that names an unknown sku is refused.
    """
    now = now or SystemClock().now
    new_id = new_id or partial(_time_ordered_id, SystemEntropy(), now)
    app = FastAPI(
        title="Amends order service",
        description="Place orders and see what becomes of them. Amounts are whole numbers of minor units (cents).",
        version="1",
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app, PATTERNS_IN_WORDS)
    app.add_middleware(BodyLimit)
    desk = OrderDesk(
        database,
        info=info or {},
        now=now,
        new_id=new_id,
        default_stock=default_stock,
    )
    _add_orders(app, desk)
    _add_stock(app, database)
    docs_page.install(app, problems.SCHEMA)
    return app


class OrderDesk:
    """What can be done to orders from outside: each method one short transaction."""

    def __init__(
        self,
        database: Database,
        *,
        info: Mapping[str, Any],
        now: Callable[[], datetime],
        new_id: Callable[[], UUID],
        default_stock: int | None,
    ) -> None:
        self._database = database
        self._info = info
        self._emitting: Emitting = info.get(INFO) or Emitting()
        self._now = now
        self._new_id = new_id
        self._default_stock = default_stock

    async def place(self, wish: NewOrder, key: str | None) -> tuple[StoredOrder, bool]:
        """The order as it was placed, and whether that was done for an earlier request with this key.

        Raises Problem where the key was used for another request, or a sku is unknown.
        """
        placed_at = self._now()
        order = wish.as_order(self._new_id())
        # The busiest road: a connection without a session. What `request_cancellation` does reads more simply.
        async with self._database.transaction() as connection:
            if key is not None:
                request_hash = hashlib.sha256(wish.model_dump_json().encode()).hexdigest()
                earlier = await store.claim_key(connection, key, request_hash, order.id, placed_at)
                if earlier is not None:
                    if earlier.request_hash != request_hash:
                        raise _key_reused(key, earlier.order_id)
                    return _as_placed(await _find(connection, earlier.order_id)), True
            await self._check_skus(connection, order)
            writes = Writes()
            store.insert_order(writes, order, placed_at)
            emitted = await emit_all(connection, order.pending_events, self._emitting, beside=writes)
        self._emitting.committed(emitted)
        order.pending_events.clear()
        return StoredOrder(order, order.total.amount, order.items, placed_at), False

    async def find(self, order_id: UUID) -> StoredOrder:
        """One order with its lines. Raises Problem where there is none of this id."""
        async with self._database.reading() as connection:
            return await _find(connection, order_id)

    async def page(self, query: OrderQuery) -> OrderPage:
        """The orders that `query` asks for."""
        async with self._database.reading() as connection:
            # One more than asked for says whether there is a next page.
            found = await store.list_orders(
                connection,
                status=query.status,
                customer_id=query.customer_id,
                after=query.after,
                limit=query.limit + 1,
            )
        shown = found[: query.limit]
        following = None
        if len(found) > len(shown):
            more = query.model_copy(update={"after": shown[-1].order.id})
            following = f"/orders?{urlencode(more.model_dump(mode='json', exclude_none=True))}"
        return OrderPage(orders=[OrderSummary.of(each) for each in shown], next=following)

    async def request_cancellation(self, order_id: UUID) -> Order:
        """Tell the saga that the customer wants it canceled. Raises Problem where that is impossible."""
        async with self._database.session(**self._info) as db:
            found = await store.orders_for_update(db, [order_id])
            if order_id not in found:
                raise _no_order(order_id)
            order = found[order_id]
            try:
                order.request_cancellation()
            except OrderConflict as conflict:
                raise Problem(
                    409, "too-late-to-cancel", "It is too late to cancel this order", str(conflict)
                ) from conflict
            _emit_pending(db, order)
        return order

    async def _check_skus(self, connection: AsyncConnection, order: Order) -> None:
        if self._default_stock is not None:
            return
        wanted = order.wanted
        known = await store.on_hand(connection, wanted)
        unknown = [sku for sku in wanted if sku not in known]
        if unknown:
            raise Problem(
                422,
                "unknown-sku",
                "The order names something we do not sell",
                f"unknown sku {', '.join(unknown)}; correct it, or add it with PUT /stock/{{sku}}",
                errors=[
                    {"pointer": f"#/lines/{index}/sku", "detail": f"{line.sku} is unknown"}
                    for index, line in enumerate(order.lines)
                    if line.sku not in known
                ],
            )


def _add_orders(app: FastAPI, desk: OrderDesk) -> None:
    tags: list[str | Enum] = ["Orders"]

    @app.post(
        "/orders",
        status_code=201,
        tags=tags,
        summary="Place an order",
        response_description="The order as it was placed",
        responses=documented(400, 413, 415, 422, 503),
    )
    async def place_order(
        wish: NewOrder,
        response: Response,
        idempotency_key: Annotated[
            IdempotencyKey | None,
            Header(
                alias="Idempotency-Key",
                description="Any text of your choice. A second request with the same key and the same body "
                "places nothing and gets the first answer again; with another body it is refused.",
            ),
        ] = None,
    ) -> OrderView:
        """Write the order and tell the saga of it. The answer shows it as it was placed; its address
        (the header Location) shows what becomes of it.
        """
        placed, replayed = await desk.place(wish, idempotency_key)
        response.headers["Location"] = f"/orders/{placed.order.id}"
        if replayed:
            response.headers[REPLAYED] = "true"
        return OrderView.of(placed)

    @app.get(
        "/orders",
        tags=tags,
        summary="List orders",
        response_description="A page of orders",
        responses=documented(422, 503),
    )
    async def list_orders(query: Annotated[OrderQuery, Query()]) -> OrderPage:
        """Orders in the order they were placed, without their lines, a page at a time."""
        return await desk.page(query)

    @app.get(
        "/orders/{order_id}",
        tags=tags,
        summary="Look at an order",
        response_description="The order",
        responses=documented(404, 422, 503),
    )
    async def read_order(order_id: UUID) -> OrderView:
        """One order with its lines, as it is now."""
        return OrderView.of(await desk.find(order_id))

    @app.post(
        "/orders/{order_id}/cancellation",
        status_code=202,
        tags=tags,
        summary="Ask for an order to be canceled",
        response_description="The wish is noted",
        responses=documented(404, 409, 422, 503),
    )
    async def request_cancellation(order_id: UUID, response: Response) -> Cancellation:
        """Note that the customer wants the order canceled. It is heeded until the order is sent for
        confirmation; look at the order to see what came of it.
        """
        order = await desk.request_cancellation(order_id)
        response.headers["Location"] = f"/orders/{order.id}"
        return Cancellation(order_id=order.id, status=order.status)


def _add_stock(app: FastAPI, database: Database) -> None:
    tags: list[str | Enum] = ["Stock"]

    @app.get(
        "/stock/{sku}",
        tags=tags,
        summary="Count a sku",
        response_description="How many are on hand",
        responses=documented(404, 422, 503),
    )
    async def read_stock(sku: Sku) -> StockLevel:
        """How many are on hand; those of confirmed orders are not."""
        async with database.reading() as connection:
            found = await store.on_hand(connection, [sku])
        if sku not in found:
            raise Problem(
                404,
                "unknown-sku",
                "We do not sell that",
                f"nobody has counted {sku} yet; PUT /stock/{sku} with how many there are",
            )
        return StockLevel(on_hand=found[sku])

    @app.put(
        "/stock/{sku}",
        tags=tags,
        summary="Set the stock of a sku",
        response_description="The stock is set",
        responses=documented(400, 413, 415, 422, 503),
    )
    async def set_stock(sku: Sku, level: StockLevel) -> StockLevel:
        """Say how many are on hand now, not counting those of confirmed orders."""
        async with database.session() as db:
            await store.set_stock(db, sku, level.on_hand)
        return level


def _time_ordered_id(entropy: Entropy, now: Callable[[], datetime]) -> UUID:
    return entropy.message_id(now())


async def _find(connection: AsyncConnection, order_id: UUID) -> StoredOrder:
    found = await store.find_order(connection, order_id)
    if found is None:
        raise _no_order(order_id)
    return found


def _emit_pending(db: AsyncSession, order: Order) -> None:
    for event in order.pending_events:
        emit(db, event)
    order.pending_events.clear()


def _as_placed(stored: StoredOrder) -> StoredOrder:
    """The order as its first answer showed it, whatever has become of it since."""
    order = stored.order
    return StoredOrder(
        Order(order.id, order.customer_id, order.currency, order.lines),
        stored.total,
        stored.items,
        stored.placed_at,
    )


def _no_order(order_id: UUID) -> Problem:
    return Problem(
        404,
        "unknown-order",
        "There is no such order",
        f"no order has the id {order_id}; GET /orders lists them",
    )


def _key_reused(key: str, order_id: UUID) -> Problem:
    return Problem(
        422,
        "idempotency-key-reused",
        "This Idempotency-Key belongs to another request",
        f"{key} was used to place order {order_id} with another body; take a new key for a new order",
    )
