"""How a batch of payments is read and written: a few statements whatever its size."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from contracts.money import Money
from messaging import bulk
from messaging.bulk import Writes, alike
from messaging.driver import Ahead
from messaging.together import together
from services.payment.domain import Account, Authorization, Books, Status, Tombstone
from services.payment.journal import Entry, Operation, Posting
from services.payment.schema import TOMBSTONE, account, authorization, journal_entry, journal_posting


async def open_books(
    db: AsyncSession,
    order_ids: Collection[UUID],
    new_accounts: Iterable[Account] = (),
    *,
    now: datetime,
) -> Books:
    """The books of these orders, theirs alone until the transaction ends.

    `new_accounts` are the accounts that are needed beside those of the authorizations found; the ones that do
    not exist yet are opened as given. Orders are locked before accounts and both in order, so that two
    batches that want the same ones wait for each other. Only an authorization repeated for another account
    could lock one out of turn: a deadlock, which passes.
    """
    connection = await db.connection()
    wanted = {each.id: each for each in new_accounts}
    reads = Writes()
    known = reads.select(_AUTHORIZATION, _ORDER_ID, list(order_ids))
    if wanted:
        needed = reads.select(_ACCOUNT, _ID, list(wanted), _LOCKING)
    else:
        needed = reads.select(_ACCOUNT, _ORDER_ID, list(order_ids), _LOCKING, by=(_ID, _ACCOUNT_ID))
    await reads.run(connection, ahead=_lock(order_ids))
    found = [_authorization(row) for row in known.rows]
    accounts = [_account(row) for row in needed.rows]
    if wanted:
        accounts += await _locked_accounts(
            connection, {each.account_id for each in found if isinstance(each, Authorization)} - wanted.keys()
        )
    missing = wanted.keys() - {each.id for each in accounts}
    if missing:
        await _open(connection, [wanted[key] for key in sorted(missing)], now)
        accounts += await _locked_accounts(connection, missing)
    return Books(accounts, found)


async def close_books(db: AsyncSession, books: Books, *, now: datetime) -> None:
    """Write what has changed, all tables together, and on PostgreSQL with what else the batch writes."""
    async with together(db) as writes:
        writes.update(
            account,
            ("id",),
            ("held", "captured"),
            [(each.id, each.held, each.captured) for each in books.changed_accounts()],
        )
        writes.insert(
            authorization,
            _AUTHORIZATION_COLUMNS,
            [_authorization_row(each, now) for each in books.opened()],
            alike=("opened_at", "changed_at"),
        )
        writes.update(
            authorization,
            ("order_id",),
            ("status", "changed_at"),
            [(each.order_id, each.status.value, now) for each in books.changed()],
            alike=("changed_at",),
        )
        _write_journal(writes, books.entries(), now)


async def put_account(connection: AsyncConnection, terms: Account, *, now: datetime) -> Account:
    """Open the account with these terms, or give them to the one there is; its sums stay what they are."""
    await _open(connection, [terms], now)
    await bulk.update(connection, account, ("id",), _TERMS, [_account_row(terms, now)])
    (row,) = await bulk.select(connection, _ACCOUNT, _ID, [terms.id])
    return _account(row)


async def accounts_of_customer(connection: AsyncConnection, customer_id: str) -> list[Account]:
    """A customer's accounts, ordered by currency; none where nobody has heard of the customer."""
    found = await connection.execute(
        select(account).where(account.c.customer_id == customer_id).order_by(account.c.currency)
    )
    return [_account(row) for row in found]


async def authorization_of(connection: AsyncConnection, order_id: UUID) -> Authorization | Tombstone | None:
    """What is known of one order."""
    found = await connection.execute(select(authorization).where(authorization.c.order_id == order_id))
    row = found.one_or_none()
    return None if row is None else _authorization(row)


async def journal_of(connection: AsyncConnection, order_id: UUID) -> list[tuple[datetime, Entry]]:
    """The journal entries of one order with the moment each was written, oldest first."""
    found = await connection.execute(
        select(
            journal_entry.c.operation,
            journal_entry.c.at,
            journal_posting.c.account,
            journal_posting.c.amount,
            journal_posting.c.currency,
        )
        .join(journal_posting, journal_posting.c.entry_id == journal_entry.c.id)
        .where(journal_entry.c.order_id == order_id)
        .order_by(journal_posting.c.line)
    )
    lines: dict[Operation, list[Any]] = {}
    for row in found:
        lines.setdefault(Operation(row.operation), []).append(row)
    # Two entries of one batch share their moment, but an order's operations only ever follow one another this
    # way.
    return [
        (
            rows[0].at,
            Entry(
                order_id,
                operation,
                rows[0].currency,
                tuple(Posting(row.account, row.amount) for row in rows),
            ),
        )
        for operation in Operation
        if (rows := lines.get(operation))
    ]


