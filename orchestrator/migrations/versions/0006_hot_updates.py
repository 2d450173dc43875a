"""saga: what an ordinary transition changes is in no index any more

Revision ID: 0006
Revises: 0005

On PostgreSQL the table is locked, written anew and indexed: a quarter of a minute a million instances; processes
that run wait. Code of before goes on with it and writes none of the new columns, but looks for deadlines without an
index, through the whole table.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_RESTING = "CASE WHEN status IN ('running', 'compensating') THEN NULL ELSE updated_at END"
_COLUMNS = {
    "postgresql": (
        ("due_span bigint", "floor(date_part('epoch', deadline AT TIME ZONE 'UTC') / 10)"),
        ("rested_at timestamptz", _RESTING),
    ),
    "sqlite": (("due_span bigint", "CAST(strftime('%s', deadline) AS INTEGER) / 10"), ("rested_at datetime", _RESTING)),
}
_KIND = {"postgresql": "STORED", "sqlite": "VIRTUAL"}  # SQLite adds no other to a table that is there


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    for index in ("ix_saga_deadline", "ix_saga_status_updated_at", "ix_saga_updated_at_id"):
        op.drop_index(index, "saga")
    added = [f"ADD COLUMN {name} GENERATED ALWAYS AS ({words}) {_KIND[dialect]}" for name, words in _COLUMNS[dialect]]
    if dialect == "postgresql":
        # In one statement, so that the table is written anew once; what has ended stays as dense as it is.
        op.execute(f"ALTER TABLE saga {', '.join(added)}")
        op.execute("ALTER TABLE saga SET (fillfactor = 50)")
    else:
        for each in added:
            op.execute(f"ALTER TABLE saga {each}")
    pending = sa.text("due_span IS NOT NULL")
    op.create_index("ix_saga_due_span", "saga", ["due_span"], postgresql_where=pending, sqlite_where=pending)
    op.create_index("ix_saga_status_rested_at", "saga", ["status", "rested_at"])


def downgrade() -> None:
    op.drop_index("ix_saga_status_rested_at", "saga")
    op.drop_index("ix_saga_due_span", "saga")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE saga RESET (fillfactor)")
    op.drop_column("saga", "rested_at")
    op.drop_column("saga", "due_span")
    pending = sa.text("deadline IS NOT NULL")
    op.create_index("ix_saga_deadline", "saga", ["deadline"], postgresql_where=pending, sqlite_where=pending)
    op.create_index("ix_saga_status_updated_at", "saga", ["status", "updated_at"])
    op.create_index("ix_saga_updated_at_id", "saga", ["updated_at", "id"])
