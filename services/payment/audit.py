"""Is all the money where the journal says it is? Read-only, at one moment, over everything ever written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict, computed_field
from sqlalchemy import case, distinct, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.database import Database
from services.payment.domain import Status
from services.payment.journal import CUSTOMER_PREFIX, HOLDS, REFUNDS, SALES
from services.payment.schema import account, authorization, journal_entry, journal_posting

_CUSTOMERS = "customers"

PerCurrency = dict[str, int]
"""Minor units by currency."""


class Audit(BaseModel):
    """What the journal adds up to, and whether the rest of the database agrees with it."""

    model_config = ConfigDict(frozen=True)

    entries: int
    captured: PerCurrency
    """Ever captured, refunds not taken off."""
    refunded: PerCurrency
    held: PerCurrency
    """Held now, by the journal."""
    held_by_authorizations: PerCurrency
    """Held now, by the authorizations' own rows."""
    captured_by_authorizations: PerCurrency
    refunded_by_authorizations: PerCurrency
    postings_total: PerCurrency
    """The sum of all postings: zero in every currency."""
    unbalanced_entries: int
    """Entries whose postings do not sum to zero, are of two currencies or fewer than two."""
    accounts_adrift: int
    """Accounts whose sums are not what the journal says of their customer."""

    @computed_field  # type: ignore[prop-decorator]  # pydantic's own way to serialize a property
    @property
    def findings(self) -> list[str]:
        """What is wrong, in words; empty where every unit is accounted for."""
        found = []
        for what, ours, theirs in (
            ("held", self.held, self.held_by_authorizations),
            ("captured", self.captured, self.captured_by_authorizations),
            ("refunded", self.refunded, self.refunded_by_authorizations),
        ):
            found += [
                f"{what}: the journal says {ours.get(currency, 0)} {currency}, "
                f"the authorizations {theirs.get(currency, 0)}"
                for currency in sorted(ours.keys() | theirs.keys())
                if ours.get(currency, 0) != theirs.get(currency, 0)
            ]
        found += [
            f"all postings of {currency} sum to {total}, not to zero"
            for currency, total in sorted(self.postings_total.items())
            if total != 0
        ]
        if self.unbalanced_entries:
            found.append(f"{self.unbalanced_entries} journal entries do not balance")
        if self.accounts_adrift:
            found.append(f"{self.accounts_adrift} accounts differ from the journal")
        return found

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


async def audit(database: Database) -> Audit:
    """Add everything up, in one snapshot, while payments go on."""
    async with _snapshot(database) as db:
        balances = await _balances(db)
        authorized = await _authorized(db)
        entries = (await db.execute(select(func.count()).select_from(journal_entry))).scalar_one()
        unbalanced = (await db.execute(_unbalanced_entries())).scalar_one()
        adrift = (await db.execute(_accounts_adrift())).scalar_one()
    totals: PerCurrency = {}
    for (_, currency), amount in balances.items():
        totals[currency] = totals.get(currency, 0) + amount
    held = _of(authorized, Status.HELD)
    captured = _of(authorized, Status.CAPTURED)
    refunded = _of(authorized, Status.REFUNDED)
    return Audit(
        entries=entries,
        captured=_of(balances, SALES),
        refunded={currency: -amount for currency, amount in _of(balances, REFUNDS).items()},
        held=_of(balances, HOLDS),
        held_by_authorizations=held,
        captured_by_authorizations={
            currency: captured.get(currency, 0) + refunded.get(currency, 0)
            for currency in captured.keys() | refunded.keys()
        },
        refunded_by_authorizations=refunded,
        postings_total=totals,
        unbalanced_entries=unbalanced,
        accounts_adrift=adrift,
    )


@asynccontextmanager
async def _snapshot(database: Database) -> AsyncIterator[AsyncConnection]:
    async with database.reading() as db:
        if database.dialect == "postgresql":
            # Otherwise each statement would see a later moment than the one before it.
            yield await db.execution_options(isolation_level="REPEATABLE READ")
        else:
            yield db


def _of(sums: dict[tuple[str, str], int], name: str) -> PerCurrency:
    return {currency: amount for (each, currency), amount in sorted(sums.items()) if each == name}


async def _balances(db: AsyncConnection) -> dict[tuple[str, str], int]:
    name = case(
        (journal_posting.c.account.startswith(CUSTOMER_PREFIX, autoescape=True), literal(_CUSTOMERS)),
        else_=journal_posting.c.account,
    ).label("name")
    found = await db.execute(
        select(name, journal_posting.c.currency, func.sum(journal_posting.c.amount)).group_by(
            name, journal_posting.c.currency
        )
    )
    # PostgreSQL sums BIGINT into NUMERIC, because it could overflow.
    return {(each, currency): int(amount) for each, currency, amount in found}


async def _authorized(db: AsyncConnection) -> dict[tuple[str, str], int]:
    found = await db.execute(
        select(authorization.c.status, authorization.c.currency, func.sum(authorization.c.amount))
        .where(authorization.c.amount > 0)
        .group_by(authorization.c.status, authorization.c.currency)
    )
    return {(status, currency): int(amount) for status, currency, amount in found}


def _unbalanced_entries() -> Any:
    wrong = (
        select(journal_entry.c.id)
        .outerjoin(journal_posting, journal_posting.c.entry_id == journal_entry.c.id)
        .group_by(journal_entry.c.id)
        .having(
            or_(
                func.coalesce(func.sum(journal_posting.c.amount), 0) != 0,
                func.count(journal_posting.c.line) < 2,
                func.count(distinct(journal_posting.c.currency)) != 1,
            )
        )
        .subquery()
    )
    return select(func.count()).select_from(wrong)


def _accounts_adrift() -> Any:
    spent = (
        select(
            journal_posting.c.account,
            journal_posting.c.currency,
            func.sum(journal_posting.c.amount).label("balance"),
        )
        .where(journal_posting.c.account.startswith(CUSTOMER_PREFIX, autoescape=True))
        .group_by(journal_posting.c.account, journal_posting.c.currency)
        .subquery()
    )
    # A full join, because a customer in the journal without an account is adrift as well.
    both = spent.join(
        account,
        (spent.c.account == literal(CUSTOMER_PREFIX) + account.c.customer_id)
        & (spent.c.currency == account.c.currency),
        full=True,
    )
    return (
        select(func.count())
        .select_from(both)
        .where(
            func.coalesce(spent.c.balance, 0) + func.coalesce(account.c.held, 0) + func.coalesce(account.c.captured, 0)
            != 0
        )
    )
