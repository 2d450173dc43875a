"""What became of a file of orders: the closing report, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contracts.money import Money
from services.order.domain import OrderStatus
from services.order.order_file import WrongRow
from services.order.placing import Ended, Placed

NAMED_STUCK = 10
"""How many of the stuck orders are named, and how many wrong rows are shown in the table."""

NAMED_WRONG = 20


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one run.

    `captured` is what the service says was paid and `completed_total` what the file says the completed
    orders cost, both in minor units by currency: they must be equal.
    """

    rows: int
    placed: int
    already_there: int
    wrong_rows: tuple[WrongRow, ...]
    completed: int
    compensated: Mapping[str, int]
    stuck: tuple[UUID, ...]
    captured: Mapping[str, int]
    completed_total: Mapping[str, int]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every row became an order, every order ended, and the money adds up."""
        return not self.wrong_rows and not self.stuck and self.captured == self.completed_total

    def as_json(self) -> dict[str, Any]:
        """The report as plain data; amounts in minor units."""
        return {
            "ok": self.ok,
            "rows": self.rows,
            "placed": self.placed,
            "already_there": self.already_there,
            "wrong_rows": [{"line": each.line, "reason": each.reason} for each in self.wrong_rows],
            "completed": self.completed,
            "compensated": dict(self.compensated),
            "stuck": [str(order_id) for order_id in self.stuck],
            "captured": dict(self.captured),
            "completed_total": dict(self.completed_total),
            "seconds": round(self.seconds, 1),
        }


def summarize(results: Iterable[Placed | WrongRow], ended: Mapping[UUID, Ended], seconds: float) -> Report:
    """Count what was placed and how it ended; an order that is named twice in the file counts once as an
    order.
    """
    wrong: list[WrongRow] = []
    amounts: dict[UUID, Money] = {}
    rows = placed = before = 0
    for result in results:
        rows += 1
        if isinstance(result, WrongRow):
            wrong.append(result)
            continue
        placed += not result.before
        before += result.before
        amounts[result.order_id] = result.amount
    reasons: Counter[str] = Counter()
    captured: Counter[str] = Counter()
    expected: Counter[str] = Counter()
    completed = 0
    for order_id, end in ended.items():
        if end.status is OrderStatus.COMPLETED and end.captured is not None:
            completed += 1
            captured[end.captured.currency] += end.captured.amount
            expected[amounts[order_id].currency] += amounts[order_id].amount
        else:
            reasons[end.reason or "no reason given"] += 1
    return Report(
        rows=rows,
        placed=placed,
        already_there=before,
        wrong_rows=tuple(sorted(wrong, key=lambda each: each.line)),
        completed=completed,
        compensated=dict(reasons.most_common()),
        stuck=tuple(sorted(order_id for order_id in amounts if order_id not in ended)),
        captured=dict(sorted(captured.items())),
        completed_total=dict(sorted(expected.items())),
        seconds=seconds,
    )


def draw(report: Report, console: Console) -> None:
    """Print the report for people."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("rows read", f"{report.rows:,}", f"in {report.seconds:.1f} s")
    table.add_row("placed", f"{report.placed:,}")
    table.add_row("already there", f"{report.already_there:,}")
    table.add_row("wrong rows", _alarming(len(report.wrong_rows)))
    table.add_row("completed", f"{report.completed:,}")
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.compensated.items())
    table.add_row("compensated", f"{sum(report.compensated.values()):,}", Text(reasons))
    table.add_row("stuck", _alarming(len(report.stuck)))
    for currency, amount in report.captured.items():
        expected = report.completed_total.get(currency, 0)
        verdict = (
            "equals the completed orders' sum"
            if expected == amount
            else f"[bold red]but the completed orders' sum is {Money(amount=expected, currency=currency)}[/]"
        )
        table.add_row("captured", str(Money(amount=amount, currency=currency)), verdict)
    console.print(table)
    if report.wrong_rows:
        console.print()
        for row in report.wrong_rows[:NAMED_WRONG]:
            console.print(Text(f"line {row.line}: {row.reason}"), soft_wrap=True)
        _and_more(console, len(report.wrong_rows) - NAMED_WRONG, "--output json lists them all")
    if report.stuck:
        console.print("\nNot ended in time; `amends list --status stuck` says what they wait for:")
        for order_id in report.stuck[:NAMED_STUCK]:
            console.print(f"  {order_id}", highlight=False)
        _and_more(console, len(report.stuck) - NAMED_STUCK, "--output json lists them all")


def _alarming(count: int) -> Text:
    return Text(f"{count:,}", style="bold red" if count else "")


def _and_more(console: Console, count: int, hint: str) -> None:
    if count > 0:
        console.print(f"  … and {count:,} more; {hint}", highlight=False)
