"""Removing what a service's database needs no more: old inbox entries and old dead letters that were discarded.

In small batches, each a transaction of its own, so that the service that runs beside never waits long; stopped half way
it has removed what it had got to, and goes on when it is run again.

An inbox entry is what makes a repeated message harmless. It may go only when the message cannot come again: everything
that repeats one by itself (the broker, a relay, `deferred`, the parking of early events) gives up or succeeds within
days, but a saga repeats a command for as long as it waits for the answer, which makes its entry young again each time.
So entries live SHORTEST_INBOX at least, whatever is asked for, and should live longer than any saga may be under way.

A dead letter that is handled leaves its table by itself, so what lies there is undecided, but for what a person has
discarded. Only that goes, unless more is asked for: with a letter goes all that is left of a message.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, bindparam, false, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk
from messaging.archive import Archive
from messaging.database import Database
from messaging.envelope import stamp
from messaging.inbox import Status
from messaging.schema import UTCDateTime, dead_letter, inbox

SHORTEST_INBOX = timedelta(days=7)
"""An inbox entry is kept for at least so long."""
BATCH = 500
"""Rows in one transaction."""

_SETTLED = (Status.DONE, Status.TOMBSTONE, Status.FAILED)
"""What waits in `deferred` stays, however old."""

_DISCARDED = dead_letter.c.state == "discarded"

Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Cutoff:
    """What is older than this may go; inbox entries have one of their own.

    `undecided` are dead letters that are neither handled nor discarded: they stay, unless it is set.
    """

    before: datetime
    inbox_before: datetime
    undecided: bool = False


@dataclass(frozen=True, slots=True)
class Prunable:
    """How much there is to remove, or how much was removed."""

    inbox: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class Known:
    """What else a database knows of its dead letters, as conditions on rows of `dead_letter`: that a person has
    discarded one elsewhere, and that an undecided one is needed however old it is.
    """

    discarded: ColumnElement[bool]
    needed: ColumnElement[bool]


Knowing = Callable[[str], Known]
"""From the dialect's name."""


def _nothing_else(_dialect: str) -> Known:
    return Known(false(), false())


def cutoff(older_than: timedelta, now: datetime, *, undecided: bool = False) -> Cutoff:
    """The moments that an age leads to. Raises OverflowError for an age beyond the calendar."""
    return Cutoff(now - older_than, now - max(older_than, SHORTEST_INBOX), undecided)


async def undecided(connection: AsyncConnection, cut: Cutoff) -> int:
    """How many dead letters are that old and neither handled nor discarded."""
    query = select(func.count()).select_from(dead_letter).where(dead_letter.c.at < cut.before, ~_DISCARDED)
    return int((await connection.execute(query)).scalar_one())


async def prunable(connection: AsyncConnection, cut: Cutoff, knowing: Knowing = _nothing_else) -> Prunable:
    """How much `prune` would remove."""
    entries = select(func.count()).select_from(inbox).where(inbox.c.received_at < cut.inbox_before)
    letters = select(func.count()).select_from(dead_letter).where(*_old_letters(cut, knowing(connection.dialect.name)))
    return Prunable(
        int((await connection.execute(entries.where(inbox.c.status.in_(_SETTLED)))).scalar_one()),
        int((await connection.execute(letters)).scalar_one()),
    )


async def prune(
    database: Database,
    cut: Cutoff,
    archive: Archive | None = None,
    *,
    knowing: Knowing = _nothing_else,
    removed: Tell = lambda _: None,
    batch: int = BATCH,
) -> Prunable:
    """Remove old inbox entries and dead letters, the latter archived first; `removed` is told of each batch.

    Raises ArchiveFailed; nothing is removed then that is not in the archive.
    """
    letters = await _prune_letters(database, cut, archive, knowing, removed, batch)
    entries = await _prune_inbox(database, cut.inbox_before, removed, batch)
    return Prunable(entries, letters)


def moment() -> float:
    """The running loop's time, for `make_way`."""
    return asyncio.get_running_loop().time()


async def make_way(began: float) -> None:
    """Leave the database to others for as long as a batch took that began then: half of the time is theirs."""
    await asyncio.sleep(moment() - began)


async def _prune_inbox(database: Database, before: datetime, removed: Tell, batch: int) -> int:
    total = 0
    while True:
        began = moment()
        async with database.transaction() as connection:
            statement = _OLD_ENTRIES[connection.dialect.name]
            gone = (await connection.execute(statement, {"before": before, "most": batch})).rowcount
        total += gone
        removed(gone)
        if gone < batch:
            return total
        await make_way(began)


def _old_letters(cut: Cutoff, known: Known) -> list[ColumnElement[bool]]:
    """What must hold of a dead letter that may go."""
    decided = _DISCARDED | known.discarded
    return [dead_letter.c.at < cut.before, decided | ~known.needed if cut.undecided else decided]


async def _prune_letters(
    database: Database, cut: Cutoff, archive: Archive | None, knowing: Knowing, removed: Tell, batch: int
) -> int:
    total = 0
    while True:
        began = moment()
        async with database.reading() as connection:
            conditions = _old_letters(cut, knowing(connection.dialect.name))
            query = select(dead_letter).where(*conditions).order_by(dead_letter.c.id).limit(batch)
            rows = (await connection.execute(query)).mappings().all()
        if archive is not None:
            archive.append([letter_line("dead_letter", row) for row in rows])
        gone = await _remove_letters(database, {row["id"]: row["state"] for row in rows})
        total += gone
        removed(gone)
        if len(rows) < batch:
            return total
        await make_way(began)


async def _remove_letters(database: Database, seen: Mapping[int, str]) -> int:
    """Delete letters about which nobody has decided otherwise since they were read."""
    table = dead_letter.c
    async with database.transaction() as connection:
        found = await bulk.select(connection, (table.id, table.state), table.id, sorted(seen), "ORDER BY id FOR UPDATE")
        same = [identity for identity, state in found if state == seen[identity]]
        return len(await bulk.delete(connection, table.id, same))


def letter_line(kind: str, row: Mapping[Any, Any]) -> dict[str, Any]:
    """A dead letter for the archive, every column of it; a body in bytes as base64, because it need not be text."""
    content: dict[str, Any] = {"kind": kind}
    for name, value in row.items():
        if isinstance(value, bytes):
            content[f"{name}_base64"] = b64encode(value).decode()
        elif isinstance(value, datetime):
            content[name] = stamp(value)
        else:
            content[name] = value if value is None or isinstance(value, (str, int)) else str(value)
    return content


# The oldest first, by the index on received_at; what a worker has in hand is left for the next run.
_OLD = """
SELECT message_id, consumer FROM inbox
WHERE received_at < :before AND status IN ('done', 'tombstone', 'failed')
ORDER BY received_at LIMIT :most
"""
_DELETE = {
    "sqlite": "DELETE FROM inbox WHERE (message_id, consumer) IN ({old})",
    "postgresql": """
WITH old AS MATERIALIZED ({old} FOR UPDATE SKIP LOCKED)
DELETE FROM inbox USING old WHERE inbox.message_id = old.message_id AND inbox.consumer = old.consumer
""",
}
_OLD_ENTRIES = {
    dialect: text(statement.format(old=_OLD)).bindparams(bindparam("before", type_=UTCDateTime()))
    for dialect, statement in _DELETE.items()
}
