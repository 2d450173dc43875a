"""Looking at sagas: listings and one instance's timeline. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator import search
from orchestrator.rest import AT_REST, UNDER_WAY, last_move
from orchestrator.schema import parked_event, saga


class NoSuchSaga(LookupError):
    """No instance, or more than one, goes by this id."""


class Ambiguous(NoSuchSaga):
    """More than one instance goes by it, as the beginning of an id or, with `by_key`, as a whole key."""

    def __init__(self, words: str, *, by_key: bool) -> None:
        super().__init__(words)
        self.by_key = by_key


@dataclass(frozen=True, slots=True)
class Listed:
    """One instance in a listing."""

    id: UUID
    name: str
    version: int
    key: str
    status: str
    step: str
    reason: str
    started_at: datetime
    updated_at: datetime
    deadline: datetime | None
    transitions: int
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What it can be found by."""


_LISTED = (
    saga.c.id,
    saga.c.name,
    saga.c.version,
    saga.c.key,
    saga.c.status,
    saga.c.step,
    saga.c.reason,
    saga.c.started_at,
    saga.c.updated_at,
    saga.c.deadline,
    saga.c.revision,
)


async def listing(
    connection: AsyncConnection,
    *,
    name: str | None = None,
    status: str | None = None,
    key: str | None = None,
    since: datetime | None = None,
    where: Mapping[str, str] | None = None,
    limit: int = 50,
) -> list[Listed]:
    """The instances moved last, newest first; `where` are attributes that they must have."""
    named = [column == value for column, value in ((saga.c.name, name), (saga.c.key, key)) if value is not None]
    conditions = [*named, *search.matching(where or {})]
    if key is not None or where:
        # An index on what was asked for leads to few, of whatever status.
        conditions.extend([] if status is None else [saga.c.status == status])
        query = _latest(saga.c.updated_at, conditions, since, limit)
    else:
        statuses = (*UNDER_WAY, *AT_REST) if status is None else (status,)
        each = [_latest(last_move(one), [*conditions, saga.c.status == one], since, limit) for one in statuses]
        found = union_all(*(select(one.subquery()) for one in each)).subquery()
        query = select(*found.c).order_by(found.c.updated_at.desc(), found.c.id).limit(limit)
    rows = (await connection.execute(query)).all()
    attributes = await search.attributes_of(connection, [row.id for row in rows])
    return [replace(Listed(*row), attributes=attributes.get(row.id, {})) for row in rows]


def _latest(
    moved: ColumnElement[datetime], conditions: Sequence[ColumnElement[bool]], since: datetime | None, limit: int
) -> Select[Any]:
    """Those that fulfill the conditions, by the moment of their last move, the latest first."""
    query = select(*_LISTED).where(*conditions).order_by(moved.desc(), saga.c.id).limit(limit)
    return query if since is None else query.where(moved >= since)


async def waiting_longest(connection: AsyncConnection, statuses: Sequence[str], limit: int) -> list[Listed]:
    """The instances with one of these statuses that moved longest ago, the oldest first, without attributes."""
    found: list[Listed] = []
    for status in statuses:  # one at a time, so that an index answers it
        ordered = select(*_LISTED).where(saga.c.status == status).order_by(last_move(status), saga.c.id)
        query = ordered.limit(limit)
        found.extend(Listed(*row) for row in (await connection.execute(query)).all())
    return sorted(found, key=lambda each: (each.updated_at, each.id))[:limit]


async def counts(connection: AsyncConnection) -> dict[tuple[str, str], int]:
    """How many instances there are, by saga and status."""
    query = select(saga.c.name, saga.c.status, func.count()).group_by(saga.c.name, saga.c.status)
    return {(row[0], row[1]): int(row[2]) for row in (await connection.execute(query)).all()}


async def find(connection: AsyncConnection, wanted: str) -> Row[Any]:
    """The instance with this id or key, or the beginning of an id; raises NoSuchSaga saying what there is.

    A whole key wins over ids that begin with the same characters.
    """
    # Two queries, not one with OR: each is answered by one index on both databases.
    rows = await _some(connection, saga.c.key == wanted)
    digits = wanted.strip().lower().replace("-", "")
    if not rows and digits and len(digits) <= 32 and all(digit in "0123456789abcdef" for digit in digits):
        # A range, not a pattern, for the same reason.
        rows = await _some(connection, saga.c.id.between(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))))
    if not rows:
        raise NoSuchSaga(f"no saga has the id or the key {wanted!r}; `amends list` shows what there is")
    if len(rows) > 1:
        some = ", ".join(str(row.id) for row in rows[:5]) + (", …" if len(rows) > 5 else "")
        if rows[0].key == wanted:
            raise Ambiguous(f"{wanted!r} is the key of more than one saga ({some}); give an id", by_key=True)
        raise Ambiguous(f"{wanted!r} fits more than one saga ({some}); give more of it", by_key=False)
    return rows[0]


async def _some(connection: AsyncConnection, condition: ColumnElement[bool]) -> Sequence[Row[Any]]:
    """A few of the instances that this holds of: enough to say that they are too many."""
    return (await connection.execute(select(saga).where(condition).order_by(saga.c.id).limit(6))).all()


async def parked_for(connection: AsyncConnection, identity: UUID) -> Sequence[Row[Any]]:
    """What waits for an instance to be ready for it."""
    query = select(parked_event).where(parked_event.c.saga_id == identity).order_by(parked_event.c.id)
    return (await connection.execute(query)).all()
