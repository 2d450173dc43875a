"""Alembic's entry to the history of the order service's tables."""

from messaging.migrate import run
from services.order.store import metadata

run(metadata, version_table="alembic_version_order")
