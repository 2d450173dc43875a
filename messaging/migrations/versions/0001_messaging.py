"""inbox, outbox, deferred, dead_letter

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

from messaging.schema import SerialId, UTCDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", SerialId, primary_key=True, autoincrement=True),
        sa.Column("key", sa.Text()),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("routing_key", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.Text()),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", UTCDateTime(), nullable=False),
        sa.Column("available_at", UTCDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("last_error", sa.Text()),
        sa.CheckConstraint("attempts >= 0", name="attempts"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_key_id", "outbox", ["key", "id"])
    op.create_index("ix_outbox_available_at_id", "outbox", ["available_at", "id"])
    op.create_table(
        "inbox",
        sa.Column("message_id", sa.Uuid(), primary_key=True),
        sa.Column("consumer", sa.String(120), primary_key=True),
        sa.Column("status", sa.String(9), nullable=False),
        sa.Column("received_at", UTCDateTime(), nullable=False),
        sa.Column("answer_id", sa.Uuid()),
        sa.Column("answer_type", sa.Text()),
        sa.Column("answer_body", sa.Text()),
        sa.CheckConstraint("status IN ('done', 'deferred', 'started', 'tombstone', 'failed')", name="status"),
    )
    op.create_index("ix_inbox_received_at", "inbox", ["received_at"])
    op.create_table(
        "deferred",
        sa.Column("id", SerialId, primary_key=True, autoincrement=True),
        sa.Column("consumer", sa.String(120), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.Text()),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("first_at", UTCDateTime(), nullable=False),
        sa.Column("due_at", UTCDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
    )
    op.create_index("uq_deferred_message_id_consumer", "deferred", ["message_id", "consumer"], unique=True)
    op.create_index("ix_deferred_consumer_due_at", "deferred", ["consumer", "due_at"])
    op.create_table(
        "dead_letter",
        sa.Column("id", SerialId, primary_key=True, autoincrement=True),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(40), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text()),
        sa.Column("type", sa.Text()),
        sa.Column("correlation_id", sa.Text()),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("routing_key", sa.Text(), nullable=False),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
    )
    op.create_index("ix_dead_letter_reason_at", "dead_letter", ["reason", "at"])
    op.create_index("ix_dead_letter_correlation_id", "dead_letter", ["correlation_id"])


def downgrade() -> None:
    for table in ("dead_letter", "deferred", "inbox", "outbox"):
        op.drop_table(table)
