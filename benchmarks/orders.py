"""The work: orders as the API writes them, and the events that start their sagas, as the order service's relay sends
them.

Every tenth order names a sku that is sold out: it fails at the last point where it may, and is compensated.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import insert

from contracts.message import Event
from contracts.money import Money
from contracts.order import OrderCreated
from messaging.bus import Bus, Outgoing, Receipt
from messaging.clock import SystemEntropy
from messaging.database import Database
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from messaging.topology import EVENTS
from services.order.store import order_line, orders, set_stock

FAILS_EVERY = 10
PLENTY = 10**12
STOCKED = {"CD": PLENTY, "SOLD-OUT": 0}
AMOUNT = 1499
CURRENCY = "USD"
_CUSTOMERS = 500
WINDOW = 100
"""Events in one publish."""


def sku_of(number: int) -> str:
    """What the order with this number wants."""
    return "SOLD-OUT" if number % FAILS_EVERY == 0 else "CD"


def customer_of(number: int) -> str:
    """Who places the order with this number."""
    return f"customer-{number % _CUSTOMERS}"


def expected_failures(count: int) -> int:
    """How many of the orders 0 … count-1 fail."""
    return -(-count // FAILS_EVERY)


async def fill_stock(database: Database) -> None:
    """Say how many of each sku there are."""
    async with database.session() as session:
        for sku, on_hand in STOCKED.items():
            await set_stock(session, sku, on_hand)


async def write_orders(database: Database, count: int) -> list[OrderCreated]:
    """Write orders and their lines; returns the events that tell of them."""
    entropy = SystemEntropy()
    now = datetime.now(UTC)
    ids = [entropy.message_id(now) for _ in range(count)]
    for begin in range(0, count, 500):
        numbers = range(begin, min(begin + 500, count))
        async with database.transaction() as connection:
            await connection.execute(insert(orders), [_order(ids[number], number, now) for number in numbers])
            await connection.execute(insert(order_line), [_line(ids[number], number) for number in numbers])
    return [
        OrderCreated(
            order_id=identity,
            customer_id=customer_of(number),
            total=Money(amount=AMOUNT, currency=CURRENCY),
            items=1,
        )
        for number, identity in enumerate(ids)
    ]


def messages(events: Sequence[OrderCreated]) -> list[Outgoing]:
    """The events as the order service's relay sends them."""
    entropy, now = SystemEntropy(), datetime.now(UTC)
    return [_message(event, entropy.message_id(now), now) for event in events]


async def announce(bus: Bus, events: Sequence[OrderCreated]) -> None:
    """Publish the events, a window at a time, each confirmed before the next.

    Raises ConnectionError where one is not confirmed.
    """
    for begin in range(0, len(events), WINDOW):
        await publish(bus, messages(events[begin : begin + WINDOW]))


async def publish(bus: Bus, messages: Sequence[Outgoing]) -> None:
    """Publish messages as they are, a window at a time, each confirmed before the next.

    Raises ConnectionError where one is not confirmed.
    """
    for begin in range(0, len(messages), WINDOW):
        receipts = await bus.publish(messages[begin : begin + WINDOW])
        lost = sum(receipt is not Receipt.CONFIRMED for receipt in receipts)
        if lost:
            raise ConnectionError(f"the broker did not confirm {lost} of {len(receipts)} events")


def _order(identity: UUID, number: int, now: datetime) -> dict[str, object]:
    return {
        "id": identity,
        "customer_id": customer_of(number),
        "currency": CURRENCY,
        "total": AMOUNT,
        "items": 1,
        "status": "placed",
        "placed_at": now,
    }


def _line(identity: UUID, number: int) -> dict[str, object]:
    return {"order_id": identity, "number": 1, "sku": sku_of(number), "quantity": 1, "amount": AMOUNT}


def _message(event: OrderCreated, identity: UUID, now: datetime) -> Outgoing:
    envelope = Envelope(id=identity, type=event.wire_type, version=1, source="order", time=now, key=event.ordering_key)
    return message_of(envelope, event)


def message_of(envelope: Envelope, event: Event) -> Outgoing:
    """The event as a service's relay sends it."""
    return Outgoing(
        exchange=EVENTS,
        routing_key=event.wire_type,
        message_id=str(envelope.id),
        body=encode(envelope, event).encode(),
        type=event.wire_type,
        timestamp=envelope.time,
        app_id=envelope.source,
        correlation_id=envelope.correlation_id,
        content_type=CONTENT_TYPE,
    )
