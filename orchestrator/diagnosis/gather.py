"""Everything that speaks for why an instance is where it is: a handful of indexed or bounded queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.bus import Bus, QueueState
from messaging.schema import outbox
from orchestrator import history, partitioning, queries
from orchestrator.catalog import Catalog
from orchestrator.diagnosis import ending, findings, letters
from orchestrator.diagnosis.awaiting import Usually, awaited
from orchestrator.diagnosis.durations import usual
from orchestrator.diagnosis.findings import Awaited, Cause, Diagnosis
from orchestrator.diagnosis.misses import near_misses
from orchestrator.diagnosis.repairs import fitting
from orchestrator.letters import Letter, State
from orchestrator.replay import reading
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.definition import Saga
from orchestrator.saga.state import Status
from orchestrator.sharding import queue_of

OVERLOOKED = 30.0
"""Seconds after which a deadline that has passed must have been acted on by any orchestrator that runs."""
_AHEAD = 5


async def diagnose(
    connection: AsyncConnection,
    row: Row[Any],
    catalog: Catalog,
    now: datetime,
    collected: AsyncConnection | None = None,
) -> Diagnosis:
    """What the orchestrator's own database says of the instance with this row of `saga`.

    `collected` is the database in which everybody's dead letters lie, where that is another shard's.
    """
    collected = connection if collected is None else collected
    recorded = await reading.recorded(connection, row)
    definition = catalog.get(recorded.name, recorded.version)
    ended = Status(recorded.status).terminal
    unreadable = None if ended else _unreadable(recorded, definition)
    waiting = () if ended else _awaited(recorded, definition, await usual(connection, recorded.name), unreadable)
    causes: list[Cause] = [] if unreadable is None else [unreadable]
    if definition is None and not ended:
        causes.append(findings.DefinitionMissing(recorded.name, recorded.version))
    causes.extend(_overlooked(recorded, now))
    causes.extend(await _pending(connection, recorded.id, now))
    causes.extend(await _letters(collected, recorded.id, waiting))
    causes.extend(
        findings.ParkedHere(each.type, each.message_id, each.reason, each.parked_at)
        for each in await queries.parked_for(connection, recorded.id)
    )
    causes.extend(await near_misses(connection, recorded, waiting, catalog, collected))
    return Diagnosis(
        id=recorded.id,
        name=recorded.name,
        version=recorded.version,
        key=recorded.key,
        status=recorded.status,
        reason=recorded.reason,
        now=now,
        started_at=recorded.started_at,
        updated_at=recorded.updated_at,
        awaited=waiting,
        causes=tuple(sorted(causes, key=likelihood)),
        stuck=ending.stuck(recorded),
        ended_at=ending.ended_at(recorded),
        late=tuple(ending.late(recorded)),
        repairs=fitting(recorded, definition),
    )


def queues(waiting: Sequence[Awaited], partitions: int | None = None, shard: int | None = None) -> tuple[str, ...]:
    """The queues that answers depend on: each participant's commands, and what the orchestrator reads; in a shard, what
    others hand on to it too.
    """
    participants = {each.participant for each in waiting if each.participant is not None}
    return (
        *(f"{name}.commands" for name in sorted(participants)),
        *(partitioning.names(partitions) if waiting else ()),
        *((queue_of(shard),) if waiting and shard is not None else ()),
    )


async def look(bus: Bus, names: Sequence[str]) -> tuple[Cause, ...]:
    """What a started bus shows of these queues, touching nothing. Raises BusUnavailable."""
    found = [(name, await bus.inspect(name)) for name in names]
    return tuple(cause for name, state in found for cause in _of_queue(name, state))


def with_causes(found: Diagnosis, more: Sequence[Cause]) -> Diagnosis:
    """The same with these causes in their places."""
    return replace(found, causes=tuple(sorted((*found.causes, *more), key=likelihood)))


def likelihood(cause: Cause) -> int:
    """A place in the order of telling: what explains everything first, what may be the normal course last."""
    match cause:
        case findings.DefinitionMissing() | findings.RowUnreadable():
            return 0
        case findings.NobodyActs():
            return 1
        case findings.StillInOutbox():
            return 2 if cause.held_up else 9
        case findings.DeadLettered():
            return 3 if cause.is_command else 4
        case findings.ParkedHere():
            return 5
        case findings.NearMiss():
            return 6
        case findings.NoQueue() | findings.NobodyReads():
            return 7
        case findings.Backlog():
            return 8


def _of_queue(name: str, state: QueueState | None) -> Iterator[Cause]:
    if state is None:
        yield findings.NoQueue(name)
    elif not state.consumers:
        yield findings.NobodyReads(name, state.ready)
    elif state.ready:
        yield findings.Backlog(name, state.ready, state.consumers)


def _awaited(
    recorded: Recorded, definition: Saga[Any] | None, usually: Usually, unreadable: Cause | None
) -> tuple[Awaited, ...]:
    """What it waits for; nothing where it is known already that its row cannot be read, and this cannot be either."""
    try:
        return awaited(recorded, definition, usually)
    except history.CorruptHistory:
        if unreadable is None:
            raise
        return ()


def _unreadable(recorded: Recorded, definition: Saga[Any] | None) -> Cause | None:
    if definition is None:
        return None
    try:
        history.load_state(
            definition, status=recorded.status, reason=recorded.reason, data=recorded.data, progress=recorded.progress
        )
    except history.CorruptHistory as error:
        return findings.RowUnreadable(recorded.name, recorded.version, str(error))
    return None


def _overlooked(recorded: Recorded, now: datetime) -> Iterator[Cause]:
    if recorded.deadline is not None and (late := (now - recorded.deadline).total_seconds()) > OVERLOOKED:
        yield findings.NobodyActs(recorded.deadline, late)


async def _pending(connection: AsyncConnection, identity: UUID, now: datetime) -> Iterator[Cause]:
    """The messages of this saga that have not left; each stands behind the older ones of its key."""
    columns = outbox.c
    query = (
        select(columns.id, columns.type, columns.message_id, columns.created_at, columns.attempts, columns.last_error)
        .where(columns.key == str(identity))
        .order_by(columns.id)
        .limit(_AHEAD * 4)
    )
    rows = (await connection.execute(query)).all()
    ahead: list[findings.Ahead] = []
    found: dict[UUID, Cause] = {}
    for row in rows:
        if row.message_id in found:  # the same command, sent again before it had left
            continue
        age = (now - row.created_at).total_seconds()
        found[row.message_id] = findings.StillInOutbox(
            row.id, row.type, row.message_id, row.created_at, age, row.attempts, row.last_error, tuple(ahead[:_AHEAD])
        )
        ahead.append(findings.Ahead(row.id, row.type, row.created_at, row.attempts, row.last_error))
    return iter(found.values())


async def _letters(connection: AsyncConnection, identity: UUID, waiting: Sequence[Awaited]) -> Iterator[Cause]:
    commands = {str(each.command_id) for each in waiting if each.command_id is not None}
    found = await letters.of_saga(connection, identity)
    return (_dead_lettered(each, is_command=each.message_id in commands) for each in found)


def _dead_lettered(letter: Letter, *, is_command: bool) -> findings.DeadLettered:
    # What was decided about it before it failed once more is over.
    again = letter.state is State.REDRIVEN
    return findings.DeadLettered(
        letter.id,
        letter.service,
        letter.type,
        letter.message_id,
        letter.reason,
        letter.error,
        letter.at,
        is_command,
        letter.decided_at if again else None,
        letter.decided_by if again else None,
    )
