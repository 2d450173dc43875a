"""saga, saga_history, parked_event, saga_definition

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
        "saga",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("status", sa.String(12), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("deadline", UTCDateTime()),
        sa.Column("started_at", UTCDateTime(), nullable=False),
        sa.Column("updated_at", UTCDateTime(), nullable=False),
        sa.CheckConstraint(
            "status IN ('running', 'compensating', 'completed', 'compensated', 'stuck', 'abandoned')", name="status"
        ),
        sa.CheckConstraint("revision > 0", name="revision"),
    )
    pending = sa.text("deadline IS NOT NULL")
    op.create_index("ix_saga_deadline", "saga", ["deadline"], postgresql_where=pending, sqlite_where=pending)
    op.create_index("ix_saga_status_updated_at", "saga", ["status", "updated_at"])
    op.create_index("ix_saga_name_version_status", "saga", ["name", "version", "status"])
    op.create_table(
        "saga_history",
        sa.Column("saga_id", sa.Uuid(), primary_key=True),
        sa.Column("seq", sa.Integer(), primary_key=True),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("commands", sa.Text(), nullable=False),
        sa.CheckConstraint("seq > 0", name="seq"),
    )
    op.create_table(
        "parked_event",
        sa.Column("id", SerialId, primary_key=True, autoincrement=True),
        sa.Column("saga_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("parked_at", UTCDateTime(), nullable=False),
        sa.Column("retry_at", UTCDateTime(), nullable=False),
    )
    op.create_index("uq_parked_event_saga_id_message_id", "parked_event", ["saga_id", "message_id"], unique=True)
    op.create_index("ix_parked_event_retry_at", "parked_event", ["retry_at"])
    op.create_table(
        "saga_definition",
        sa.Column("name", sa.String(80), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("seen_at", UTCDateTime(), nullable=False),
    )


def downgrade() -> None:
    for table in ("saga_definition", "parked_event", "saga_history", "saga"):
        op.drop_table(table)
