"""saga_attribute, saga_search

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

from messaging.schema import UTCDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "saga_attribute",
        sa.Column("saga_id", sa.Uuid(), primary_key=True),
        sa.Column("name", sa.String(120), primary_key=True),
        sa.Column("value", sa.String(200), nullable=False),
    )
    op.create_index("ix_saga_attribute_name_value_saga_id", "saga_attribute", ["name", "value", "saga_id"])
    op.create_table(
        "saga_search",
        sa.Column("saga", sa.String(80), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("attribute", sa.String(120), primary_key=True),
        sa.Column("indexed_at", UTCDateTime()),
    )


def downgrade() -> None:
    for table in ("saga_search", "saga_attribute"):
        op.drop_table(table)
