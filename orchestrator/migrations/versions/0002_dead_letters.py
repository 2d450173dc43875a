"""collected_letter: the dead letters of every service

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

from messaging.schema import UTCDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "collected_letter",
        sa.Column("id", sa.Uuid(), primary_key=True),
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
        sa.Column("body", sa.Text()),
        sa.Column("encoding", sa.String(6)),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("first_at", UTCDateTime(), nullable=False),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("state", sa.String(9), nullable=False),
        sa.Column("decided_at", UTCDateTime()),
        sa.Column("decided_by", sa.Text()),
        sa.Column("decided_why", sa.Text()),
        sa.Column("redriven_as", sa.Uuid()),
        sa.Column("handled_at", UTCDateTime()),
        sa.CheckConstraint("state IN ('open', 'redriven', 'handled', 'discarded')", name="state"),
        sa.CheckConstraint("encoding IN ('text', 'base64')", name="encoding"),
    )
    op.create_index("ix_collected_letter_state_at", "collected_letter", ["state", "at"])
    op.create_index("ix_collected_letter_correlation_id", "collected_letter", ["correlation_id"])


def downgrade() -> None:
    op.drop_table("collected_letter")
