"""The payment service's tables.

Amounts are BIGINT minor units. The journal is append-only, and the database itself refuses to change or delete a
row of it. Each index names the query it serves.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    event,
)

from messaging.privileges import APPENDED
from messaging.schema import NAMING, UTCDateTime

TOMBSTONE = "tombstone"
"""The status of a row that only says: voided before it was authorized."""

metadata = MetaData(naming_convention=NAMING)

account = Table(
    "account",
    metadata,
    # the currency, a colon and the customer: one column, so that a batch's accounts are one array
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("credit_limit", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False, server_default="0"),
    Column("captured", BigInteger, nullable=False, server_default="0"),
    Column("held_until", UTCDateTime),
    Column("issuer_offline_until", UTCDateTime),
    Column("opened_at", UTCDateTime, nullable=False),
    CheckConstraint("length(currency) = 3", name="currency"),
    CheckConstraint("credit_limit >= 0", name="credit_limit"),
    CheckConstraint("held >= 0", name="held"),
    CheckConstraint("captured >= 0", name="captured"),
    CheckConstraint("id = currency || ':' || customer_id", name="id"),
    # "what does this customer have?"
    Index("ix_account_customer_id", "customer_id"),
)

authorization = Table(
    "payment_authorization",
    metadata,
    Column("order_id", Uuid, primary_key=True),
    Column("status", String(9), nullable=False),
    # empty for a tombstone: the void of an order of which nothing else is known
    Column("authorization_id", Text),
    Column("customer_id", Text),
    Column("currency", String(3)),
    Column("amount", BigInteger),
    Column("opened_at", UTCDateTime, nullable=False),
    Column("changed_at", UTCDateTime, nullable=False),
    CheckConstraint("status IN ('held', 'captured', 'voided', 'refunded', 'tombstone')", name="status"),
    CheckConstraint(
        "CASE WHEN status = 'tombstone'"
        " THEN coalesce(authorization_id, customer_id, currency) IS NULL AND amount IS NULL"
        " ELSE authorization_id IS NOT NULL AND customer_id IS NOT NULL AND currency IS NOT NULL"
        " AND length(currency) = 3 AND amount IS NOT NULL AND amount >= 0 END",
        name="complete",
    ),
)

journal_entry = Table(
    "journal_entry",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("order_id", Uuid, nullable=False),
    Column("operation", String(9), nullable=False),
    Column("at", UTCDateTime, nullable=False),
    CheckConstraint("operation IN ('authorize', 'void', 'capture', 'refund')", name="operation"),
    # "what happened to this order's money?", and nothing happens twice
    Index("uq_journal_entry_order_id_operation", "order_id", "operation", unique=True),
    info=APPENDED,
)

journal_posting = Table(
    "journal_posting",
    metadata,
    Column("entry_id", Uuid, ForeignKey("journal_entry.id"), primary_key=True),
    Column("line", SmallInteger, primary_key=True, autoincrement=False),
    Column("account", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    CheckConstraint("length(currency) = 3", name="currency"),
    CheckConstraint("amount <> 0", name="amount"),
    info=APPENDED,
)

_REFUSAL = "the journal is append-only: write a new entry instead"

for _table in (journal_entry, journal_posting):
    for _dialect, _statement in (
        (
            "postgresql",
            (
                "CREATE OR REPLACE FUNCTION journal_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
            ),
        ),
        (
            "postgresql",
            (
                f"CREATE TRIGGER {_table.name}_append_only BEFORE UPDATE OR DELETE ON {_table.name} "
                "FOR EACH ROW EXECUTE FUNCTION journal_is_append_only()"
            ),
        ),
        (
            "sqlite",
            (
                f"CREATE TRIGGER {_table.name}_no_update BEFORE UPDATE ON {_table.name} "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            ),
        ),
        (
            "sqlite",
            (
                f"CREATE TRIGGER {_table.name}_no_delete BEFORE DELETE ON {_table.name} "
                f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            ),
        ),
    ):
        _ddl = DDL(_statement)  # type: ignore[no-untyped-call]  # SQLAlchemy leaves DDL without types
        event.listen(_table, "after_create", _ddl.execute_if(dialect=_dialect))
