"""What the orchestrator says when the fulfillment of an order has ended."""

from __future__ import annotations

from uuid import UUID

from contracts.message import Event
from contracts.money import Money


class FulfillmentCompleted(Event, type="fulfillment.completed", key="order_id"):
    """The order is confirmed and paid: `captured` has been taken from the customer."""

    order_id: UUID
    captured: Money


class FulfillmentFailed(Event, type="fulfillment.failed", key="order_id"):
    """Amends were made: nothing is reserved, nothing is held. `reason` is a word for programs."""

    order_id: UUID
    reason: str
