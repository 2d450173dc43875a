"""What an order may do and when stock suffices, without a database."""

from __future__ import annotations

from uuid import UUID

import pytest

from contracts.money import Money
from contracts.order import (
    OrderCanceled,
    OrderCancellationRequested,
    OrderConfirmed,
    OrderCreated,
    OrderRejected,
)
from services.order.domain import Line, Order, OrderConflict, OrderStatus, Stock

ID = UUID("018f0000-0000-7000-8000-000000000001")


def an_order(*lines: Line) -> Order:
    """An order as it is placed."""
    return Order.place(ID, "00004", "USD", lines or (Line("CD", 2, 2933),))


def confirmed() -> Order:
    """An order that holds its stock."""
    order = an_order()
    order.confirm(Stock({"CD": 2}))
    return order


def test_placing_records_the_created_event() -> None:
    """A new order tells who ordered, how many things, and what all lines cost."""
    order = an_order(Line("CD", 2, 2933), Line("LP", 1, 1000))
    assert order.pending_events == [
        OrderCreated(order_id=ID, customer_id="00004", total=Money(amount=3933, currency="USD"), items=3)
    ]
    assert order.status is OrderStatus.PLACED


def test_an_order_may_cost_nothing() -> None:
    """A total of zero is a price like any other."""
    order = an_order(Line("CD", 1, 0))
    assert order.total == Money(amount=0, currency="USD")
    assert order.confirm(Stock({"CD": 1})) == OrderConfirmed(order_id=ID)


@pytest.mark.parametrize(
    ("sku", "quantity", "amount", "complaint"),
    [
        ("", 1, 1, "a line names a sku"),
        ("CD", 0, 1, "CD: quantity is 0; at least 1 is ordered"),
        ("CD", 1, -1, "CD: amount is -1; a line costs nothing or more"),
    ],
)
def test_a_wrong_line_cannot_be_made(sku: str, quantity: int, amount: int, complaint: str) -> None:
    """A line without a sku, without a quantity or with a negative price is refused in words."""
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        Line(sku, quantity, amount)


def test_an_order_without_lines_cannot_be_placed() -> None:
    """An order has at least one line."""
    with pytest.raises(ValueError, match="at least one line"):
        Order.place(ID, "00004", "USD", [])


def test_confirming_takes_the_stock_of_every_line() -> None:
    """Two lines of one sku are taken together."""
    order = an_order(Line("CD", 2, 100), Line("LP", 1, 100), Line("CD", 3, 100))
    stock = Stock({"CD": 6, "LP": 1})
    assert order.confirm(stock) == OrderConfirmed(order_id=ID)
    assert order.status is OrderStatus.CONFIRMED
    assert stock.changed == {"CD": 1, "LP": 0}


def test_a_short_line_takes_nothing_and_says_what_is_short() -> None:
    """All lines are reserved or none; the refusal names the sku, what was wanted and what is there."""
    order = an_order(Line("CD", 2, 100), Line("LP", 3, 100))
    stock = Stock({"CD": 6, "LP": 2})
    assert order.confirm(stock) == OrderRejected(order_id=ID, reason="out_of_stock", detail="LP: 3 wanted, 2 on hand")
    assert order.status is OrderStatus.PLACED
    assert stock.changed == {}


def test_two_lines_of_one_sku_are_short_together() -> None:
    """Lines that would each fit are refused when their sum does not."""
    order = an_order(Line("CD", 2, 100), Line("CD", 2, 100))
    answer = order.confirm(Stock({"CD": 3}))
    assert answer == OrderRejected(order_id=ID, reason="out_of_stock", detail="CD: 4 wanted, 3 on hand")


def test_a_sku_nobody_counted_is_not_on_hand() -> None:
    """An unknown sku is out of stock, not an error."""
    answer = an_order().confirm(Stock({}))
    assert answer == OrderRejected(order_id=ID, reason="out_of_stock", detail="CD: 2 wanted, 0 on hand")


