"""Claiming outbox rows: how a sweeper gets rows that nobody is sending, and gives back those it could not send.

A claim is a lease: until it ends, the row is not available to anyone else, and its end is the token that proves
whose it was. Keys keep their order: a row behind one that somebody else has is not claimed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from sqlalchemy import bindparam, column, text
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk, driver
from messaging.bus import Receipt
from messaging.outbox_rows import OutboxRow, Pending
from messaging.schema import UTCDateTime, outbox
from messaging.shapes import among, pack

CLAIM = 2_000
"""Rows in one claim, at the most: what a claim costs the database beside its rows is spread over them."""
CLAIM_BYTES = 16 * 1024 * 1024
"""Bodies in one claim: no further row is taken once they have so many bytes. What is claimed lies in memory."""
LEASE = timedelta(seconds=30)
"""How long claimed rows are ours: far longer than publishing them may take."""
LONGEST_WAIT = timedelta(minutes=1)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

_ROW = tuple(OutboxRow.__dataclass_fields__)
_NAMES = ", ".join(f"outbox.{name}" for name in _ROW)
# A row behind one of its key that becomes available later than itself is left out, also when both are available by now:
# in this order the younger ones would come first, and enough of them would fill every claim with rows nobody may send.
# The limit stands in the text: a plan for any number of rows would read the whole table.
_OLDEST = f"""
o AS {{materialized}} (
    SELECT o.id, o.available_at, {{size}} AS size FROM outbox AS o
    WHERE o.available_at >= {{since}} AND o.available_at <= {{now}} AND NOT EXISTS (
        SELECT 1 FROM outbox AS p WHERE p.key = o.key AND p.id < o.id AND p.available_at > o.available_at
    )
    ORDER BY o.available_at, o.id LIMIT {CLAIM} {{locking}}
), m AS (
    SELECT id, available_at, size, sum(size) OVER (ORDER BY available_at, id ROWS UNBOUNDED PRECEDING) - size AS before
    FROM o
)
"""
_SQLITE = {"since": ":since", "now": ":now", "size": "length(CAST(o.body AS BLOB))", "materialized": "", "locking": ""}
_POSTGRESQL = {
    "since": "$1",
    "now": "$2",
    "size": "octet_length(o.body)",
    "materialized": "MATERIALIZED",
    "locking": "FOR UPDATE SKIP LOCKED",
}
_LOOK = (
    text(
        f"WITH {_OLDEST.format_map(_SQLITE)}"
        f" SELECT outbox.id, m.available_at, m.size, {_NAMES} FROM outbox JOIN m ON outbox.id = m.id"
        " WHERE m.before < :bytes"
    )
    .bindparams(*(bindparam(name, type_=UTCDateTime()) for name in ("since", "now")))
    .columns(outbox.c.id, outbox.c.available_at, column("size"), *(outbox.c[name] for name in _ROW))
)
# The parameters: since, now, lease, bytes. `available_at` is what it was before.
_TAKE = (
    f"WITH {_OLDEST.format_map(_POSTGRESQL)}"
    " UPDATE outbox SET available_at = $3 FROM m WHERE outbox.id = m.id AND m.before < $4"
    f" RETURNING outbox.id, m.available_at, m.size, {_NAMES}"
)
_OLDER = text(f"SELECT key, id FROM outbox WHERE {among('sqlite', outbox.c.key)} AND id < :newest")
_OLDER_THERE = "SELECT key, id FROM outbox WHERE key = ANY($1::text[]) AND id < $2"
_ID, _AVAILABLE_AT, _SIZE, _KEY = range(4)
"""Where these stand in a row; from the key on it is an OutboxRow."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Rows that are ours until the lease ends, and what to say next time."""

    rows: Sequence[Pending]
    full: bool
    """Whether there may be more: as many were found as one claim takes."""
    upto: datetime
    """Nothing is left that has been available since before this, but what is committed late or given back."""


