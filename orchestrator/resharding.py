"""Spreading sagas over more databases: what belongs to a new one is moved there, while no orchestrator runs.

Each database is stamped as being moved first, in a transaction that waits for every batch in hand; whoever runs
nevertheless ends with its next one. An instance is written where it belongs before it is removed from where it lay: cut
short in between it lies in both, and the next run goes on from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic_core import from_json
from sqlalchemy import Table, delete, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk, schema
from messaging.database import Database, shown
from messaging.inbox import Status
from orchestrator import stamping
from orchestrator.history import MISSHAPEN
from orchestrator.instance import SOURCE
from orchestrator.schema import (
    parked_event,
    saga,
    saga_attribute,
    saga_definition,
    saga_history,
    saga_search,
    saga_shard,
)
from orchestrator.sharding import ALONE, Placement, shard_of

AT_ONCE = 500
"""Instances in one transaction."""


class NotReady(Exception):
    """The sagas cannot be spread like this now; says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Moved:
    """So many instances went from one shard to another."""

    source: int
    target: int
    instances: int


async def look(database: Database) -> Placement | None:
    """What the stamp says."""
    async with database.reading() as connection:
        return await stamping.stamp(connection)


async def reshard(databases: Sequence[Database], *, dry_run: bool = False) -> list[Moved]:
    """Bring every instance where it belongs among these shards; says what was moved. Raises NotReady."""
    for number, database in enumerate(databases):
        # All of them before the first is stamped: a wrong order must not be what they say from then on.
        async with database.reading() as connection:
            await _fits(connection, database, Placement(number, len(databases)))
    for number, database in () if dry_run else enumerate(databases):
        await _close(database, Placement(number, len(databases)))
    moved: Counter[tuple[int, int]] = Counter()
    astray = [await _astray(each, Placement(number, len(databases))) for number, each in enumerate(databases)]
    # An event for instances in several shards may be handled in one, and wait for another. Both may go to one now.
    whole = not any(astray[1:])
    for number, source in enumerate(databases):
        for ids in _slices(astray[number]):
            for target in sorted({shard_of(each, len(databases)) for each in ids}):
                going = [each for each in ids if shard_of(each, len(databases)) == target]
                moved[number, target] += len(going)
                if not dry_run:
                    await _move(source, databases[target], going, taken_in=whole)
    if not dry_run:
        for number, database in enumerate(databases):
            async with database.transaction() as connection:
                await _write_stamp(connection, Placement(number, len(databases)))
    return [Moved(source, target, number) for (source, target), number in sorted(moved.items())]


async def _fits(connection: AsyncConnection, database: Database, placement: Placement, *, change: bool = False) -> None:
    """Raise NotReady where a database cannot become this shard."""
    found = await stamping.stamp(connection, change=change)
    where = shown(database.url)
    if found is None or found == ALONE:
        full = (await connection.execute(select(saga.c.id).limit(1))).first() is not None
        if full and placement.number:
            raise NotReady(f"{where} holds sagas of its own; a database that is added must hold none")
    elif found.number != placement.number:
        raise NotReady(f"{where} is {found}, not number {placement.number}; mend the order in AMENDS_SHARDS")
    elif abs(found.shards) > placement.shards:
        raise NotReady(f"{where} is one of {abs(found.shards)} shards; they are not taken away: name all of them")


async def _close(database: Database, placement: Placement) -> None:
    """Stamp it as being moved, so that nobody works on it."""
    async with database.transaction() as connection:
        await _fits(connection, database, placement, change=True)
        await _write_stamp(connection, placement.moving)


async def _write_stamp(connection: AsyncConnection, placement: Placement) -> None:
    await connection.execute(delete(saga_shard))
    await connection.execute(saga_shard.insert(), {"number": placement.number, "shards": placement.shards})


async def _astray(database: Database, placement: Placement) -> list[UUID]:
    """The instances that belong elsewhere, also those of which only an early event is there yet."""
    async with database.reading() as connection:
        rows = await connection.stream(union(select(saga.c.id), select(parked_event.c.saga_id)))
        return sorted([row[0] async for row in rows if row[0] not in placement])


def _slices(ids: list[UUID]) -> list[list[UUID]]:
    return [ids[at : at + AT_ONCE] for at in range(0, len(ids), AT_ONCE)]


async def _move(source: Database, target: Database, ids: Sequence[UUID], *, taken_in: bool) -> None:
    """Move these instances; `taken_in` says that what they have taken in concerns nobody any more."""
    async with source.reading() as connection:
        await _see_sent(connection, source, ids)
        rows: dict[Table, list[dict[str, Any]]] = {}
        for table in _OF_AN_INSTANCE:
            # Parked events are taken up in the order of their numbers, which they are given anew.
            rows[table] = await _rows(connection, table, ids, "ORDER BY id" if table is parked_event else "")
        written = {table: await _rows(connection, table, None) for table in _DEFINITIONS}
    async with target.transaction() as connection:
        for table, found in (written | rows).items():
            columns = tuple(each.name for each in table.c if each is not parked_event.c.id and each.computed is None)
            await bulk.insert(connection, table, columns, found, ignore_conflicts=True)
        taken = list(_taken_in(rows[saga_history], rows[parked_event])) if taken_in else []
        await bulk.insert(connection, schema.inbox, tuple(_TAKEN), taken, ignore_conflicts=True)
    async with source.transaction() as connection:
        for table in reversed(_OF_AN_INSTANCE):
            await bulk.delete(connection, _owner(table), ids)


async def _see_sent(connection: AsyncConnection, source: Database, ids: Sequence[UUID]) -> None:
    """A command that is still to be sent must not be overtaken by one from the other database."""
    column = schema.outbox.c.key
    left = await bulk.select(connection, (column,), column, [str(each) for each in ids])
    if left:
        raise NotReady(
            f"{shown(source.url)} still has messages to send, of {left[0][0]} and maybe others; let a relay send them "
            "(DATABASE_URL=… amends relay), and run this again"
        )


def _taken_in(histories: Sequence[dict[str, Any]], parked: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What the inbox must know of these instances, so that an event delivered once more after the move is dropped."""
    for row in histories:
        try:
            given = from_json(row["input"])
            if given["kind"] == "event":
                yield _TAKEN | {"message_id": UUID(given["message_id"]), "received_at": row["at"]}
        except MISSHAPEN:
            continue  # a history that cannot be read moves as it is
    for row in parked:
        yield _TAKEN | {"message_id": row["message_id"], "received_at": row["parked_at"]}


async def _rows(
    connection: AsyncConnection, table: Table, ids: Sequence[UUID] | None, order: str = ""
) -> list[dict[str, Any]]:
    if ids is None:
        found: Sequence[Any] = (await connection.execute(select(table))).all()
    else:
        found = await bulk.select(connection, tuple(table.c), _owner(table), ids, order)
    return [row._asdict() for row in found]


def _owner(table: Table) -> Any:
    return table.c.id if table is saga else table.c.saga_id


_TAKEN = {"message_id": None, "consumer": SOURCE, "status": Status.DONE, "received_at": None}
_OF_AN_INSTANCE = (saga, saga_history, saga_attribute, parked_event)
_DEFINITIONS = (saga_definition, saga_search)
