"""Figures of sagas: how many, how fast, and what becomes of each step's commands.

Counts by status are exact. Everything that histories tell is taken from a sample of each saga's instances, so that time
and memory are bounded whatever the tables hold: the first ones by id, which is a hash of the key and so as good as
drawn by lot. The same figures on both databases, because they are computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.percentiles import percentile
from orchestrator.replay.reading import PAGE, stream
from orchestrator.rest import moved_since
from orchestrator.saga.state import Status
from orchestrator.schema import saga
from orchestrator.tallying import StepTally, Tally

SAMPLE = 5_000
"""Instances of a saga whose histories are read."""
MOST_REASONS = 5
_ENDED = frozenset(status.value for status in Status if status.terminal)


@dataclass(frozen=True, slots=True)
class Durations:
    """How long something took, in seconds; `count` is how often it was measured."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class StepStatistics:
    """What became of a step's commands in the sample; see `StepTally`. `reasons` are the most frequent refusals."""

    step: str
    sent: int
    answered: int
    refused: int
    reasons: Mapping[str, int]
    timed_out: int
    retried: int
    compensated: int
    duration: Durations


@dataclass(frozen=True, slots=True)
class SagaStatistics:
    """One saga's figures. `statuses` and `ended_per_second` are of all instances that moved since, the rest of
    `sampled` ones, but for those whose history is `unreadable`.
    """

    saga: str
    statuses: Mapping[str, int]
    ended_per_second: float
    sampled: int
    unreadable: int
    duration: Durations
    steps: tuple[StepStatistics, ...]

    @property
    def instances(self) -> int:
        """How many moved since."""
        return sum(self.statuses.values())


async def statistics(
    connection: AsyncConnection,
    now: datetime,
    *,
    name: str | None = None,
    since: datetime | None = None,
    sample: int = SAMPLE,
) -> list[SagaStatistics]:
    """The figures of each saga (or of one), of instances that moved since then (or ever)."""
    moved = [] if since is None else [moved_since(since)]
    wanted = moved if name is None else [*moved, saga.c.name == name]
    query = (
        select(saga.c.name, saga.c.status, func.count(), func.min(saga.c.started_at))
        .where(*wanted)
        .group_by(saga.c.name, saga.c.status)
        .order_by(saga.c.name, saga.c.status)
    )
    statuses: dict[str, dict[str, int]] = {}
    first: dict[str, datetime] = {}
    for found, status, number, started in (await connection.execute(query)).all():
        statuses.setdefault(found, {})[status] = number
        first[found] = min(first.get(found, started), started)
    figures = []
    for found, counted in statuses.items():
        began = first[found] if since is None else max(since, first[found])
        tally = await _sampled(connection, [*moved, saga.c.name == found], sample)
        figures.append(_figures(found, counted, (now - began).total_seconds(), tally))
    return figures


async def _sampled(connection: AsyncConnection, conditions: Sequence[ColumnElement[bool]], sample: int) -> Tally:
    tally = Tally()
    async with aclosing(stream(connection, *conditions, page=min(PAGE, sample))) as histories:  # type: ignore[type-var]
        async for recorded in histories:
            tally.add(recorded)
            if tally.instances >= sample:
                break
    return tally


def _figures(name: str, statuses: Mapping[str, int], seconds: float, tally: Tally) -> SagaStatistics:
    ended = sum(number for status, number in statuses.items() if status in _ENDED)
    return SagaStatistics(
        saga=name,
        statuses=statuses,
        ended_per_second=ended / seconds if seconds > 0 else 0.0,
        sampled=tally.instances,
        unreadable=tally.unreadable,
        duration=_durations(tally.took),
        steps=tuple(_step(step, counted) for step, counted in tally.steps.items()),
    )


def _step(name: str, tally: StepTally) -> StepStatistics:
    # Of equally frequent ones the first by name, so that two databases tell the same.
    most = sorted(tally.refusals.items(), key=lambda each: (-each[1], each[0]))[:MOST_REASONS]
    return StepStatistics(
        step=name,
        sent=tally.sent,
        answered=tally.answered,
        refused=tally.refusals.total(),
        reasons=dict(most),
        timed_out=tally.timed_out,
        retried=tally.retried,
        compensated=tally.compensated,
        duration=_durations(tally.took),
    )


def _durations(took: Sequence[float]) -> Durations:
    ordered = sorted(took)
    if not ordered:
        return Durations(0, None, None, None)
    return Durations(len(ordered), *(percentile(ordered, percent) for percent in (50, 95, 99)))
