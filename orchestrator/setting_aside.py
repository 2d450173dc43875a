"""Setting an instance aside whose row cannot be read: stuck from then on, once, until a person decides.

Nobody's message is to blame, and nothing of its data or its steps is needed for it. They stay as they lie in the row,
but for what it was doing before, which stands in `progress` for every stuck instance: where that is JSON at all, the
fold of the history is what the row says, and once a definition can read it, `retry` goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json
from sqlalchemy import Row

from orchestrator import history, timers
from orchestrator.saga.inputs import ReadFailed
from orchestrator.saga.machine import Transition, unreadable
from orchestrator.saga.state import Status
from orchestrator.texts import Texts

LONGEST_REASON = 1000
"""Characters of what was wrong with a row."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """What is written of one: its changed row, as `timers.update_instances` takes it, and the row of its history."""

    id: UUID
    name: str
    transition: Transition
    row: tuple[Any, ...]
    line: tuple[Any, ...]
    reason: str


def set_aside(row: Row[Any], error: history.CorruptHistory, now: datetime) -> SetAside | None:
    """What makes the instance with this row of `saga` stuck; None where it is stuck already, or has ended."""
    # A text in JSON may hold what PostgreSQL cannot.
    reason = str(error).replace("\x00", "\ufffd")[:LONGEST_REASON]
    given = ReadFailed(now, reason)
    transition = unreadable(Status(row.status), given)
    if not transition.facts:
        return None
    texts = Texts(Status.STUCK.value, reason, row.data, _remembering(row))
    changed = timers.change(row.id, row.revision, row.revision + 1, row.version, texts, row.step, None, now)
    line = (
        row.id,
        row.revision + 1,
        now,
        history.dump_input(given),
        history.dump_facts(transition.facts),
        history.dump_sends(transition.sends),
    )
    return SetAside(row.id, row.name, transition, changed, line, reason)


def _remembering(row: Row[Any]) -> str:
    """The progress with what the instance was doing and why."""
    try:
        progress = from_json(row.progress)
    except ValueError:
        return str(row.progress)
    if not isinstance(progress, dict):
        return str(row.progress)
    return to_json(progress | {"before": row.status, "reason_before": row.reason}).decode()
