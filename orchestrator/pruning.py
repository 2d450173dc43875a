"""Removing sagas that ended long ago, with their history, everybody's old dead letters once they are handled or
discarded, and definitions that no instance needs any more.

In small batches, each archived before a short transaction deletes it. An instance that has moved since it was read (a
late answer) is left alone: its revision proves it. So is one that something still waits for: an event that is parked
(without the instance, it could start it a second time), or a dead letter that was sent again and of which nothing has
been heard yet. One that has not ended is never touched, and neither is a dead letter of it about which nobody has
decided.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Uuid,
    case,
    cast,
    delete,
    exists,
    false,
    func,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk, pruning, schema
from messaging.archive import Archive
from messaging.database import Database
from messaging.pruning import Cutoff
from orchestrator import archive as archived
from orchestrator.letters import State
from orchestrator.replay.reading import stream
from orchestrator.saga.state import Status
from orchestrator.schema import (
    collected_letter,
    parked_event,
    saga,
    saga_attribute,
    saga_definition,
    saga_history,
    saga_search,
)

BATCH = 100
"""Instances in one transaction."""
_ENDED = tuple(status.value for status in Status if status.terminal)
_UNDECIDED = (State.OPEN, State.REDRIVEN)


@dataclass(frozen=True, slots=True)
class Prunable:
    """What there is to remove, or what was removed. `dead_letters` are the orchestrator's own, `collected_letters` the
    entries of every service's in its collection; `definitions` are written name v1.
    """

    instances: int
    transitions: int
    inbox: int
    dead_letters: int
    collected_letters: int
    definitions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What may go: what is older than the cutoff, of one saga or of all.

    Inbox entries and dead letters belong to no one saga, so they stay where only one is wanted.
    """

    cutoff: Cutoff
    saga: str | None = None


async def prunable(connection: AsyncConnection, wanted: Wanted) -> Prunable:
    """How much `prune` would remove."""
    rest, collected = pruning.Prunable(0, 0), 0
    if wanted.saga is None:
        rest = await pruning.prunable(connection, wanted.cutoff, _known)
        for state in State:
            conditions = _collected(wanted.cutoff, state, connection.dialect.name)
            old = select(func.count()).select_from(collected_letter).where(*conditions)
            collected += int((await connection.execute(old)).scalar_one())
    conditions = [saga.c.status.in_(_ENDED), *_conditions(wanted), _unreferred(connection.dialect.name)]
    query = select(func.count(), func.sum(saga.c.revision)).where(*conditions)
    instances, transitions = (await connection.execute(query)).one()
    definitions = await _unused(connection, wanted)
    named = _named(definitions)
    return Prunable(instances, int(transitions or 0), rest.inbox, rest.dead_letters, collected, named)


async def undecided(connection: AsyncConnection, wanted: Wanted) -> int:
    """How many collected dead letters are that old and neither handled nor discarded; its own are among them."""
    if wanted.saga is not None:
        return 0
    table = collected_letter.c
    query = select(func.count()).where(table.state.in_(_UNDECIDED), table.at < wanted.cutoff.before)
    return int((await connection.execute(query)).scalar_one())


async def oldest_under_way(connection: AsyncConnection) -> datetime | None:
    """When the oldest instance that has not ended was started: participants may still be asked by it."""
    query = select(func.min(saga.c.started_at)).where(saga.c.status.not_in(_ENDED))
    found: datetime | None = (await connection.execute(query)).scalar_one()
    return found


async def prune(
    database: Database,
    wanted: Wanted,
    archive: Archive | None = None,
    *,
    removed: Callable[[int], None] = lambda _: None,
    batch: int = BATCH,
) -> Prunable:
    """Remove what is wanted; `removed` is told how many rows' worth of instances, entries and letters each batch took.

    Raises ArchiveFailed; nothing is removed then that is not in the archive.
    """
    instances = transitions = 0
    for status in _ENDED:
        while True:
            began = pruning.moment()
            page = await _page(database, status, wanted, batch)
            if archive is not None:
                await _archive(database, page, archive)
            gone, moves = await _remove(database, page)
            instances, transitions = instances + gone, transitions + moves
            removed(gone)
            await pruning.make_way(began)
            if len(page) < batch:
                break
    rest, collected = pruning.Prunable(0, 0), 0
    if wanted.saga is None:
        rest = await pruning.prune(database, wanted.cutoff, archive, knowing=_known, removed=removed)
        collected = await _prune_collected(database, wanted.cutoff, archive, removed, batch)
    forgotten = await _forget(database, wanted)
    return Prunable(instances, transitions, rest.inbox, rest.dead_letters, collected, forgotten)


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    named = [] if wanted.saga is None else [saga.c.name == wanted.saga]
    return [saga.c.rested_at < wanted.cutoff.before, *named]


def _unreferred(dialect: str) -> ColumnElement[bool]:
    """Whether nothing waits that is meant for this instance."""
    letter = collected_letter.c
    named = _saga_named(letter.correlation_id, dialect)
    on_its_way = letter.state == State.REDRIVEN
    # Each database its own form of one question: what one of them answers by reading the letters once, the other would
    # answer by reading them for every instance.
    if dialect == "postgresql":
        free = ~exists().where(on_its_way, named == saga.c.id)
    else:
        free = saga.c.id.not_in(select(named).where(on_its_way, named.is_not(None)))
    return ~exists().where(parked_event.c.saga_id == saga.c.id) & free


async def _page(database: Database, status: str, wanted: Wanted, batch: int) -> dict[UUID, int]:
    """Some instances that may go, each with its revision."""
    # One status at a time, oldest first: the index on both answers it without sorting what there is.
    query = (
        select(saga.c.id, saga.c.revision)
        .where(saga.c.status == status, *_conditions(wanted), _unreferred(database.dialect))
        .order_by(saga.c.rested_at)
        .limit(batch)
    )
    async with database.reading() as connection:
        return {row.id: row.revision for row in (await connection.execute(query)).all()}


