"""What the databases of a run have in them when it begins, and how the tables are made, whatever the kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from docs.examples.trip.store import Table as TripTable
from messaging import migrate
from messaging.database import Database
from tests.simulation.plan import ORDER, PAYMENT, TRAVEL, Plan
from tests.simulation.wiring import MIGRATIONS, effect


@dataclass(frozen=True)
class Rows:
    """Rows of one table."""

    table: str
    columns: tuple[str, ...]
    values: Sequence[tuple[Any, ...]]

    def insert(self, parameter: str) -> str:
        """The statement for one of them, its parameters written like this."""
        parameters = ", ".join([parameter] * len(self.columns))
        return f"INSERT INTO {self.table} ({', '.join(self.columns)}) VALUES ({parameters})"


async def make_tables(database: Database, service: str) -> None:
    """Every table of a service's, and no row."""
    await migrate.upgrade(database, (migrate.MESSAGING, *MIGRATIONS[service]))
    async with database.transaction() as connection:
        await connection.run_sync(effect.metadata.create_all)
        if service == TRAVEL:
            await connection.run_sync(TripTable.metadata.create_all)


def first_rows(service: str, plan: Plan, start: datetime) -> list[Rows]:
    """The customers' accounts, the stock, what travelers may book and have."""
    if service == PAYMENT:
        return [_accounts(plan, start)]
    if service == ORDER:
        return [Rows("stock", ("sku", "on_hand"), list(plan.stock.items()))]
    if service == TRAVEL:
        offers = [(kind, name, free) for (kind, name), free in plan.offers.items()]
        travelers = [(name, balance, "USD") for name, balance in plan.travelers.items()]
        return [
            Rows("travel_offer", ("kind", "name", "free"), offers),
            Rows("travel_traveler", ("name", "balance", "currency"), travelers),
        ]
    return []


def _accounts(plan: Plan, start: datetime) -> Rows:
    rows = []
    for account in plan.accounts:
        moments = [
            (start + timedelta(seconds=length)).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
            for length in (account.review, account.offline, 0.0)
        ]
        rows.append((f"USD:{account.customer}", account.customer, "USD", account.limit, *moments))
    columns = ("id", "customer_id", "currency", "credit_limit", "held_until", "issuer_offline_until", "opened_at")
    return Rows("account", columns, rows)
