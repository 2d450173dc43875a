"""Claiming outbox rows: how a sweeper gets rows that nobody is sending, and gives back those it could not send.

A claim is a lease: until it ends, the row is not available to anyone else, and its end is the token that proves
whose it was. Keys keep their order: a row behind one that somebody else has is not claimed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk
from messaging.bus import Receipt
from messaging.outbox import OutboxRow, Pending
from messaging.schema import UTCDateTime, outbox

CLAIM = 500
"""Rows in one claim: as many as a RabbitMQ channel should have unconfirmed."""
LEASE = timedelta(seconds=30)
"""How long claimed rows are ours: far longer than a publish may take."""
LONGEST_WAIT = timedelta(minutes=1)

_NEEDED = (*(outbox.c[name] for name in OutboxRow.__dataclass_fields__), outbox.c.id, outbox.c.available_at)
_NAMES = ", ".join(f"o.{column.name}" for column in _NEEDED)
# A row behind one of its key that becomes available later than itself is left out, also when both are available by now:
# in this order the younger ones would come first, and enough of them would fill every claim with rows nobody may send.
_CLAIMABLE = f"""
FROM outbox AS o
WHERE o.available_at >= :since AND o.available_at <= :now AND NOT EXISTS (
    SELECT 1 FROM outbox AS p WHERE p.key = o.key AND p.id < o.id AND p.available_at > o.available_at
)
ORDER BY o.available_at, o.id LIMIT {CLAIM}
"""
# The limit stands in the text: a plan for any number of rows would read the whole table.
_MOMENTS = [bindparam(name, type_=UTCDateTime()) for name in ("since", "now")]
_LOOK = text(f"SELECT {_NAMES} {_CLAIMABLE}").bindparams(*_MOMENTS).columns(*_NEEDED)
# `available_at` is what it was before.
_TAKE = (
    text(
        f"WITH o AS MATERIALIZED (SELECT {_NAMES} {_CLAIMABLE} FOR UPDATE OF o SKIP LOCKED)"
        f" UPDATE outbox SET available_at = :lease FROM o WHERE outbox.id = o.id RETURNING {_NAMES}"
    )
    .bindparams(*_MOMENTS, bindparam("lease", type_=UTCDateTime()))
    .columns(*_NEEDED)
)
_OLDER = {
    dialect: text(f"SELECT key, id FROM outbox WHERE {bulk.among(dialect, outbox.c.key)} AND id < :newest")
    for dialect in ("sqlite", "postgresql")
}
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Claim:
    """Rows that are ours until the lease ends, and what to say next time."""

    rows: Sequence[Pending]
    full: bool
    """Whether there may be more: as many were found as are looked for."""
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
    was ever claimed, and a backlog of a million would be walked over from its beginning two thousand times. Rows that
    have been available for longer are found without it only.
    """
    given = {"since": since, "now": now}
    if connection.dialect.name == "postgresql":
        rows = (await connection.execute(_TAKE, {**given, "lease": lease})).all()
    else:
        rows = (await connection.execute(_LOOK, given)).all()
    rows = sorted(rows, key=lambda row: int(row.id))
    found = await _gaps(connection, rows, confirmed)
    kept: list[Any] = []
    left: list[Any] = []
    for row in rows:
        (kept if found.get(row.key) is None or row.id < found[row.key] else left).append(row)
    if connection.dialect.name == "postgresql":
        records = [{"id": row.id, "available_at": row.available_at} for row in left]
    else:
        records = [{"id": row.id, "available_at": lease} for row in kept]
    await bulk.update(connection, outbox, ("id",), ("available_at",), records)
    return Claim(
        [Pending(row.id, OutboxRow(*row[:-2])) for row in kept],
        len(rows) == CLAIM,
        max((row.available_at for row in rows), default=since),
    )


async def _gaps(connection: AsyncConnection, rows: Sequence[Any], confirmed: Collection[int]) -> dict[str | None, int]:
    """A row that another sweeper has locked this instant was not found, but it is older all the same."""
    keys = sorted({row.key for row in rows if row.key is not None})
    if not keys:
        return {}
    given = {"values": bulk.pack(connection.dialect, outbox.c.key, keys), "newest": rows[-1].id}
    older = (await connection.execute(_OLDER[connection.dialect.name], given)).all()
    return gaps(older, {row.id for row in rows}, confirmed)


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


def gaps(rows: Iterable[tuple[Any, ...]], mine: Collection[int], confirmed: Collection[int]) -> dict[str | None, int]:
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
