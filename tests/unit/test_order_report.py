"""The closing report of a file of orders."""

from __future__ import annotations

import io
from uuid import UUID

from rich.console import Console

from contracts.money import Money
from services.order.domain import OrderStatus
from services.order.order_file import WrongRow
from services.order.placing import Ended, Placed
from services.order.report import Report, draw, summarize

A, B, C, D = (UUID(int=number) for number in range(1, 5))


def dollars(cents: int) -> Money:
    """So many cents of US money."""
    return Money(amount=cents, currency="USD")


def completed(cents: int) -> Ended:
    """An end with so many cents captured."""
    return Ended(OrderStatus.COMPLETED, dollars(cents), None)


def drawn(report: Report) -> str:
    """The report as it is printed, without the spaces at the ends of lines."""
    console = Console(file=io.StringIO(), width=120, color_system=None)
    draw(report, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    return "\n".join(line.rstrip() for line in text.splitlines())


def test_everything_is_counted_once() -> None:
    """A row that repeats an order is already there, and its order counts once."""
    results: list[Placed | WrongRow] = [
        Placed(A, dollars(100), before=False),
        Placed(A, dollars(100), before=True),
        Placed(B, dollars(250), before=True),
        Placed(C, dollars(0), before=False),
        Placed(D, dollars(1), before=False),
        WrongRow(9, "amount is empty"),
    ]
    ended = {
        A: completed(100),
        B: completed(250),
        C: Ended(OrderStatus.CANCELED, None, "out_of_stock"),
    }
    assert summarize(results, ended, 2.04).as_json() == {
        "ok": False,
        "rows": 6,
        "placed": 3,
        "already_there": 2,
        "wrong_rows": [{"line": 9, "reason": "amount is empty"}],
        "completed": 2,
        "compensated": {"out_of_stock": 1},
        "stuck": ["00000000-0000-0000-0000-000000000004"],
        "captured": {"USD": 350},
        "completed_total": {"USD": 350},
        "seconds": 2.0,
    }


def test_a_clean_run_is_ok_and_adds_up() -> None:
    """Orders that ended, one way or the other, are success."""
    results = [Placed(A, dollars(100), before=False), Placed(B, dollars(50), before=False)]
    ended = {A: completed(100), B: Ended(OrderStatus.CANCELED, None, "card_declined")}
    report = summarize(results, ended, 1.0)
    assert report.ok
    assert drawn(report).splitlines() == [
        "rows read             2  in 1.0 s",
        "placed                2",
        "already there         0",
        "wrong rows            0",
        "completed             1",
        "compensated           1  card_declined 1",
        "stuck                 0",
        "captured       1.00 USD  equals the completed orders' sum",
    ]


def test_money_that_does_not_add_up_is_no_success() -> None:
    """A captured amount that differs from the orders' is shown and makes the run fail."""
    report = summarize([Placed(A, dollars(100), before=False)], {A: completed(99)}, 1.0)
    assert not report.ok
    assert "0.99 USD  but the completed orders' sum is 1.00 USD" in drawn(report)


def test_stuck_orders_are_named_up_to_ten() -> None:
    """The rest is counted, with the way to see them all."""
    results = [Placed(UUID(int=number), dollars(1), before=False) for number in range(1, 13)]
    lines = drawn(summarize(results, {}, 1.0)).splitlines()
    assert "Not ended in time; `amends list --status stuck` says what they wait for:" in lines
    assert lines[-2:] == [
        "  00000000-0000-0000-0000-00000000000a",
        "  … and 2 more; --output json lists them all",
    ]
