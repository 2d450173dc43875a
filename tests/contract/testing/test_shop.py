"""The harness with the services that ship here: batch handlers, a clock they are given, two sagas side by side."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import select

from contracts import Money
from contracts.fulfillment import FulfillmentCompleted, FulfillmentFailed
from contracts.order import OrderCreated
from messaging.bulk import Writes
from orchestrator import hours, minutes
from orchestrator.sagas.fulfill_order import FULFILL_ORDER
from orchestrator.testing import Harness, Harnesses, VirtualClock
from services.order import store
from services.order.domain import Line, Order
from services.order.handlers import participant as order_participant
from services.payment.handlers import participant as payment_participant
from services.payment.schema import journal_entry
from services.payment.schema import metadata as payment_tables
from tests.unit.work import Begun, pivot, work_saga

ORDER = UUID("00000000-0000-7000-8000-000000000001")
MAY_DAY = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
PRICE = Money(amount=1_000, currency="USD")


@pytest.fixture
async def shop(saga_harness: Harnesses) -> AsyncIterator[Harness]:
    """Orchestrator, order and payment; a customer may owe 25.00 USD."""
    clock = VirtualClock(MAY_DAY)
    async with saga_harness(
        sagas=[FULFILL_ORDER, work_saga(pivot("ship"))],
        participants=[
            order_participant(default_stock=3),
            payment_participant(default_credit_limit=2_500, now=clock.now),
        ],
        tables={"order": store.metadata, "payment": payment_tables},
        clock=clock,
    ) as harness:
        yield harness


async def place(shop: Harness, number: int, pieces: int = 1) -> UUID:
    """Place an order of 10.00 USD."""
    order_id = UUID(int=ORDER.int + number)
    async with shop.session("order") as db:
        order = Order.place(order_id, "ada", "USD", [Line("pen", pieces, PRICE.amount // pieces)])
        writes = Writes()
        store.insert_order(writes, order, shop.clock.now())
        await writes.run(await db.connection())
    await shop.publish(OrderCreated(order_id=order_id, customer_id="ada", total=PRICE, items=1))
    return order_id


async def test_orders_are_paid_until_the_limit_is_reached(shop: Harness) -> None:
    """Two of three fit; the money's moments are those of the test's clock."""
    ids = [await place(shop, number) for number in range(3)]
    await shop.settle()
    found = [await shop.saga(each, FULFILL_ORDER) for each in ids]
    assert ["completed", "completed", "compensated"] == [each.status for each in found]
    assert ([PRICE, PRICE, None], "card_declined") == ([x.data.captured for x in found], found[2].data.failure)
    assert 2 == len(shop.published_of(FulfillmentCompleted))
    async with shop.session("payment") as db:
        moments = set((await db.scalars(select(journal_entry.c.at))).all())
    assert {MAY_DAY} == moments


async def test_what_is_not_in_stock_is_not_paid(shop: Harness) -> None:
    """The pivot refuses: voided, canceled, told."""
    order_id = await place(shop, 0, pieces=4)
    await shop.settle()
    assert (FulfillmentFailed(order_id=order_id, reason="out_of_stock"),) == shop.published_of(FulfillmentFailed)


async def test_a_payment_service_that_comes_back_too_late_holds_nothing(shop: Harness) -> None:
    """Its authorization is undone before it is done."""
    shop.silence("payment")
    order_id = await place(shop, 0)
    await shop.advance(minutes(2))
    shop.restore("payment")
    await shop.advance(hours(1))
    assert (FulfillmentFailed(order_id=order_id, reason="payment_timeout"),) == shop.published_of(FulfillmentFailed)


async def test_with_several_sagas_it_must_be_said_which_is_meant(shop: Harness) -> None:
    """Their instances may have the same key."""
    await shop.publish(Begun(id=7))
    with pytest.raises(LookupError, match=r"runs fulfill_order, work: say which one, saga\(key, of=SAGA\)"):
        await shop.saga(7)
    assert "running" == (await shop.saga(7, work_saga(pivot("ship")))).status
