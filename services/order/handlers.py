"""What the order service answers and reacts to. Whole batches: the number of statements never depends on
their size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from contracts.fulfillment import FulfillmentCompleted, FulfillmentFailed
from contracts.order import CancelOrder, ConfirmOrder, OrderCanceled, OrderConfirmed, OrderRejected
from messaging.participant import Participant
from services.order import store
from services.order.domain import UNKNOWN_ORDER, Order, OrderStatus, Stock


def participant(*, default_stock: int | None = None) -> Participant:
    """The order service as a participant named "order".

    `default_stock` is how many of a sku nobody has counted yet are on hand; None: none.
    """
    order = Participant("order")

    @order.handles_batch(ConfirmOrder)
    async def confirm(commands: Sequence[ConfirmOrder], db: AsyncSession) -> Sequence[OrderConfirmed | OrderRejected]:
        return await confirm_orders(commands, db, default_stock)

    order.handles_batch(CancelOrder)(cancel_orders)
    order.on_batch(FulfillmentCompleted)(complete_orders)
    order.on_batch(FulfillmentFailed)(note_failures)
    return order


async def confirm_orders(
    commands: Sequence[ConfirmOrder], db: AsyncSession, default_stock: int | None
) -> Sequence[OrderConfirmed | OrderRejected]:
    """Reserve the stock of each order, first come, first served; all of its lines or none."""
    found, known = await store.orders_and_stock_for_update(db, (command.order_id for command in commands))
    before = _states(found)
    stock = await _stock_of(db, found, OrderStatus.PLACED, default_stock, known)
    answers = [_confirm(command.order_id, found, stock) for command in commands]
    await _save(db, found, before, stock)
    return answers


async def cancel_orders(commands: Sequence[CancelOrder], db: AsyncSession) -> Sequence[OrderCanceled]:
    """Cancel each order and give back the stock it holds; an order nobody knows holds none.

    Raises OrderConflict where one of them is completed.
    """
    found = await store.orders_for_update(db, (command.order_id for command in commands))
    before = _states(found)
    stock = await _stock_of(db, found, OrderStatus.CONFIRMED, None)
    answers = []
    for command in commands:
        order = found.get(command.order_id)
        if order is None:
            structlog.get_logger().warning("unknown_order_canceled", order_id=str(command.order_id))
            answers.append(OrderCanceled(order_id=command.order_id))
        else:
            answers.append(order.cancel(command.reason, stock))
    await _save(db, found, before, stock)
    return answers


async def complete_orders(events: Sequence[FulfillmentCompleted], db: AsyncSession) -> None:
    """Note what was paid. Raises OrderConflict where an order is canceled, or in another currency."""
    found = await store.orders_for_update(db, (event.order_id for event in events))
    before = _states(found)
    for event in events:
        order = found.get(event.order_id)
        if order is None:
            structlog.get_logger().warning(
                "unknown_order_fulfilled", order_id=str(event.order_id), captured=str(event.captured)
            )
        else:
            order.complete(event.captured)
    await _save(db, found, before, Stock({}))


async def note_failures(events: Sequence[FulfillmentFailed], db: AsyncSession) -> None:
    """Keep why a fulfillment failed, where the order does not say so yet."""
    found = await store.orders_for_update(db, (event.order_id for event in events))
    before = _states(found)
    for event in events:
        order = found.get(event.order_id)
        if order is None:
            structlog.get_logger().warning("unknown_order_failed", order_id=str(event.order_id))
        else:
            order.note_failure(event.reason)
    await _save(db, found, before, Stock({}))


def _confirm(order_id: UUID, found: dict[UUID, Order], stock: Stock) -> OrderConfirmed | OrderRejected:
    order = found.get(order_id)
    if order is None:
        return OrderRejected(order_id=order_id, reason=UNKNOWN_ORDER, detail="the order service has no such order")
    return order.confirm(stock)


async def _stock_of(
    db: AsyncSession,
    found: dict[UUID, Order],
    status: OrderStatus,
    default: int | None,
    known: Mapping[str, int] | None = None,
) -> Stock:
    skus = {sku for order in found.values() if order.status is status for sku in order.wanted}
    return await store.stock_for_update(db, skus, default=default, known=known) if skus else Stock({})


_State = tuple[OrderStatus, str | None]


def _states(found: dict[UUID, Order]) -> dict[UUID, _State]:
    return {order_id: (order.status, order.reason) for order_id, order in found.items()}


async def _save(db: AsyncSession, found: dict[UUID, Order], before: dict[UUID, _State], stock: Stock) -> None:
    changed = [order for order in found.values() if (order.status, order.reason) != before[order.id]]
    await store.save(db, changed, stock.changed)
