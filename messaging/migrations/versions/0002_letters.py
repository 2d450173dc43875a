"""dead_letter: an identity that survives repetitions, and what a person has decided

Revision ID: 0002
Revises: 0001
"""

from uuid import UUID, uuid5

import sqlalchemy as sa
from alembic import op

from messaging.schema import UTCDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_LETTER = UUID("5a5f3a1e-0a41-5a9a-9a5e-6c1d1f2b7d10")


def upgrade() -> None:
    with op.batch_alter_table("dead_letter") as table:
        table.add_column(sa.Column("letter_id", sa.Uuid()))
        table.add_column(sa.Column("state", sa.String(9), nullable=False, server_default="open"))
        table.add_column(sa.Column("decided_at", UTCDateTime()))
        table.add_column(sa.Column("decided_by", sa.Text()))
        table.add_column(sa.Column("decided_why", sa.Text()))
        table.add_column(sa.Column("redriven_as", sa.Uuid()))
    _name_letters()
    with op.batch_alter_table("dead_letter") as table:
        table.alter_column("letter_id", existing_type=sa.Uuid(), nullable=False)
        table.create_check_constraint("state", "state IN ('open', 'redriven', 'discarded')")
    op.create_index("ix_dead_letter_letter_id", "dead_letter", ["letter_id"])


def _name_letters() -> None:
    letters = sa.table(
        "dead_letter",
        sa.column("id", sa.Integer()),
        sa.column("service", sa.Text()),
        sa.column("message_id", sa.Text()),
        sa.column("letter_id", sa.Uuid()),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(letters.c.id, letters.c.service, letters.c.message_id)).all():
        # Without a message id nobody will ask for it by another name than its own.
        name = uuid5(_LETTER, f"{row.service}\n{row.message_id or row.id}")
        connection.execute(letters.update().where(letters.c.id == row.id).values(letter_id=name))


def downgrade() -> None:
    op.drop_index("ix_dead_letter_letter_id", "dead_letter")
    with op.batch_alter_table("dead_letter") as table:
        table.drop_constraint(op.f("ck_dead_letter_state"), type_="check")
        for column in ("redriven_as", "decided_why", "decided_by", "decided_at", "state", "letter_id"):
            table.drop_column(column)
