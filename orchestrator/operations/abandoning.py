"""Ending an instance whose definition is not loaded or cannot read its row: the one action that needs nothing of it.

Its data and its steps stay as they lie in its row, unread; the fold of its history is what the row says all the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk
from messaging.database import Conflict
from orchestrator import history
from orchestrator.replay.recorded import RecordedTransition
from orchestrator.saga.acting import abandoned, ended
from orchestrator.saga.inputs import PersonActed
from orchestrator.saga.state import Status
from orchestrator.schema import saga, saga_history


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an instance is, by its row alone."""

    status: Status
    step: str
    revision: int
    moved_at: datetime

    @property
    def refusal(self) -> str:
        """Why it cannot be abandoned; empty where it can."""
        return ended(self.status) if self.status.terminal else ""


async def standing(connection: AsyncConnection, identity: UUID) -> Standing:
    """Where this instance is, whose row the caller has locked."""
    query = select(saga.c.status, saga.c.step, saga.c.revision, saga.c.updated_at).where(saga.c.id == identity)
    row = (await connection.execute(query)).one()
    return Standing(Status(row.status), row.step, row.revision, row.updated_at)


async def abandon(
    connection: AsyncConnection, identity: UUID, found: Standing, given: PersonActed, now: datetime
) -> RecordedTransition:
    """End it as it is. Raises Conflict where somebody came between."""
    fact = abandoned(given)
    entry = RecordedTransition(
        found.revision + 1, now, history.dump_input(given), history.dump_facts([fact]), history.dump_sends([])
    )
    done = await connection.execute(
        update(saga)
        .where(saga.c.id == identity, saga.c.revision == found.revision)
        .values(status=Status.ABANDONED, step="", reason=fact.reason, revision=entry.seq, deadline=None, updated_at=now)
    )
    if not done.rowcount:
        raise Conflict("another process moved the instance")
    row = asdict(entry) | {"saga_id": identity}
    await bulk.insert(connection, saga_history, tuple(row), [row])
    return entry
