"""A recorded instance: its history exactly as it was stored, wherever it was read from (a database, a bundle)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class RecordedTransition:
    """One row of a history. `input`, `facts` and `commands` are the JSON texts as `orchestrator.history` wrote them."""

    seq: int
    at: datetime
    input: str
    facts: str
    commands: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """One instance and its whole history, oldest transition first.

    `version` is the definition's version that the instance has now; `status`, `data` and `progress` are those of its
    row (`orchestrator.history.load_state` reads them), for whoever wants to compare them with the fold.
    """

    id: UUID
    name: str
    version: int
    key: str
    status: str
    step: str
    reason: str
    data: str
    progress: str
    started_at: datetime
    updated_at: datetime
    deadline: datetime | None
    transitions: tuple[RecordedTransition, ...]
