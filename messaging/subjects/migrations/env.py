"""Alembic's entry to the history of the table of subjects' keys."""

from messaging.migrate import run
from messaging.subjects.schema import metadata

run(metadata, version_table="alembic_version_subjects")
