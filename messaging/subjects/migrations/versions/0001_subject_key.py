"""subject_key: a wrapped key for each person, and who was erased

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


def upgrade() -> None:
    op.create_table(
        "subject_key",
        sa.Column("id", sa.String(22), primary_key=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("wrapped", sa.Text()),
        sa.Column("master", sa.String(100)),
        sa.Column("made_at", UTCDateTime()),
        sa.Column("erased_at", UTCDateTime()),
        sa.Column("erased_by", sa.Text()),
        sa.Column("erased_why", sa.Text()),
        sa.CheckConstraint("(wrapped IS NULL) = (erased_at IS NOT NULL)", name="erased"),
        sa.CheckConstraint("(wrapped IS NULL) = (master IS NULL)", name="master"),
    )
    op.create_index("uq_subject_key_subject", "subject_key", ["subject"], unique=True)
    op.create_index("ix_subject_key_master_id", "subject_key", ["master", "id"])


def downgrade() -> None:
    op.drop_table("subject_key")
