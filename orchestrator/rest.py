"""Instances under way and at rest, as the indexes know them: what moves by itself has no `rested_at`, and of what does
not (it has ended, or is stuck) that is the moment of its last move.

When an instance under way was moved last is in no index: its every move would cost an entry. They are few beside those
at rest, so they are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Column, ColumnElement, and_, or_

from orchestrator.saga.state import Status
from orchestrator.schema import SPAN, saga

UNDER_WAY: Sequence[str] = (Status.RUNNING.value, Status.COMPENSATING.value)
AT_REST: Sequence[str] = tuple(status.value for status in Status if status.value not in UNDER_WAY)


def last_move(status: str) -> Column[datetime]:
    """The moment of the last move of instances with this status, as an index has it if there is one."""
    return saga.c.updated_at if status in UNDER_WAY else saga.c.rested_at


def moved_since(moment: datetime) -> ColumnElement[bool]:
    """Whether an instance was moved then or later."""
    lately = and_(saga.c.status.in_(UNDER_WAY), saga.c.updated_at >= moment)
    return or_(lately, and_(saga.c.status.in_(AT_REST), saga.c.rested_at >= moment))


def overdue(now: datetime) -> ColumnElement[bool]:
    """Whether an instance's deadline has passed."""
    return and_(saga.c.due_span <= int(now.timestamp() // SPAN), saga.c.deadline <= now)
