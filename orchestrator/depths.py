"""What the orchestrator's database says: sagas that have not ended, how old they are, what is parked, dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, case, extract, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.schema import UTCDateTime
from messaging.telemetry.depths import REASONS, age, counted
from messaging.telemetry.families import MOST, OTHER, SPANS, Family, Histogram, Labels, folded
from orchestrator.catalog import Catalog
from orchestrator.saga.state import Status
from orchestrator.schema import collected_letter, parked_event, saga

SERVICES = 50
"""Services whose dead letters are counted by themselves, those with most of them; the rest counts as one."""
_UNDER_WAY = (Status.RUNNING, Status.COMPENSATING)
_AGES = SPANS[6:]
_GREATEST = 7 * 24 * 3600.0
_BOUNDS = (*_AGES, _GREATEST)

_of_status = select(saga.c.name, saga.c.started_at).where(saga.c.status == bindparam("status")).limit(MOST).subquery()


def _younger(number: int) -> ColumnElement[int]:
    moment = bindparam(f"since{number}", type_=UTCDateTime())
    return func.sum(case((_of_status.c.started_at >= moment, 1), else_=0))


# Of an instance under way its status and its row are all that is read: no index tells when it started.
_SAGAS: Select[Any] = select(
    _of_status.c.name,
    func.count().label("number"),
    func.min(_of_status.c.started_at).label("first"),
    func.sum(extract("epoch", _of_status.c.started_at)).label("epochs"),
    *(_younger(number) for number in range(len(_BOUNDS))),
).group_by(_of_status.c.name)
_parked = select(parked_event.c.name, parked_event.c.parked_at).order_by(parked_event.c.id).limit(MOST).subquery()
_PARKED: Select[Any] = select(_parked.c.name, func.count(), func.min(_parked.c.parked_at)).group_by(_parked.c.name)
_open = (
    select(collected_letter.c.service, collected_letter.c.reason)
    .where(collected_letter.c.state == "open")
    .limit(MOST)
    .subquery()
)
_LETTERS: Select[Any] = select(_open.c.service, _open.c.reason, func.count()).group_by(_open.c.service, _open.c.reason)


class SagaDepths:
    """Looks at the orchestrator's own tables; sagas that the catalog does not know count as one."""

    def __init__(self, catalog: Catalog) -> None:
        self._names = catalog.names()

    async def __call__(self, connection: AsyncConnection, now: datetime) -> Sequence[Family]:
        return (
            *await self._sagas(connection, now),
            *await self._parked(connection, now),
            await self._letters(connection),
        )

    async def _sagas(self, connection: AsyncConnection, now: datetime) -> Sequence[Family]:
        given = {f"since{number}": now - timedelta(seconds=bound) for number, bound in enumerate(_BOUNDS)}
        numbers: dict[Labels, float] = {
            (name, status.value): 0.0 for name in self._names for status in (*_UNDER_WAY, Status.STUCK)
        }
        ages: dict[Labels, Histogram] = {(name,): Histogram(_BOUNDS) for name in self._names}
        oldest: dict[Labels, float] = {(name,): 0.0 for name in self._names}
        for status in (*_UNDER_WAY, Status.STUCK):
            for row in await connection.execute(_SAGAS, given | {"status": status.value}):
                name = folded(row.name, self._names)
                numbers[name, status.value] = numbers.get((name, status.value), 0.0) + row.number
                if status not in _UNDER_WAY:
                    continue
                oldest[name,] = max(oldest.get((name,), 0.0), age(row.first, now))
                _add(ages.setdefault((name,), Histogram(_BOUNDS)), row, now)
        return (
            Family("amends_sagas", "Sagas that have not ended, by status.", "gauge", ("saga", "status"), numbers),
            Family(
                "amends_saga_age_seconds",
                "How long ago the sagas were started that are running or compensating.",
                "snapshot",
                ("saga",),
                ages,
            ),
            Family(
                "amends_saga_oldest_age_seconds",
                "How long ago the oldest saga was started that is running or compensating; 0 when there is none.",
                "gauge",
                ("saga",),
                oldest,
            ),
        )

    async def _parked(self, connection: AsyncConnection, now: datetime) -> Sequence[Family]:
        numbers: dict[Labels, float] = {(name,): 0.0 for name in self._names}
        ages = dict(numbers)
        for name, number, since in await connection.execute(_PARKED):
            labels = (folded(name, self._names),)
            numbers[labels] = numbers.get(labels, 0.0) + number
            ages[labels] = max(ages.get(labels, 0.0), age(since, now))
        return (
            Family("amends_parked_events", "Events that no saga awaits yet.", "gauge", ("saga",), numbers),
            Family(
                "amends_parked_oldest_age_seconds",
                "How long the event has been parked that has been so for longest; 0 when there is none.",
                "gauge",
                ("saga",),
                ages,
            ),
        )

    async def _letters(self, connection: AsyncConnection) -> Family:
        rows = [(service, reason, number) for service, reason, number in await connection.execute(_LETTERS)]
        most: dict[str, int] = {}
        for service, _, number in rows:
            most[service] = most.get(service, 0) + number
        # Whoever may publish a dead letter names its service.
        shown = sorted(most, key=lambda each: (-most[each], each))[:SERVICES]
        return Family(
            "amends_collected_dead_letters",
            "Dead letters of all services that nobody has decided about, as the orchestrator has collected them.",
            "gauge",
            ("failed_in", "reason"),
            counted(((folded(service, shown), folded(reason, REASONS)), number) for service, reason, number in rows)
            or {(OTHER, OTHER): 0.0},
        )


def _add(histogram: Histogram, row: Any, now: datetime) -> None:
    """The ages of a row's instances, which it says cumulatively."""
    younger = [0, *row[4:], row.number]
    for place, (fewer, more) in enumerate(pairwise(younger)):
        histogram.counts[place] += more - fewer
    histogram.total += max(row.number * now.timestamp() - float(row.epochs), 0.0)
