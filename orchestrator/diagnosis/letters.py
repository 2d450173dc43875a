"""Everybody's dead letters that nobody is done with, as far as they may be about one saga."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator import letters
from orchestrator.instance import SOURCE
from orchestrator.letters import COLLECTED, Criteria, Letter, State
from orchestrator.schema import collected_letter

OF_SAGA = 20
"""Letters of one saga that are told of, the latest first."""
LATEST = 5_000
"""Letters of each state that are looked through for some types, the latest first."""
UNSETTLED = frozenset({State.OPEN, State.REDRIVEN})
"""Of a letter that was sent again nothing has been heard yet."""


async def of_saga(connection: AsyncConnection, identity: UUID) -> list[Letter]:
    """The latest that name this saga, by correlation id, which is indexed; without their bodies."""
    return await letters.listing(connection, COLLECTED, Criteria(saga=str(identity), states=UNSETTLED), OF_SAGA)


async def unread(connection: AsyncConnection, types: Collection[str], other_than: UUID) -> list[Letter]:
    """What the orchestrator itself could not take in of these types, among the latest; with their bodies.

    Those that name this saga are left out. What another service could not handle has come here all the same.
    """
    table = collected_letter.c
    columns = (table.id, table.service, table.type, table.correlation_id)
    # A state at a time: the index on both gives the latest without sorting all there are.
    latest = [
        select(select(*columns).where(table.state == state).order_by(table.at.desc()).limit(LATEST).subquery())
        for state in sorted(UNSETTLED)
    ]
    each = union_all(*latest).subquery().c
    query = select(each.id).where(each.service == SOURCE, each.type.in_(types))
    query = query.where(each.correlation_id.is_distinct_from(str(other_than)))
    ids = tuple((await connection.execute(query)).scalars())
    if not ids:
        return []
    found = await letters.listing(connection, COLLECTED, Criteria(ids=ids), len(ids))
    return await letters.with_bodies(connection, COLLECTED, found)
