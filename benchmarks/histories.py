"""Histories of fulfill_order as an engine leaves them, by the hundred thousand, without running one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from typing import Any
from uuid import UUID, uuid5

from contracts.message import Event
from contracts.money import Money
from contracts.order import OrderCanceled, OrderConfirmed, OrderCreated, OrderRejected
from contracts.payment import PaymentAuthorized, PaymentCaptured, PaymentFailed, PaymentVoided
from messaging import bulk
from messaging.database import Database
from orchestrator import history
from orchestrator.instance import COLUMNS, HISTORY, Instance, kept
from orchestrator.saga.inputs import DeadlinePassed, EventArrived, Input
from orchestrator.saga.machine import decide, fold
from orchestrator.saga.state import saga_id
from orchestrator.sagas.fulfill_order import FULFILL_ORDER
from orchestrator.schema import saga, saga_history

BEGAN = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
_ORDERS = UUID("6d1c6f4e-8a9b-4a53-9d52-0b8f5a3e7c11")
_AT_ONCE = 1000


class _Order:
    """One order on its way."""

    def __init__(self, number: int) -> None:
        self.id = uuid5(_ORDERS, str(number))
        self.total = Money(amount=1000 + number % 9000, currency="USD")
        self.now = BEGAN + timedelta(seconds=number)
        self.instance = Instance(saga_id("fulfill_order", self.id), "fulfill_order", FULFILL_ORDER, str(self.id))
        self.lines: list[tuple[Any, ...]] = []
        self._command: UUID | None = None
        self._take(
            self._event(
                OrderCreated(order_id=self.id, customer_id=f"customer-{number % 977}", total=self.total, items=2),
                "order",
            )
        )

    def answered(self, event: Event) -> None:
        """The last command is answered, a few milliseconds later."""
        self.now += timedelta(milliseconds=7)
        self._take(self._event(event, event.wire_type.partition(".")[0]))

    def times_out(self) -> None:
        """Nothing has come."""
        deadline = self.instance.state.deadline if self.instance.state else None
        self.now = deadline or self.now
        self._take(DeadlinePassed(self.now))

    def _event(self, event: Event, source: str) -> EventArrived:
        return EventArrived(self.now, uuid5(self.id, f"message {len(self.lines)}"), event, source, self._command)

    def _take(self, given: Input) -> None:
        transition = decide(FULFILL_ORDER, self.instance.id, self.instance.state, given)
        self.instance.state = fold(self.instance.state, transition.facts)
        self.instance.revision += 1
        self._command = transition.sends[-1].id if transition.sends else None
        self.lines.append(
            (
                self.instance.id,
                self.instance.revision,
                self.now,
                history.dump_input(given),
                history.dump_facts(transition.facts),
                history.dump_sends(transition.sends),
            )
        )

    @property
    def row(self) -> tuple[Any, ...]:
        """Its row, once it has ended."""
        self.instance.started_at, self.instance.moved_at = BEGAN, self.now
        return kept(self.instance).row


def _completed(order: _Order) -> None:
    order.answered(PaymentAuthorized(order_id=order.id, authorization_id=f"auth-{order.id}", amount=order.total))
    order.answered(OrderConfirmed(order_id=order.id))
    order.answered(PaymentCaptured(order_id=order.id, amount=order.total))


def _declined(order: _Order) -> None:
    order.answered(PaymentFailed(order_id=order.id, reason="card_declined", detail="the limit is 50.00 USD"))
    order.answered(OrderCanceled(order_id=order.id))


def _out_of_stock(order: _Order) -> None:
    order.answered(PaymentAuthorized(order_id=order.id, authorization_id=f"auth-{order.id}", amount=order.total))
    order.answered(OrderRejected(order_id=order.id, reason="out_of_stock", detail="no more of 8711"))
    order.answered(PaymentVoided(order_id=order.id))
    order.answered(OrderCanceled(order_id=order.id))


def _timed_out(order: _Order) -> None:
    for _ in range(3):
        order.times_out()
    order.answered(PaymentVoided(order_id=order.id))
    order.answered(OrderCanceled(order_id=order.id))


_MIX: tuple[Callable[[_Order], None], ...] = (*(6 * [_completed]), _declined, _declined, _out_of_stock, _timed_out)


def _waiting(order: _Order) -> None:
    """Its first command has gone out, and nothing has come back."""


def _orders(number: int, shapes: Sequence[Callable[[_Order], None]] = _MIX) -> Iterator[_Order]:
    for each, shape in zip(range(number), cycle(shapes), strict=False):
        order = _Order(each)
        shape(order)
        yield order


async def fill(database: Database, number: int, *, waiting: bool = False) -> int:
    """Write so many instances; returns how many transitions they have.

    They have ended, six of ten completed; or they are `waiting` for the answer to their first command.
    """
    orders, transitions = _orders(number, (_waiting,) if waiting else _MIX), 0
    while batch := list(islice(orders, _AT_ONCE)):
        lines = [line for order in batch for line in order.lines]
        async with database.transaction() as connection:
            await bulk.insert(connection, saga, COLUMNS, [order.row for order in batch])
            await bulk.insert(connection, saga_history, HISTORY, lines)
        transitions += len(lines)
    return transitions
