"""Recorded instances put into a database, as if an engine had written them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import insert

from messaging.database import Database
from orchestrator.instance import COLUMNS
from orchestrator.replay.recorded import Recorded
from orchestrator.schema import saga, saga_history


async def store(database: Database, found: Sequence[Recorded]) -> None:
    """Write their rows and their histories."""
    told = [name for name in COLUMNS if name not in {"revision", "traceparent"}]
    rows = [{name: getattr(each, name) for name in told} for each in found]
    for row, each in zip(rows, found, strict=True):
        row["revision"] = len(each.transitions)
    lines = [{"saga_id": each.id} | asdict(line) for each in found for line in each.transitions]
    async with database.transaction() as connection:
        await connection.execute(insert(saga), rows)
        await connection.execute(insert(saga_history), lines)
