"""python -m deploy.audit: whether every order, its saga, its payment and the stock tell the same story.

Waits until nothing is under way (`--wait` seconds at most), then looks into the three databases, which
ORCHESTRATOR_DATABASE_URL, ORDER_DATABASE_URL and PAYMENT_DATABASE_URL name, each also as a file. It only reads. Exit
codes: 0 everything holds, 1 something does not (a line each), 69 a database is not there, 78 a setting is missing.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Annotated

import typer

from contracts.money import Money
from deploy.inspection import Inspection, inspect, opened, work_left
from deploy.migrate import MIGRATIONS, databases
from messaging.database import DATABASE_ERRORS, Database, in_words
from messaging.process import EX_CONFIG, EX_UNAVAILABLE, load
from messaging.program import run
from services.order.settings import OrderSettings

app = typer.Typer(help="Audit the money, the stock and the histories.", rich_markup_mode=None)


@app.command()
def audit(
    *,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until nothing is under way.")] = 60,
    stock: Annotated[
        int | None, typer.Option(min=0, help="How many there were of a sku at first; as ORDER_DEFAULT_STOCK says.")
    ] = None,
) -> None:
    """Look whether every order, its saga, its payment and the stock tell the same story.

    Example: python -m deploy.audit --wait 120
    """
    urls = {name: settings.database for name, settings in databases().items()}
    for name in MIGRATIONS.keys() - urls.keys():
        print(f"{name.upper()}_DATABASE_URL must say where the {name} database is", file=sys.stderr)
        raise typer.Exit(EX_CONFIG)
    at_first = load(OrderSettings).default_stock if stock is None else stock
    try:
        found, left = asyncio.run(_inspected(urls, wait, at_first or 0))
    except DATABASE_ERRORS as error:
        print(f"a database does not answer: {in_words(error)}", file=sys.stderr)
        raise typer.Exit(EX_UNAVAILABLE) from error
    _tell(found)
    wrong = [f"{what}: {count}" for what, count in left.items()] + list(found.findings)
    for each in wrong:
        print(f"WRONG: {each}")
    if not wrong:
        print("nothing was lost, nothing happened twice")
    raise typer.Exit(1 if wrong else 0)


async def _inspected(urls: Mapping[str, str], wait: float, stock: int) -> tuple[Inspection, dict[str, int]]:
    """What was found, and what is still under way when there was no more time to wait."""
    async with opened(urls) as reached:
        left = await _settled(reached, wait)
        return await inspect(reached, default_stock=stock), left


async def _settled(reached: Mapping[str, Database], wait: float) -> dict[str, int]:
    give_up = time.monotonic() + wait
    while (left := await work_left(reached)) and time.monotonic() < give_up:  # noqa: ASYNC110 - others do the work
        await asyncio.sleep(0.5)
    return left


def _tell(found: Inspection) -> None:
    print("orders: " + (", ".join(f"{how} {count:,}" for how, count in found.ended.items()) or "none"))
    print("sagas: " + (", ".join(f"{status} {count:,}" for status, count in found.sagas.items()) or "none"))
    for currency in sorted(found.completed_total):
        captured = Money(amount=found.audit.captured.get(currency, 0), currency=currency)
        expected = Money(amount=found.completed_total[currency], currency=currency)
        held = Money(amount=found.audit.held.get(currency, 0), currency=currency)
        print(f"money: captured {captured}, completed orders {expected}, held {held}")
    print(f"history: {found.rows['orchestrator.saga_history']:,} transitions, folded and compared with the sagas' rows")


if __name__ == "__main__":
    run("python -m deploy.audit", app)
