"""Dead letters as they lie in a database: found, counted, and marked with what a person has decided.

The orchestrator's database holds everybody's (`collected_letter`); any service's own holds its own, whole
(`dead_letter`). Both are read and marked alike.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Connection, Row, Table, and_, func, inspect, literal, null, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk, schema
from orchestrator.schema import collected_letter, saga


class NoSuchLetter(LookupError):
    """No dead letter, or more than one, goes by this id."""


class NoLetters(Exception):
    """This database has no table in which dead letters could lie."""


class State(StrEnum):
    """What has become of a dead letter."""

    OPEN = "open"
    REDRIVEN = "redriven"
    """A person has sent it again; nothing has been heard of it yet."""
    HANDLED = "handled"
    """Its service has handled it at last."""
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Letter:
    """One message that one service could not handle.

    `body` is None where it was not asked for, or lies whole only in that service's own database.
    """

    id: UUID
    service: str
    queue: str
    reason: str
    error: str
    message_id: str | None
    type: str | None
    correlation_id: str | None
    exchange: str
    routing_key: str
    properties: dict[str, Any]
    size: int
    attempts: int
    failures: int
    first_at: datetime
    at: datetime
    state: State
    decided_at: datetime | None
    decided_by: str | None
    decided_why: str | None
    redriven_as: UUID | None
    handled_at: datetime | None
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Criteria:
    """Which letters: all that is given must hold.

    `saga` is a correlation id; `since` and `before` are about the latest failure.
    """

    ids: tuple[UUID, ...] = ()
    service: str | None = None
    type: str | None = None
    reason: str | None = None
    saga: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    states: frozenset[State] = frozenset(State)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decides about letters: who, why and when."""

    state: State
    who: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Shelf:
    """A table of letters. `columns` are those of a `Letter` in its order, without the body."""

    table: Table
    identity: Column[UUID]
    columns: tuple[ColumnElement[Any], ...]
    everybodys: bool


def _columns(table: Table, **instead: ColumnElement[Any]) -> tuple[ColumnElement[Any], ...]:
    names = [name for name in Letter.__dataclass_fields__ if name != "body"]
    return tuple((instead[name] if name in instead else table.c[name]).label(name) for name in names)


COLLECTED = Shelf(collected_letter, collected_letter.c.id, _columns(collected_letter), everybodys=True)
OWN = Shelf(
    schema.dead_letter,
    schema.dead_letter.c.letter_id,
    _columns(
        schema.dead_letter,
        id=schema.dead_letter.c.letter_id,
        size=func.length(schema.dead_letter.c.body),
        failures=literal(1),
        first_at=schema.dead_letter.c.at,
        handled_at=null(),
    ),
    everybodys=False,
)


async def shelf_of(connection: AsyncConnection) -> Shelf:
    """Everybody's letters in the orchestrator's database, a service's own in any other; raises NoLetters."""

    def find(sync: Connection) -> Shelf | None:
        there = inspect(sync)
        if there.has_table(saga.name) and not there.has_table(collected_letter.name):
            raise NoLetters("this database has the orchestrator's tables of an older version")
        return next((each for each in (COLLECTED, OWN) if there.has_table(each.table.name)), None)

    found = await connection.run_sync(find)
    if found is None:
        raise NoLetters("this database has neither the orchestrator's tables nor a service's")
    return found


async def listing(connection: AsyncConnection, shelf: Shelf, criteria: Criteria, limit: int) -> list[Letter]:
    """The letters that failed last, newest first, without their bodies."""
    query = select(*shelf.columns).where(_condition(shelf, criteria))
    rows = await connection.execute(query.order_by(shelf.table.c.at.desc(), shelf.identity).limit(limit))
    return [_letter(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Counted:
    """How many letters are alike."""

    service: str
    reason: str
    type: str | None
    state: State
    letters: int


async def counts(connection: AsyncConnection, shelf: Shelf, criteria: Criteria) -> list[Counted]:
    """How many letters there are of each kind, the most first."""
    kind = (shelf.table.c.service, shelf.table.c.reason, shelf.table.c.type, shelf.table.c.state)
    query = select(*kind, func.count()).where(_condition(shelf, criteria)).group_by(*kind)
    rows = (await connection.execute(query.order_by(func.count().desc(), *kind))).all()
    return [Counted(row[0], row[1], row[2], State(row[3]), int(row[4])) for row in rows]


async def find(connection: AsyncConnection, shelf: Shelf, wanted: str) -> Letter:
    """The letter with this id or the beginning of it, or of this message; raises NoSuchLetter saying what there is."""
    digits = wanted.strip().lower().replace("-", "")
    hexadecimal = bool(digits) and len(digits) <= 32 and all(digit in "0123456789abcdef" for digit in digits)
    message = str(UUID(digits)) if hexadecimal and len(digits) == 32 else wanted
    conditions = [shelf.table.c.message_id.in_({wanted, message})]
    if hexadecimal:
        # A range, not a pattern: the index answers it on both databases.
        conditions.append(shelf.identity.between(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))))
    fitting: dict[UUID, Letter] = {}
    # One query each: joined by OR, neither index would be used.
    for condition in conditions:
        query = select(*shelf.columns).where(condition).order_by(shelf.table.c.at.desc()).limit(6)
        fitting |= {row.id: _letter(row) for row in await connection.execute(query)}
    found = sorted(fitting.values(), key=lambda each: each.at, reverse=True)
    if not found:
        raise NoSuchLetter(f"no dead letter has the id {wanted!r}; `amends dead-letters list --state all` shows them")
    if len(found) > 1:
        some = ", ".join(f"{each.id} ({each.service})" for each in found[:5])
        raise NoSuchLetter(f"{wanted!r} fits more than one dead letter: {some}; give more of the id")
    (whole,) = await with_bodies(connection, shelf, found)
    return whole