def test_confirming_again_takes_nothing_more() -> None:
    """A repeated confirmation gives the same answer and leaves the stock alone."""
    order = confirmed()
    stock = Stock({"CD": 10})
    assert order.confirm(stock) == OrderConfirmed(order_id=ID)
    assert stock.changed == {}


def test_canceling_a_placed_order_gives_nothing_back() -> None:
    """An order that never held stock returns none."""
    order, stock = an_order(), Stock({"CD": 5})
    assert order.cancel("card_declined", stock) == OrderCanceled(order_id=ID)
    assert (order.status, order.reason) == (OrderStatus.CANCELED, "card_declined")
    assert stock.changed == {}


def test_canceling_a_confirmed_order_gives_its_stock_back_once() -> None:
    """A repeated cancellation gives nothing back again and keeps the first reason."""
    order, stock = confirmed(), Stock({"CD": 5})
    assert order.cancel("capture_failed", stock) == OrderCanceled(order_id=ID)
    assert order.cancel("again", stock) == OrderCanceled(order_id=ID)
    assert stock.changed == {"CD": 7}
    assert order.reason == "capture_failed"


def test_a_canceled_order_refuses_its_confirmation() -> None:
    """A confirmation that arrives after the cancellation is refused and takes no stock."""
    order, stock = an_order(), Stock({"CD": 5})
    order.cancel("customer_left", stock)
    assert order.confirm(stock) == OrderRejected(
        order_id=ID, reason="canceled", detail="canceled before it was confirmed: customer_left"
    )
    assert stock.changed == {}


def test_completing_keeps_what_was_captured() -> None:
    """The first completion counts; a repetition changes nothing."""
    order = confirmed()
    order.complete(Money(amount=2933, currency="USD"))
    order.complete(Money(amount=1, currency="USD"))
    assert (order.status, order.captured) == (OrderStatus.COMPLETED, 2933)
    assert order.confirm(Stock({})) == OrderConfirmed(order_id=ID)


def test_money_for_a_canceled_order_is_a_conflict() -> None:
    """A completion of a canceled order is raised, for a person to refund it."""
    order = an_order()
    order.cancel("card_declined", Stock({}))
    with pytest.raises(OrderConflict, match=r"29\.33 USD was captured, but it is canceled \(card_declined\)"):
        order.complete(Money(amount=2933, currency="USD"))


def test_money_of_another_currency_is_a_conflict() -> None:
    """Euros do not pay an order in dollars."""
    with pytest.raises(OrderConflict, match=r"29\.33 EUR was captured for an order in USD"):
        confirmed().complete(Money(amount=2933, currency="EUR"))


def test_a_completed_order_cannot_be_canceled() -> None:
    """What is paid is not canceled silently."""
    order = confirmed()
    order.complete(Money(amount=2933, currency="USD"))
    with pytest.raises(OrderConflict, match="completed and paid; refund it instead"):
        order.cancel("late", Stock({}))


def test_a_failure_is_noted_only_where_nothing_was_said() -> None:
    """The cancellation's own reason stays."""
    silent, outspoken = an_order(), an_order()
    outspoken.cancel("card_declined", Stock({}))
    silent.note_failure("timeout")
    outspoken.note_failure("timeout")
    assert (silent.reason, outspoken.reason) == ("timeout", "card_declined")


def test_a_wish_to_cancel_is_told_to_the_saga() -> None:
    """The order itself does not change: the saga decides."""
    order = an_order()
    order.pending_events.clear()
    order.request_cancellation()
    assert order.pending_events == [OrderCancellationRequested(order_id=ID)]
    assert order.status is OrderStatus.PLACED


def test_a_wish_to_cancel_comes_too_late_after_confirmation() -> None:
    """A confirmed order is beyond the pivot; a canceled one needs nothing more."""
    with pytest.raises(OrderConflict, match="it is confirmed and can no longer be canceled"):
        confirmed().request_cancellation()
    canceled = an_order()
    canceled.cancel("card_declined", Stock({}))
    canceled.pending_events.clear()
    canceled.request_cancellation()
    assert canceled.pending_events == []
