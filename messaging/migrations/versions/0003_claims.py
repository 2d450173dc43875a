"""outbox_claim: which outbox rows a sweeper has in hand, and until when

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

from messaging.schema import SerialId, UTCDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outbox_claim",
        sa.Column("id", SerialId, primary_key=True, autoincrement=True),
        sa.Column("ends_at", UTCDateTime(), nullable=False),
        sa.Column("ids", sa.ARRAY(sa.BigInteger()).with_variant(sa.Text(), "sqlite"), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_claim_ends_at", "outbox_claim", ["ends_at"])


def downgrade() -> None:
    op.drop_table("outbox_claim")
