"""orders, order_line, stock, idempotency

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
        "orders",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("customer_id", sa.String(200), nullable=False),
        sa.Column("currency", sa.CHAR(3), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(9), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("captured", sa.BigInteger()),
        sa.Column("placed_at", UTCDateTime(), nullable=False),
        sa.CheckConstraint("total >= 0", name="total"),
        sa.CheckConstraint("items >= 1", name="items"),
        sa.CheckConstraint("status IN ('placed', 'confirmed', 'completed', 'canceled')", name="status"),
        sa.CheckConstraint("(captured IS NOT NULL) = (status = 'completed')", name="captured"),
        sa.CheckConstraint("status <> 'canceled' OR reason IS NOT NULL", name="reason"),
    )
    op.create_index("ix_orders_customer_id_id", "orders", ["customer_id", "id"])
    op.create_index("ix_orders_status_id", "orders", ["status", "id"])
    op.create_table(
        "order_line",
        sa.Column("order_id", sa.Uuid(), sa.ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("sku", sa.String(64), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("number >= 1", name="number"),
        sa.CheckConstraint("quantity >= 1", name="quantity"),
        sa.CheckConstraint("amount >= 0", name="amount"),
    )
    op.create_table(
        "stock",
        sa.Column("sku", sa.String(64), primary_key=True),
        sa.Column("on_hand", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("on_hand >= 0", name="on_hand"),
    )
    op.create_table(
        "idempotency",
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("request_hash", sa.CHAR(64), nullable=False),
        sa.Column(
            "order_id",
            sa.Uuid(),
            sa.ForeignKey("orders.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED"),
            nullable=False,
        ),
        sa.Column("created_at", UTCDateTime(), nullable=False),
    )
    op.create_index("ix_idempotency_order_id", "idempotency", ["order_id"])


def downgrade() -> None:
    for table in ("idempotency", "stock", "order_line", "orders"):
        op.drop_table(table)