async def claim(
    connection: AsyncConnection,
    now: datetime,
    lease: datetime,
    confirmed: Collection[int],
    since: datetime = BEGINNING,
) -> Claim:
    """Rows past their grace, oldest first, ours until `lease`; `confirmed` are rows that are sent and about to go.

    `since` spares PostgreSQL the way over what was there before: until a vacuum, the index leads over every row that
    was ever claimed, and a backlog of a million would be walked over from its beginning with every claim. Rows that
    have been available for longer are found without it only.
    """
    leased = connection.dialect.name == "postgresql"
    rows: Sequence[Any]
    if leased:
        rows = await driver.fetch(connection, _TAKE, (since, now, lease, CLAIM_BYTES))
    else:
        rows = (await connection.execute(_LOOK, {"since": since, "now": now, "bytes": CLAIM_BYTES})).all()
    found = sorted(rows, key=itemgetter(_ID))
    ends = await _gaps(connection, found, confirmed)
    kept = [row for row in found if row[_ID] < ends.get(row[_KEY], row[_ID] + 1)] if ends else found
    if leased:
        mine = {row[_ID] for row in kept}
        changed = [{"id": row[_ID], "available_at": row[_AVAILABLE_AT]} for row in found if row[_ID] not in mine]
    else:
        changed = [{"id": row[_ID], "available_at": lease} for row in kept]
    await bulk.update(connection, outbox, ("id",), ("available_at",), changed)
    return Claim(
        [Pending(row[_ID], OutboxRow(*row[_KEY:])) for row in kept],
        len(found) == CLAIM or sum(row[_SIZE] for row in found) >= CLAIM_BYTES,
        max((row[_AVAILABLE_AT] for row in found), default=since),
    )


async def _gaps(connection: AsyncConnection, found: Sequence[Any], confirmed: Collection[int]) -> dict[str | None, int]:
    """A row that another sweeper has locked this instant was not found, but it is older all the same."""
    keys = sorted({row[_KEY] for row in found if row[_KEY] is not None})
    if not keys:
        return {}
    newest = found[-1][_ID]
    older: Sequence[Any]
    if connection.dialect.name == "postgresql":
        older = await driver.fetch(connection, _OLDER_THERE, (keys, newest))
    else:
        given = {"values": pack(connection.dialect, outbox.c.key, keys), "newest": newest}
        older = (await connection.execute(_OLDER, given)).all()
    return gaps(older, {row[_ID] for row in found}, confirmed)


async def give_back(
    connection: AsyncConnection,
    failed: Mapping[int, Receipt | None],
    lease: datetime,
    now: datetime,
    *,
    cut_off: bool,
) -> None:
    """Make rows that were not confirmed available again: after a backoff, or at once where it was not their fault.

    None as what the broker said is a row that was not tried; `cut_off` says that the connection was lost.
    """
    columns = (outbox.c.id, outbox.c.attempts, outbox.c.available_at)
    rows = await bulk.select(connection, columns, outbox.c.id, sorted(failed), "ORDER BY id FOR UPDATE")
    records = []
    for identity, attempts, available_at in rows:
        if available_at != lease:
            continue  # our lease ran out and another sweeper has it now
        said = failed[identity]
        tried = attempts + (said is not None)
        wait = min(timedelta(seconds=2 ** min(tried, 10)), LONGEST_WAIT)
        if said is None or (said is Receipt.UNKNOWN and cut_off):
            wait = timedelta(0)
        records.append({"id": identity, "attempts": tried, "available_at": now + wait, "last_error": _words(said)})
    await bulk.update(connection, outbox, ("id",), ("attempts", "available_at", "last_error"), records)


def gaps(rows: Iterable[Sequence[Any]], mine: Collection[int], confirmed: Collection[int]) -> dict[str | None, int]:
    """The oldest row of each key that is somebody else's to send; `rows` are (key, id)."""
    found: dict[str | None, int] = {}
    for key, identity in rows:
        if identity not in mine and identity not in confirmed:
            found[key] = min(identity, found.get(key, identity))
    return found


def before(pending: Pending, found: Mapping[str | None, int]) -> bool:
    """Whether a row is older than its key's gap, and so may leave."""
    gap = None if pending.row.key is None else found.get(pending.row.key)
    return gap is None or pending.id < gap


def _words(said: Receipt | None) -> str | None:
    match said:
        case Receipt.UNROUTABLE:
            return "unroutable: no queue is bound for this routing key; start the service that handles it"
        case Receipt.UNKNOWN:
            return "not confirmed: the broker refused it, was away, or did not answer in time"
        case _:
            return None