async def _archive(database: Database, page: Collection[UUID], archive: Archive) -> None:
    async with database.reading() as connection:
        found = stream(connection, saga.c.id.in_(page), page=len(page) + 1)
        archive.append([archived.line(each) async for each in found])


async def _remove(database: Database, seen: Mapping[UUID, int]) -> tuple[int, int]:
    """Delete instances that still have this revision; returns how many, and how many transitions they had."""
    async with database.transaction() as connection:
        # Locked in the engine's own order, so that the two wait for each other and never deadlock.
        rows = await bulk.select(
            connection, (saga.c.id, saga.c.revision), saga.c.id, sorted(seen), "ORDER BY id FOR UPDATE"
        )
        same: list[UUID] = [identity for identity, revision in rows if revision == seen[identity]]
        free = select(saga.c.id).where(saga.c.id.in_(same), _unreferred(connection.dialect.name))
        ids = list((await connection.execute(free)).scalars())
        await bulk.delete(connection, saga.c.id, ids)
        await bulk.delete(connection, saga_attribute.c.saga_id, ids)
        moves = await bulk.delete(connection, saga_history.c.saga_id, ids)
    return len(ids), len(moves)


def _saga_named(correlation: Column[str | None], dialect: str) -> ColumnElement[Any]:
    """The instance's id that this correlation id is to the engine, however it is written; it may be any text."""
    digits: ColumnElement[Any] = correlation.expression
    for sign in ("urn:", "uuid:", "{", "}", "-"):
        digits = func.replace(digits, sign, "")
    digits = func.lower(digits)
    if dialect == "postgresql":
        # A cast of anything else would end the query.
        digits = cast(case((digits.regexp_match("^[0-9a-f]{32}$"), digits)), Uuid)
    return digits


def _under_way(correlation: Column[str | None], dialect: str) -> ColumnElement[bool]:
    """Whether this correlation id is that of an instance that has not ended."""
    # The instance's id is left bare, so that its index answers.
    return exists().where(saga.c.id == _saga_named(correlation, dialect), saga.c.status.not_in(_ENDED))


def _known(dialect: str) -> pruning.Known:
    """Of the orchestrator's own letters: a person decides about them in the collection, where they lie too."""
    own, table = schema.dead_letter.c, collected_letter.c
    discarded = exists().where(table.id == own.letter_id, table.state == State.DISCARDED)
    return pruning.Known(discarded, _under_way(own.correlation_id, dialect))


def _collected(cut: Cutoff, state: State, dialect: str) -> list[ColumnElement[bool]]:
    """What must hold of a letter in this state that may go."""
    table = collected_letter.c
    conditions = [table.state == state, table.at < cut.before]
    if state in _UNDECIDED:
        conditions.append(~_under_way(table.correlation_id, dialect) if cut.undecided else false())
    return conditions


async def _prune_collected(
    database: Database, cut: Cutoff, archive: Archive | None, removed: Callable[[int], None], batch: int
) -> int:
    """Everybody's letters that failed last before then, as far as they may go."""
    total, table = 0, collected_letter
    for state in State:
        while True:
            began = pruning.moment()
            async with database.reading() as connection:
                # One state at a time, oldest first: the index on both.
                conditions = _collected(cut, state, connection.dialect.name)
                query = select(table).where(*conditions).order_by(table.c.at).limit(batch)
                rows = (await connection.execute(query)).mappings().all()
            if archive is not None:
                archive.append([pruning.letter_line(table.name, row) for row in rows])
            gone = await _remove_letters(database, {row["id"]: (row["at"], row["state"]) for row in rows})
            total += gone
            removed(gone)
            await pruning.make_way(began)
            if len(rows) < batch:
                break
    return total


async def _remove_letters(database: Database, seen: Mapping[UUID, tuple[datetime, str]]) -> int:
    """Delete letters that have neither failed again since they were read nor come into another state."""
    table = collected_letter.c
    async with database.transaction() as connection:
        columns, locked = (table.id, table.at, table.state), "ORDER BY id FOR UPDATE"
        rows = await bulk.select(connection, columns, table.id, sorted(seen), locked)
        return len(
            await bulk.delete(connection, table.id, [row.id for row in rows if seen[row.id] == (row.at, row.state)])
        )


async def _unused(connection: AsyncConnection, wanted: Wanted) -> list[tuple[str, int]]:
    """Definitions no process has started with since then, that no instance has, and that a newer one has replaced."""
    definition, newer = saga_definition, saga_definition.alias()
    query = (
        select(definition.c.name, definition.c.version)
        .where(definition.c.seen_at < wanted.cutoff.before)
        .where(exists().where(newer.c.name == definition.c.name, newer.c.version > definition.c.version))
        .where(~exists().where(saga.c.name == definition.c.name, saga.c.version == definition.c.version))
        .order_by(definition.c.name, definition.c.version)
    )
    if wanted.saga is not None:
        query = query.where(definition.c.name == wanted.saga)
    return [(row.name, row.version) for row in (await connection.execute(query)).all()]


async def _forget(database: Database, wanted: Wanted) -> tuple[str, ...]:
    async with database.transaction() as connection:
        found = await _unused(connection, wanted)
        if found:
            table, search = saga_definition, saga_search
            await connection.execute(delete(table).where(tuple_(table.c.name, table.c.version).in_(found)))
            await connection.execute(delete(search).where(tuple_(search.c.saga, search.c.version).in_(found)))
    return _named(found)


def _named(definitions: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    return tuple(f"{name} v{version}" for name, version in definitions)
