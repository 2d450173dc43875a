"""A preflight: all that is in flight and all that is stored, against the definitions and contracts of this checkout."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Row, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.database import Database
from messaging.schema import dead_letter, outbox
from orchestrator import versions
from orchestrator.catalog import Catalog
from orchestrator.letters import State
from orchestrator.preflight import stored
from orchestrator.preflight.instances import Examined, Verdict, examine
from orchestrator.preflight.report import Report
from orchestrator.preflight.stored import Trouble
from orchestrator.replay.reading import stream
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.state import Status
from orchestrator.schema import collected_letter, parked_event, saga
from orchestrator.versions import Changed

PAGE = 500
_ENDED = frozenset(status.value for status in Status if status.terminal)
INCOMPARABLE = (
    "nobody can say whether it would notice: its definition has changed, and the description of the one before in "
    "saga_definition cannot be read; restore that row from a backup"
)
_READABLE_ONCE = ("handler_failed", "retries_exhausted", "unhandled")
"""Reasons of dead letters that could be read when they died; most others are dead because they could not."""


async def preflight(
    database: Database,
    catalog: Catalog,
    *,
    since: datetime | None = None,
    progress: Callable[[int], None] = lambda more: None,
) -> Report:
    """Look at all instances in flight, and at those that ended since `since` (None: all); writes nothing.

    `progress` is told how many more instances are done.
    """
    async with database.snapshot() as connection:
        report = Report(tuple(await versions.changed(connection, catalog)))
        changes = {(each.name, each.version): each for each in report.changed}
        ended = saga.c.status.in_(_ENDED)
        conditions = () if since is None else (or_(~ended, and_(ended, saga.c.rested_at >= since)),)
        async for recorded in stream(connection, *conditions):
            if recorded.status not in _ENDED:
                report.add(_examined(recorded, catalog, changes.get((recorded.name, recorded.version))))
            _contents(report, recorded, catalog)
            progress(1)
        await _bodies(report, connection, catalog)
    return report


async def count(database: Database, since: datetime | None) -> int:
    """How many instances a preflight will look at."""
    query, ended = select(func.count()).select_from(saga), saga.c.status.in_(_ENDED)
    if since is not None:
        query = query.where(or_(~ended, and_(ended, saga.c.rested_at >= since)))
    async with database.reading() as connection:
        return int((await connection.execute(query)).scalar_one())


def _examined(recorded: Recorded, catalog: Catalog, change: Changed | None) -> Examined:
    found = examine(recorded, catalog, None if change is None else change.before)
    if change is None or change.before is not None or found.verdict is not Verdict.COMPATIBLE:
        return found
    return replace(found, verdict=Verdict.NEEDS_VERSION, reason=INCOMPARABLE)


def _contents(report: Report, recorded: Recorded, catalog: Catalog) -> None:
    report.looked_at["saga"] += 1
    report.looked_at["saga_history"] += len(recorded.transitions)
    definition = catalog.get(recorded.name, recorded.version)
    if definition is None:
        return  # told as an instance that stands still, where it is in flight; nobody reads it, where it has ended
    for trouble in (*stored.in_data(recorded, definition), *stored.in_history(recorded, catalog.registry)):
        report.trouble(trouble)


async def _bodies(report: Report, connection: AsyncConnection, catalog: Catalog) -> None:
    """Messages that have still to be read by somebody."""
    registry = catalog.registry
    for table, ours in ((outbox, True), (parked_event, False)):
        async for row in _pages(connection, select(table), table.c.id):
            mine = ours and registry.speaks(row.type)  # announcements of dead letters lie there, too
            report.looked_at[table.name] += 1
            _body(report, stored.in_body(table.name, f"#{row.id}", row.body, registry, ours=mine))
    async for row in _pages(connection, _LETTERS, collected_letter.c.id):
        body = row.body if row.body is not None else bytes(row.whole).decode("utf-8", errors="replace")
        report.looked_at[collected_letter.name] += 1
        _body(report, stored.in_body(collected_letter.name, str(row.id), body, registry, ours=False))


def _body(report: Report, found: Trouble | None) -> None:
    if found is not None:
        report.trouble(found)


def _letters() -> Select[Any]:
    """Open dead letters of every service that could be read once, as far as this database has them whole."""
    letter, own = collected_letter.c, dead_letter.c
    # What the broker let expire names an exchange, and nobody has read it.
    parked_too_long = and_(letter.reason == "expired", letter.exchange == "")
    return (
        select(letter.id, letter.body, own.body.label("whole"))
        .outerjoin(dead_letter, and_(own.letter_id == letter.id, letter.body.is_(None)))
        .where(letter.state == State.OPEN, or_(letter.reason.in_(_READABLE_ONCE), parked_too_long))
        .where(or_(letter.encoding == "text", own.body.is_not(None)))
    )


_LETTERS = _letters()


async def _pages(connection: AsyncConnection, query: Select[Any], identity: Column[Any]) -> AsyncIterator[Row[Any]]:
    page = query.order_by(identity).limit(PAGE)
    rows = (await connection.execute(page)).all()
    while rows:
        for row in rows:
            yield row
        last = rows[-1].id
        rows = (await connection.execute(page.where(identity > last))).all() if len(rows) == PAGE else []
