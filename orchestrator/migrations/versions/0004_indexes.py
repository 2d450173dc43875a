"""indexes: an instance by its key, the latest instances of all, a dead letter by its message

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Neither a key nor a message id is bounded, and PostgreSQL's ordinary index takes 2.7 kB: a hash takes all.
    op.create_index("ix_saga_key", "saga", ["key"], postgresql_using="hash")
    op.create_index("ix_saga_updated_at_id", "saga", ["updated_at", "id"])
    op.create_index("ix_collected_letter_message_id", "collected_letter", ["message_id"], postgresql_using="hash")


def downgrade() -> None:
    op.drop_index("ix_collected_letter_message_id", "collected_letter")
    op.drop_index("ix_saga_updated_at_id", "saga")
    op.drop_index("ix_saga_key", "saga")
