"""Time passing: which instances have a deadline behind them, which parked events are to be looked at again.

The next deadline is a column of the instance, not a row a timer: it moves with the instance, in the same statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.bulk import Outcome, Record, Writes, alike
from orchestrator.schema import SPAN, parked_event, saga
from orchestrator.texts import Texts

AHEAD = timedelta(seconds=2)
"""How far a look reads deadlines at least, so that what is due between two looks is known to the instant."""


@dataclass(frozen=True, slots=True)
class DeadlineDue:
    """This instance's deadline has passed."""

    saga_id: UUID

    @property
    def correlation_id(self) -> str:
        """That of the messages that it must not be handled beside."""
        return str(self.saga_id)


@dataclass(frozen=True, slots=True)
class ParkedDue:
    """It is time to look at what is parked for this instance."""

    saga_id: UUID

    @property
    def correlation_id(self) -> str:
        """That of the messages that it must not be handled beside."""
        return str(self.saga_id)


async def due(
    connection: AsyncConnection, now: datetime, limit: int, known: Sequence[tuple[str, int]]
) -> tuple[Sequence[DeadlineDue | ParkedDue], datetime | None]:
    """What is due, and when to look again; deadlines only of the `known` definitions (name and version).

    Of what is further away only the span is looked at: most instances that wait are answered, and their deadlines
    moved, before anybody has to read them.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(_IN_ORDER)
    last = int((now + AHEAD).timestamp() // SPAN)
    deadlines = (await connection.execute(_DEADLINES, {"most": limit, "known": known, "last": last})).all()
    waiting = (await connection.execute(_PARKED, {"most": limit})).all()
    ticks: list[DeadlineDue | ParkedDue] = [DeadlineDue(row.id) for row in deadlines if row.deadline <= now]
    ticks.extend(dict.fromkeys(ParkedDue(row.saga_id) for row in waiting if row.retry_at <= now))
    upcoming = [row.deadline for row in deadlines if row.deadline > now]
    if not upcoming and (later := (await connection.execute(_LATER, {"last": last})).scalar_one_or_none()) is not None:
        upcoming.append(datetime.fromtimestamp(later * SPAN, UTC))
    upcoming.extend(row.retry_at for row in waiting if row.retry_at > now)
    return ticks, min(upcoming, default=None)


# Where many wait for about the same time, PostgreSQL would fetch all that wait, to sort them, instead of those of the
# first span. For this look only.
_IN_ORDER = text("SET LOCAL enable_bitmapscan = off")
# Made once: every worker asks twice a second.
_DEADLINES = (
    select(saga.c.id, saga.c.deadline)
    .where(saga.c.due_span <= bindparam("last"))
    # What another process must do would otherwise fill every look of ours, overdue and first for ever.
    .where(tuple_(saga.c.name, saga.c.version).in_(bindparam("known", expanding=True)))
    .order_by(saga.c.due_span, saga.c.deadline)
    .limit(bindparam("most"))
)
_LATER = select(saga.c.due_span).where(saga.c.due_span > bindparam("last")).order_by(saga.c.due_span).limit(1)
_PARKED = (
    select(parked_event.c.saga_id, parked_event.c.retry_at).order_by(parked_event.c.retry_at).limit(bindparam("most"))
)

_CHANGED = ("version", "status", "step", "reason", "data", "progress", "deadline", "updated_at")
_ORDER = ("id", "revision", *_CHANGED, "next")


def change(
    identity: UUID,
    revision: int,
    becomes: int,
    version: int,
    texts: Texts,
    step: str,
    deadline: datetime | None,
    at: datetime,
) -> tuple[Any, ...]:
    """A row for `update_instances`."""
    return (
        identity,
        revision,
        version,
        texts.status,
        step,
        texts.reason,
        texts.data,
        texts.progress,
        deadline,
        at,
        becomes,
    )


def update_instances(writes: Writes, rows: Sequence[Record]) -> Outcome:
    """Write instances that had this `revision`, which becomes `next`; its count says how many still had it."""
    same = alike(rows, ("version", "status", "reason"), ("updated_at",), order=_ORDER)
    return writes.update(saga, ("id", "revision"), _CHANGED, rows, renamed=(("revision", "next"),), alike=same)
