"""saga: where its trace began

Revision ID: 0007
Revises: 0006

Nothing is written anew: the column is added without a value. Code of before goes on with it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("saga", sa.Column("traceparent", sa.String(55)))


def downgrade() -> None:
    op.drop_column("saga", "traceparent")