_TERMS = ("credit_limit", "held_until", "issuer_offline_until")
_ACCOUNT_COLUMNS = ("id", "customer_id", "currency", *_TERMS, "opened_at")
_AUTHORIZATION_COLUMNS = (
    "order_id",
    "status",
    "authorization_id",
    "customer_id",
    "currency",
    "amount",
    "opened_at",
    "changed_at",
)


def _lock(order_ids: Collection[UUID]) -> Ahead:
    """An order nobody has heard of has no row to lock, yet its authorize and its void may be decided in two processes
    at once. SQLite has one writer anyway.
    """
    keys = sorted({_lock_key(each) for each in order_ids})
    plain = (_LOCK_ONE, str(keys[0])) if len(keys) == 1 else None
    return Ahead(_LOCK, (keys,), plain)


_LOCK = "SELECT count(pg_advisory_xact_lock(key)) FROM unnest($1::bigint[]) AS key"
_LOCK_ONE = "SELECT 1 WHERE pg_advisory_xact_lock($1::bigint) IS NULL"
"""Nothing is ever returned by it, and so there is nothing to read."""
_ACCOUNT, _ID = tuple(account.c), account.c.id
_AUTHORIZATION, _ORDER_ID = tuple(authorization.c), authorization.c.order_id
_ACCOUNT_ID = "currency || ':' || customer_id"
"""What `domain.account_id` makes of an authorization."""


def _lock_key(order_id: UUID) -> int:
    # The low half: ids that sort by time are nearly the same in front.
    return int.from_bytes(order_id.bytes[8:], "big", signed=True)


async def _locked_accounts(connection: AsyncConnection, ids: Collection[str]) -> list[Account]:
    rows = await bulk.select(connection, _ACCOUNT, _ID, list(ids), _LOCKING)
    return [_account(row) for row in rows]


_LOCKING = "ORDER BY id FOR UPDATE"


async def _open(connection: AsyncConnection, accounts: Collection[Account], now: datetime) -> None:
    await bulk.insert(
        connection,
        account,
        _ACCOUNT_COLUMNS,
        [_account_row(each, now) for each in accounts],
        ignore_conflicts=True,
    )


def _write_journal(writes: Writes, entries: Collection[Entry], now: datetime) -> None:
    numbered = [(entry.id, entry) for entry in entries]
    writes.insert(
        journal_entry,
        ("id", "order_id", "operation", "at"),
        [(identity, each.order_id, each.operation.value, now) for identity, each in numbered],
        alike=("at",),
    )
    postings = [
        (identity, line, posting.account, posting.amount, entry.currency)
        for identity, entry in numbered
        for line, posting in enumerate(entry.postings)
    ]
    same = alike(postings, ("currency",), order=_POSTING)
    writes.insert(journal_posting, _POSTING, postings, alike=same)


_POSTING = ("entry_id", "line", "account", "amount", "currency")


def _account(row: Row[Any]) -> Account:
    return Account(
        customer_id=row.customer_id,
        currency=row.currency,
        credit_limit=row.credit_limit,
        held=row.held,
        captured=row.captured,
        held_until=row.held_until,
        issuer_offline_until=row.issuer_offline_until,
    )


def _account_row(each: Account, now: datetime) -> dict[str, object]:
    return {
        "id": each.id,
        "customer_id": each.customer_id,
        "currency": each.currency,
        "credit_limit": each.credit_limit,
        "held_until": each.held_until,
        "issuer_offline_until": each.issuer_offline_until,
        "opened_at": now,
    }


def _authorization(row: Row[Any]) -> Authorization | Tombstone:
    if row.status == TOMBSTONE:
        return Tombstone(row.order_id)
    return Authorization(
        order_id=row.order_id,
        authorization_id=row.authorization_id,
        customer_id=row.customer_id,
        amount=Money(amount=row.amount, currency=row.currency),
        status=Status(row.status),
    )


def _authorization_row(each: Authorization | Tombstone, now: datetime) -> tuple[object, ...]:
    if isinstance(each, Tombstone):
        return (each.order_id, TOMBSTONE, None, None, None, None, now, now)
    money = each.amount
    status = each.status.value
    return (each.order_id, status, each.authorization_id, each.customer_id, money.currency, money.amount, now, now)
