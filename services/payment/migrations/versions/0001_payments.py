"""account, payment_authorization, journal_entry, journal_posting

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

from messaging.schema import UTCDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JOURNAL = ("journal_entry", "journal_posting")


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("credit_limit", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("captured", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("held_until", UTCDateTime()),
        sa.Column("issuer_offline_until", UTCDateTime()),
        sa.Column("opened_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_account"),
        sa.CheckConstraint("length(currency) = 3", name=op.f("ck_account_currency")),
        sa.CheckConstraint("credit_limit >= 0", name=op.f("ck_account_credit_limit")),
        sa.CheckConstraint("held >= 0", name=op.f("ck_account_held")),
        sa.CheckConstraint("captured >= 0", name=op.f("ck_account_captured")),
        sa.CheckConstraint("id = currency || ':' || customer_id", name=op.f("ck_account_id")),
    )
    op.create_index("ix_account_customer_id", "account", ["customer_id"])
    op.create_table(
        "payment_authorization",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(9), nullable=False),
        sa.Column("authorization_id", sa.Text()),
        sa.Column("customer_id", sa.Text()),
        sa.Column("currency", sa.String(3)),
        sa.Column("amount", sa.BigInteger()),
        sa.Column("opened_at", UTCDateTime(), nullable=False),
        sa.Column("changed_at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", name="pk_payment_authorization"),
        sa.CheckConstraint(
            "status IN ('held', 'captured', 'voided', 'refunded', 'tombstone')",
            name=op.f("ck_payment_authorization_status"),
        ),
        sa.CheckConstraint(
            "CASE WHEN status = 'tombstone'"
            " THEN coalesce(authorization_id, customer_id, currency) IS NULL AND amount IS NULL"
            " ELSE authorization_id IS NOT NULL AND customer_id IS NOT NULL AND currency IS NOT NULL"
            " AND length(currency) = 3 AND amount IS NOT NULL AND amount >= 0 END",
            name=op.f("ck_payment_authorization_complete"),
        ),
    )
    op.create_table(
        "journal_entry",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("operation", sa.String(9), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_journal_entry"),
        sa.CheckConstraint(
            "operation IN ('authorize', 'void', 'capture', 'refund')",
            name=op.f("ck_journal_entry_operation"),
        ),
    )
    op.create_index("uq_journal_entry_order_id_operation", "journal_entry", ["order_id", "operation"], unique=True)
    op.create_table(
        "journal_posting",
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("line", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.PrimaryKeyConstraint("entry_id", "line", name="pk_journal_posting"),
        sa.ForeignKeyConstraint(["entry_id"], ["journal_entry.id"], name=op.f("fk_journal_posting_entry_id")),
        sa.CheckConstraint("length(currency) = 3", name=op.f("ck_journal_posting_currency")),
        sa.CheckConstraint("amount <> 0", name=op.f("ck_journal_posting_amount")),
    )
    _make_append_only(op.get_bind().dialect.name)


def downgrade() -> None:
    for table in ("journal_posting", "journal_entry", "payment_authorization", "account"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION journal_is_append_only()")


def _make_append_only(dialect: str) -> None:
    if dialect == "postgresql":
        op.execute(
            "CREATE FUNCTION journal_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the journal is append-only: write a new entry instead'; END $$"
        )
    for table in JOURNAL:
        if dialect == "postgresql":
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION journal_is_append_only()"
            )
            continue
        for change in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change} BEFORE {change.upper()} ON {table} BEGIN "
                "SELECT RAISE(ABORT, 'the journal is append-only: write a new entry instead'); END"
            )
