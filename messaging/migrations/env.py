"""Alembic's entry to the history of the messaging tables."""

from messaging.migrate import run
from messaging.schema import metadata

run(metadata, version_table="alembic_version_messaging")
