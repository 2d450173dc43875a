"""Setting an instance aside whose row cannot be read: stuck from then on, once, until a person decides.

Nobody's message is to blame, and nothing of its data or its steps is needed for it. They stay as they lie in the row,
but for what it was doing before, which stands in `progress` for every stuck instance: where that is JSON at all, the
fold of the history is what the row says, and once a definition can read it, `retry` goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import Row

from orchestrator import history
from orchestrator.saga.inputs import ReadFailed
from orchestrator.saga.machine import unreadable
from orchestrator.saga.state import Status

LONGEST_REASON = 1000
"""Characters of what was wrong with a row."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """What is written of one: its changed row, as `timers.update_instances` takes it, and the row of its history."""

    name: str
    row: dict[str, Any]
    line: dict[str, Any]
    reason: str


def set_aside(row: Row[Any], error: history.CorruptHistory, now: datetime) -> SetAside | None:
    """What makes the instance with this row of `saga` stuck; None where it is stuck already, or has ended."""
    # A text in JSON may hold what PostgreSQL cannot.
    reason = str(error).replace("\x00", "\ufffd")[:LONGEST_REASON]
    given = ReadFailed(now, reason)
    transition = unreadable(Status(row.status), given)
    if not transition.facts:
        return None
    changed = {
        "id": row.id,
        "revision": row.revision,
        "next": row.revision + 1,
        "version": row.version,
        "status": Status.STUCK.value,
        "step": row.step,
        "reason": reason,
        "data": row.data,
        "progress": _remembering(row),
        "deadline": None,
        "updated_at": now,
    }
    line = {
        "saga_id": row.id,
        "seq": row.revision + 1,
        "at": now,
        "input": history.dump_input(given),
        "facts": history.dump_facts(transition.facts),
        "commands": history.dump_sends(transition.sends),
    }
    return SetAside(row.name, changed, line, reason)


def _remembering(row: Row[Any]) -> str:
    """The progress with what the instance was doing and why."""
    try:
        progress = from_json(row.progress)
    except ValueError:
        return str(row.progress)
    if not isinstance(progress, dict):
        return str(row.progress)
    return to_json(progress | {"before": row.status, "reason_before": row.reason}).decode()