async def chosen(connection: AsyncConnection, shelf: Shelf, criteria: Criteria) -> tuple[UUID, ...]:
    """The ids of the letters that are like that now, oldest first."""
    query = select(shelf.identity).where(_condition(shelf, criteria))
    rows = await connection.execute(query.order_by(shelf.table.c.at, shelf.identity))
    return tuple(row[0] for row in rows)


async def locked(connection: AsyncConnection, shelf: Shelf, criteria: Criteria) -> list[Letter]:
    """The letters that are like that, oldest first, without their bodies, locked until the transaction ends.

    They are locked in the order of their ids, as the collector does: two that lock the same ones wait, never for each
    other. What somebody has changed while we waited is looked at again, and left out if it is like that no more.
    """
    query = select(*shelf.columns).where(_condition(shelf, criteria)).order_by(shelf.identity).with_for_update()
    return sorted((_letter(row) for row in await connection.execute(query)), key=lambda each: (each.at, each.id))


async def with_bodies(connection: AsyncConnection, shelf: Shelf, letters: Sequence[Letter]) -> list[Letter]:
    """The same letters with their bodies, as far as this database has them."""
    bodies: dict[UUID, bytes] = {}
    ids = [each.id for each in letters]
    if shelf.everybodys:
        table = collected_letter.c
        for row in await bulk.select(connection, (table.id, table.body, table.encoding), table.id, ids):
            if row.body is not None:
                bodies[row.id] = b64decode(row.body) if row.encoding == "base64" else row.body.encode()
    # The orchestrator's own letters lie whole beside the collection.
    own = schema.dead_letter.c
    missing = [identity for identity in ids if identity not in bodies]
    for row in await bulk.select(connection, (own.letter_id, own.body), own.letter_id, missing):
        bodies[row.letter_id] = bytes(row.body)
    return [_with_body(each, bodies.get(each.id)) for each in letters]


async def decide(
    connection: AsyncConnection, shelf: Shelf, decision: Decision, sent: Sequence[tuple[UUID, UUID | None]]
) -> None:
    """Mark letters; `sent` pairs each with the message id under which it was sent again, if it was."""
    records = [
        {
            shelf.identity.name: letter,
            "state": decision.state,
            "decided_at": decision.at,
            "decided_by": decision.who,
            "decided_why": decision.why,
            "redriven_as": message,
        }
        for letter, message in sent
    ]
    columns = ("state", "decided_at", "decided_by", "decided_why", "redriven_as")
    await bulk.update(connection, shelf.table, (shelf.identity.name,), columns, records)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The saga that a letter belongs to, as far as this database knows it."""

    id: UUID
    name: str
    key: str
    status: str
    step: str
    reason: str


async def saga_of(connection: AsyncConnection, shelf: Shelf, letter: Letter) -> Waiting | None:
    """What the letter's saga is doing; None where it has none, or another database knows."""
    try:
        identity = UUID(letter.correlation_id or "")
    except ValueError:
        return None
    if not shelf.everybodys:
        return None
    columns = (saga.c.id, saga.c.name, saga.c.key, saga.c.status, saga.c.step, saga.c.reason)
    row = (await connection.execute(select(*columns).where(saga.c.id == identity))).one_or_none()
    return None if row is None else Waiting(*row)


def _condition(shelf: Shelf, criteria: Criteria) -> ColumnElement[bool]:
    table = shelf.table.c
    conditions: list[ColumnElement[bool]] = [table.state.in_(sorted(criteria.states))]
    for column, value in (
        (table.service, criteria.service),
        (table.type, criteria.type),
        (table.reason, criteria.reason),
        (table.correlation_id, criteria.saga),
    ):
        if value is not None:
            conditions.append(column == value)
    if criteria.ids:
        conditions.append(shelf.identity.in_(criteria.ids))
    if criteria.since is not None:
        conditions.append(table.at >= criteria.since)
    if criteria.before is not None:
        conditions.append(table.at < criteria.before)
    return and_(*conditions)


def _letter(row: Row[Any]) -> Letter:
    told = dict(row._mapping)  # noqa: SLF001 - the documented mapping of a Row
    return Letter(**told | {"state": State(told["state"]), "properties": _properties(told["properties"])})


def _properties(text: str) -> dict[str, Any]:
    """What stood on its outside; an announcement is a message like any other, and may be a stranger's."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": text}


def _with_body(letter: Letter, body: bytes | None) -> Letter:
    return Letter(**{name: getattr(letter, name) for name in Letter.__dataclass_fields__} | {"body": body})
