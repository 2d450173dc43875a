"""Events of an awaited type that reached no saga although they were meant for this one, it seems."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.registry import InvalidMessage, Registry, UnknownMessage
from orchestrator.catalog import Catalog
from orchestrator.diagnosis import letters
from orchestrator.diagnosis.findings import Almost, Awaited, NearMiss, Place
from orchestrator.diagnosis.near import almost
from orchestrator.letters import Letter
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.steps import Wait
from orchestrator.schema import parked_event, saga

LATEST = 5_000
"""Parked events that are looked through, the latest first."""
_NAMED = 5
"""Near misses that are told of; the nearest first."""


@dataclass(frozen=True, slots=True)
class _Names:
    """How an event of an awaited type names its saga: a wait's by `key`, an answer by the saga's id.

    `field` is the one that its contract orders it by.
    """

    key: Callable[[Any], object] | None
    field: str | None


@dataclass(frozen=True, slots=True)
class _Lost:
    """An event that lies somewhere; `data` as JSON, whatever it is."""

    place: Place
    id: int | UUID
    type: str
    message_id: str | None
    at: datetime
    reason: str
    version: int
    data: Any
    correlation_id: str | None
    heard: bool
    """Whether the orchestrator has read it and asked the saga for its key before."""


async def near_misses(
    connection: AsyncConnection,
    recorded: Recorded,
    awaited: Sequence[Awaited],
    catalog: Catalog,
    collected: AsyncConnection,
) -> list[NearMiss]:
    """The nearest few, nearest first; dead letters as they lie in `collected`."""
    names = dict(_names(recorded, awaited, catalog))
    if not names:
        return []
    lost = await _parked(connection, recorded.id, list(names))
    lost.extend(_dead(each) for each in await letters.unread(collected, names, recorded.id))
    found = [miss for each in lost if (miss := _miss(recorded, each, names[each.type], catalog.registry)) is not None]
    return sorted(found, key=lambda miss: (list(Almost).index(miss.almost), -miss.at.timestamp()))[:_NAMED]


def _names(recorded: Recorded, awaited: Sequence[Awaited], catalog: Catalog) -> Iterator[tuple[str, _Names]]:
    """Each awaited type, and how its events name their saga."""
    definition = catalog.get(recorded.name, recorded.version)
    if definition is None:
        return
    fields = {event.wire_type: event.key_field for event in definition.events()}
    for each in awaited:
        stage = definition.stages.get(each.step)
        for wire_type in each.types:
            yield wire_type, _Names(stage.key if isinstance(stage, Wait) else None, fields.get(wire_type))


async def _parked(connection: AsyncConnection, identity: UUID, types: Sequence[str]) -> list[_Lost]:
    """Parked events of these types for instances that do not exist: nobody else's."""
    latest = select(parked_event).order_by(parked_event.c.id.desc()).limit(LATEST).subquery()
    query = (
        select(latest)
        .outerjoin(saga, saga.c.id == latest.c.saga_id)
        .where(latest.c.type.in_(types), latest.c.saga_id != identity, saga.c.id.is_(None))
    )
    return [_early(row) for row in (await connection.execute(query)).all()]


def _early(row: Row[Any]) -> _Lost:
    version, data = _content(row.body)
    return _Lost(
        place=Place.PARKED,
        id=row.id,
        type=row.type,
        message_id=str(row.message_id),
        at=row.parked_at,
        reason=row.reason,
        version=version,
        data=data,
        correlation_id=str(row.saga_id),
        heard=True,
    )


def _dead(letter: Letter) -> _Lost:
    version, data = _content(letter.body)
    return _Lost(
        place=Place.DEAD_LETTER,
        id=letter.id,
        type=letter.type or "",
        message_id=letter.message_id,
        at=letter.at,
        reason=letter.reason,
        version=version,
        data=data,
        correlation_id=letter.correlation_id,
        # Given up after it was parked. What the broker let expire, before anybody read it, names an exchange.
        heard=letter.reason == "expired" and not letter.exchange,
    )


def _content(body: str | bytes | None) -> tuple[int, Any]:
    """The version and the data of a message; neither its own where nobody can read it."""
    try:
        content = json.loads(body or "null")
    except ValueError:  # bytes that nobody can read have no key either
        return 1, None
    if not (isinstance(content, dict) and "specversion" in content):
        return 1, content
    version = content.get("dataversion", 1)
    return version if isinstance(version, int) else 1, content.get("data")


def _miss(recorded: Recorded, lost: _Lost, names: _Names, registry: Registry) -> NearMiss | None:
    """Which of its names is almost this instance's, if one is."""
    key = _key_of(lost, names, registry)
    named = [("key", recorded.key, key)] if key is not None else []
    if names.key is None:
        named.append(("correlation id", str(recorded.id), lost.correlation_id or ""))
    for what, wanted, found in named:
        how = almost(wanted, found)
        if how is not None:
            return NearMiss(
                place=lost.place,
                id=lost.id,
                type=lost.type,
                message_id=lost.message_id,
                at=lost.at,
                reason=lost.reason,
                what=what,
                wanted=wanted,
                found=found,
                almost=how,
            )
    return None


def _key_of(lost: _Lost, names: _Names, registry: Registry) -> str | None:
    """The key it was sent with: by the saga's own function, or the field that its contract orders it by."""
    # The function is called only where the orchestrator has called it before: what it raised on is a dead letter.
    if names.key is not None and lost.heard:
        try:
            return str(names.key(registry.parse(lost.type, lost.version, lost.data)))
        except (InvalidMessage, UnknownMessage):  # newer or older code has parked it
            return None
    value = lost.data.get(names.field) if isinstance(lost.data, dict) and names.field else None
    return str(value) if isinstance(value, (str, int)) else None
