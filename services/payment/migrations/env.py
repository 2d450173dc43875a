"""Alembic's entry to the history of the payment tables."""

from messaging.migrate import run
from services.payment.schema import metadata

run(metadata, version_table="alembic_version_payment")
