"""Events of an awaited type that reached no saga although they were meant for this one, it seems."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    id: int
    type: str
    message_id: str | None
    at: datetime
    reason: str
    version: int
    data: Any
    correlation_id: str | None


async def near_misses(
    connection: AsyncConnection, recorded: Recorded, awaited: Sequence[Awaited], catalog: Catalog
) -> list[NearMiss]:
    """The nearest few, nearest first."""
    names = dict(_names(recorded, awaited, catalog))
    if not names:
        return []
    lost = await _parked(connection, recorded.id, list(names))
    for row in await letters.of_types(connection, names, recorded.id):
        lost.append(_lost(Place.DEAD_LETTER, row, row.at, row.correlation_id))
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
    return [
        _lost(Place.PARKED, row, row.parked_at, str(row.saga_id)) for row in (await connection.execute(query)).all()
    ]


def _lost(place: Place, row: Row[Any], at: datetime, correlation_id: str | None) -> _Lost:
    content = _content(row.body)
    structured = isinstance(content, dict) and "specversion" in content
    envelope: Mapping[str, Any] = content if structured else {}
    version = envelope.get("dataversion", 1)
    return _Lost(
        place=place,
        id=row.id,
        type=row.type,
        message_id=str(row.message_id) if row.message_id else None,
        at=at,
        reason=row.reason,
        version=version if isinstance(version, int) else 1,
        data=envelope.get("data") if structured else content,
        correlation_id=correlation_id,
    )


def _content(body: str | bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:  # bytes that nobody can read have no key either
        return None


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
    if names.key is not None and (lost.place is Place.PARKED or lost.reason == "expired"):
        try:
            return str(names.key(registry.parse(lost.type, lost.version, lost.data)))
        except (InvalidMessage, UnknownMessage):  # newer or older code has parked it
            return None
    value = lost.data.get(names.field) if isinstance(lost.data, dict) and names.field else None
    return str(value) if isinstance(value, (str, int)) else None
