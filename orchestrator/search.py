"""Finding instances by the attributes that their definition declares in `search`.

The engine writes an instance's attributes in the batch's transaction, and only where they have changed. Instances that
are older than the declaration are indexed by `reindex`; until it has run, `saga_search` says so, and so does whoever
asks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import ColumnElement, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk
from messaging.bulk import Writes
from messaging.database import Database
from messaging.strict_json import storable
from orchestrator.catalog import Catalog
from orchestrator.saga.attributes import attributes
from orchestrator.saga.definition import Saga
from orchestrator.schema import saga, saga_attribute, saga_search

LONGEST_VALUE = 200
"""Characters of a value that are kept and compared: an index entry has an end."""
PAGE = 500
"""Instances that `reindex` locks and writes in one transaction."""

_COLUMNS = ("saga_id", "name", "value")


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute that a definition declares; `indexed` is False while older instances cannot be found by it."""

    saga: str
    version: int
    name: str
    indexed: bool


@dataclass(frozen=True, slots=True)
class Reindexed:
    """What `reindex` has done for one definition. `unreadable` are instances whose data does not fit it."""

    saga: str
    version: int
    search: tuple[str, ...]
    instances: int
    unreadable: tuple[UUID, ...]


def comparable(value: str) -> str:
    """A value as it is stored and compared: without what PostgreSQL cannot hold, at most LONGEST_VALUE characters."""
    return storable(value)[:LONGEST_VALUE]


_NUMBER = attrgetter("int")  # what UUIDs compare by, a tenth as dear as their own comparison


async def forget(connection: AsyncConnection, ids: Collection[UUID]) -> None:
    """Delete the attributes of these instances."""
    await bulk.delete(connection, saga_attribute.c.saga_id, sorted(ids, key=_NUMBER))


def add(writes: Writes, found: Mapping[UUID, Mapping[str, str]], *, careful: bool = True) -> None:
    """Make these the attributes of these instances, which have none, once `writes` has run.

    Not `careful`, it is a unique violation where they have.
    """
    records = [
        {"saga_id": identity, "name": name, "value": comparable(value)}
        for identity in sorted(found, key=_NUMBER)
        for name, value in found[identity].items()
    ]
    writes.insert(saga_attribute, _COLUMNS, records, ignore_conflicts=careful)


async def index(connection: AsyncConnection, found: Mapping[UUID, Mapping[str, str]]) -> None:
    """Make these the attributes of instances that this transaction has locked."""
    writes = Writes()
    await forget(connection, found)
    add(writes, found)
    await writes.run(connection)


def matching(where: Mapping[str, str]) -> list[ColumnElement[bool]]:
    """Conditions on `saga` that hold for instances that have all these attributes."""
    return [
        saga.c.id.in_(
            select(saga_attribute.c.saga_id).where(
                saga_attribute.c.name == name, saga_attribute.c.value == comparable(value)
            )
        )
        for name, value in where.items()
    ]


async def attributes_of(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, dict[str, str]]:
    """The stored attributes of these instances."""
    columns = (saga_attribute.c.saga_id, saga_attribute.c.name, saga_attribute.c.value)
    found: dict[UUID, dict[str, str]] = {}
    for identity, name, value in await bulk.select(
        connection, columns, saga_attribute.c.saga_id, ids, "ORDER BY saga_id, name"
    ):
        found.setdefault(identity, {})[name] = value
    return found


async def declared(connection: AsyncConnection, name: str | None = None) -> list[Attribute]:
    """What can be searched for, of one saga or of all."""
    query = select(saga_search).order_by(saga_search.c.saga, saga_search.c.version, saga_search.c.attribute)
    if name is not None:
        query = query.where(saga_search.c.saga == name)
    rows = (await connection.execute(query)).all()
    return [Attribute(row.saga, row.version, row.attribute, row.indexed_at is not None) for row in rows]


async def declare(database: Database, catalog: Catalog, now: datetime) -> None:
    """Write down what this process's definitions declare; says in the log where `amends reindex` is needed."""
    wanted = {(each.name, each.version, name) for each in catalog for name in each.search}
    async with database.reading() as connection:
        known = await declared(connection)
    missing = sorted(wanted - {(each.saga, each.version, each.name) for each in known})
    if missing:
        async with database.transaction() as connection:
            await _add(connection, missing, now)
            known = await declared(connection)
    behind = {(each.saga, each.version) for each in known if not each.indexed}
    for name, version in sorted(behind & {(each.name, each.version) for each in catalog}):
        structlog.get_logger().warning(
            "search_not_indexed", saga=name, version=version, mend="run `amends reindex` to find older instances too"
        )


async def _add(connection: AsyncConnection, missing: Sequence[tuple[str, int, str]], now: datetime) -> None:
    records = []
    for name, version, attribute in missing:
        older = select(exists().where(saga.c.name == name, saga.c.version == version))
        indexed_at = None if (await connection.execute(older)).scalar_one() else now
        records.append({"saga": name, "version": version, "attribute": attribute, "indexed_at": indexed_at})
    columns = ("saga", "version", "attribute", "indexed_at")
    await bulk.insert(connection, saga_search, columns, records, ignore_conflicts=True)


async def reindex(
    database: Database,
    definition: Saga[Any],
    now: datetime,
    *,
    progress: Callable[[int], None] = lambda _: None,
    page: int = PAGE,
) -> Reindexed:
    """Index every instance of a definition as it declares now, a page a transaction, while sagas run.

    Safe to stop and to run again. `progress` is told how many instances are done.
    """
    done, unreadable = 0, []
    after = UUID(int=0)
    while True:
        async with database.transaction() as connection:
            rows = await _page(connection, definition, after, page)
            found: dict[UUID, Mapping[str, str]] = {}
            for row in rows:
                try:
                    found[row.id] = _attributes(definition, row.data)
                except ValidationError:
                    unreadable.append(row.id)
            await index(connection, found)
        done += len(rows)
        progress(done)
        if len(rows) < page:
            break
        after = rows[-1].id
    await _settle(database, definition, None if unreadable else now)
    return Reindexed(definition.name, definition.version, definition.search, done, tuple(unreadable))


async def _page(connection: AsyncConnection, definition: Saga[Any], after: UUID, page: int) -> Sequence[Any]:
    # Locked in the order in which the engine locks: whoever moves one meanwhile waits, and writes after us.
    query = (
        select(saga.c.id, saga.c.data)
        .where(saga.c.name == definition.name, saga.c.version == definition.version, saga.c.id > after)
        .order_by(saga.c.id)
        .limit(page)
        .with_for_update()
    )
    return (await connection.execute(query)).all()


def _attributes(definition: Saga[Any], data: str) -> Mapping[str, str]:
    return attributes(definition.search, None if data == "null" else definition.data.model_validate_json(data))


async def _settle(database: Database, definition: Saga[Any], indexed_at: datetime | None) -> None:
    mine = (saga_search.c.saga == definition.name, saga_search.c.version == definition.version)
    async with database.transaction() as connection:
        await connection.execute(delete(saga_search).where(*mine, saga_search.c.attribute.not_in(definition.search)))
        await connection.execute(update(saga_search).where(*mine).values(indexed_at=indexed_at))
        records = [
            {"saga": definition.name, "version": definition.version, "attribute": name, "indexed_at": indexed_at}
            for name in definition.search
        ]
        columns = ("saga", "version", "attribute", "indexed_at")
        await bulk.insert(connection, saga_search, columns, records, ignore_conflicts=True)
