"""The messages that take a saga from its start to its end, known beforehand: ids of instances and commands follow from
the order's id, so that nobody need be there to answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from benchmarks.orders import AMOUNT, CURRENCY, customer_of, message_of
from contracts.message import Event
from contracts.money import Money
from contracts.order import OrderConfirmed, OrderCreated
from contracts.payment import PaymentAuthorized, PaymentCaptured
from messaging.bus import Outgoing
from messaging.clock import SystemEntropy
from messaging.envelope import Envelope
from orchestrator.saga.state import Direction, command_id, saga_id

SAGA = "fulfill_order"
_TOTAL = Money(amount=AMOUNT, currency=CURRENCY)


@dataclass(frozen=True, slots=True)
class Transition:
    """One of the four that a saga makes where nothing fails: the event that causes it, and the command it answers."""

    name: str
    source: str
    event: Callable[[UUID, int], Event]
    answers: str | None = None
    """The step whose command it answers; None where the event starts the saga."""

    def messages(self, orders: list[UUID]) -> list[Outgoing]:
        """The events that take each order's saga through it."""
        entropy, now = SystemEntropy(), datetime.now(UTC)
        return [
            message_of(self._envelope(order, entropy.message_id(now), now, event), event)
            for number, order in enumerate(orders)
            for event in (self.event(order, number),)
        ]

    def _envelope(self, order: UUID, identity: UUID, now: datetime, event: Event) -> Envelope:
        saga = saga_id(SAGA, order)
        return Envelope(
            id=identity,
            type=event.wire_type,
            version=event.wire_version,
            source=self.source,
            time=now,
            correlation_id=str(saga) if self.answers else None,
            causation_id=str(command_id(saga, self.answers, Direction.ACTION, 1)) if self.answers else None,
            key=event.ordering_key,
        )


def _created(order: UUID, number: int) -> Event:
    return OrderCreated(order_id=order, customer_id=customer_of(number), total=_TOTAL, items=1)


def _authorized(order: UUID, number: int) -> Event:
    return PaymentAuthorized(order_id=order, authorization_id=f"auth-{number}", amount=_TOTAL)


TRANSITIONS = (
    Transition("start", "order", _created),
    Transition("step", "payment", _authorized, "authorize_payment"),
    Transition("pivot", "order", lambda order, _: OrderConfirmed(order_id=order), "confirm_order"),
    Transition("end", "payment", lambda order, _: PaymentCaptured(order_id=order, amount=_TOTAL), "capture_payment"),
)
"""In their order. `step` is what a hand-written loop does that reads a row, changes it and sends a command."""
