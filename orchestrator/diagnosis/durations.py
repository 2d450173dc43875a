"""How long a step usually takes, from the recorded histories of the same saga."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Row, Select, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.diagnosis.findings import Usual
from orchestrator.percentiles import percentile
from orchestrator.rest import last_move
from orchestrator.saga.state import Direction, Status
from orchestrator.schema import saga, saga_history

INSTANCES = 2_000
"""Instances of each status that are looked through for those of one saga, the latest first."""
TRANSITIONS = 10_000
"""Transitions that are read at most."""

Spans = Mapping[tuple[str, Direction], Sequence[float]]


async def usual(connection: AsyncConnection, name: str) -> dict[tuple[str, Direction], Usual]:
    """For each step (and direction) of the saga of this name that has been answered: how long that took."""
    rows = (await connection.execute(_latest(name))).all()
    found: dict[tuple[str, Direction], list[float]] = defaultdict(list)
    for _, history in groupby(rows, lambda row: row.saga_id):
        for step, seconds in spans(history):
            found[step].append(seconds)
    return {step: _usual(seconds) for step, seconds in found.items()}


def spans(history: Iterable[Row[Any]]) -> Iterable[tuple[tuple[str, Direction], float]]:
    """Each step of one history that an event has settled, with the seconds from its beginning until then.

    Rows have `at`, `facts`, and `input`, of which the beginning will do. What a deadline or a person ended is left
    out: it says nothing of the participant.
    """
    begun: dict[tuple[str, Direction], datetime] = {}
    for row in history:
        by_event = row.input.startswith('{"kind":"event"')
        for fact in json.loads(row.facts):
            match fact["fact"]:
                case "command_sent":
                    key = fact["step"], Direction(fact["direction"])
                    if fact["attempt"] == 1:
                        begun[key] = row.at
                case "wait_begun":
                    begun[fact["step"], Direction.ACTION] = row.at
                case "step_succeeded" | "step_refused" | "step_compensated":
                    undone = fact["fact"] == "step_compensated"
                    key = fact["step"], Direction.COMPENSATION if undone else Direction.ACTION
                    since = begun.pop(key, None)
                    if since is not None and by_event:
                        yield key, max((row.at - since).total_seconds(), 0.0)  # two processes' clocks


def _usual(seconds: list[float]) -> Usual:
    ordered = sorted(seconds)
    return Usual(percentile(ordered, 50), percentile(ordered, 99), len(ordered))


def _latest(name: str) -> Select[Any]:
    """The latest histories."""
    latest = [
        select(
            select(saga.c.id, saga.c.name, saga.c.updated_at)
            .where(saga.c.status == status.value)
            .order_by(last_move(status.value).desc())
            .limit(INSTANCES)
            .subquery()
        )
        for status in Status
    ]
    recent = union_all(*latest).subquery()
    history = saga_history.c
    return (
        select(history.saga_id, history.at, func.substr(history.input, 1, 20).label("input"), history.facts)
        .join(recent, recent.c.id == history.saga_id)
        .where(recent.c.name == name)
        .order_by(recent.c.updated_at.desc(), history.saga_id, history.seq)
        .limit(TRANSITIONS)
    )
