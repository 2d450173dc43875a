"""The dead letters that the orchestrator knows of: the one place that says where they lie."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.schema import dead_letter

OF_SAGA = 20
"""Letters of one saga that are told of, the latest first."""
LATEST = 5_000
"""Rows of the table that are looked through for some types, the latest first."""

_COLUMNS = (
    dead_letter.c.id,
    dead_letter.c.service,
    dead_letter.c.type,
    dead_letter.c.message_id,
    dead_letter.c.reason,
    dead_letter.c.error,
    dead_letter.c.at,
)


async def of_saga(connection: AsyncConnection, identity: UUID) -> Sequence[Row[*tuple[Any, ...]]]:
    """The latest that name this saga, by correlation id, which is indexed; without their bodies."""
    query = select(*_COLUMNS).where(dead_letter.c.correlation_id == str(identity))
    return (await connection.execute(query.order_by(dead_letter.c.id.desc()).limit(OF_SAGA))).all()


async def of_types(
    connection: AsyncConnection, types: Collection[str], other_than: UUID
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Those of these types among the latest, with their bodies, that do not name this saga."""
    latest = (
        select(*_COLUMNS, dead_letter.c.correlation_id, dead_letter.c.body)
        .order_by(dead_letter.c.id.desc())
        .limit(LATEST)
        .subquery()
    )
    rows = (await connection.execute(select(latest).where(latest.c.type.in_(types)))).all()
    return [row for row in rows if row.correlation_id != str(other_than)]
