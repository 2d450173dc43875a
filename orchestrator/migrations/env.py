"""Alembic's entry to the history of the orchestrator's tables."""

from messaging.migrate import run
from orchestrator.schema import metadata

run(metadata, version_table="alembic_version_orchestrator")
