"""Claiming outbox rows: how a sweeper gets rows that nobody is sending, and gives back those it could not send.

A claim is a lease: until it ends, the row is not available to anyone else, and its end is the token that proves
whose it was. Keys keep their order: a row behind one that somebody else has is not claimed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
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

# A row behind one of its key that becomes available later than itself is left out, also when both are available by now:
# in this order the younger ones would come first, and enough of them would fill every claim with rows nobody may send.
_CLAIMABLE = """
SELECT * FROM outbox AS o
WHERE o.available_at <= :now AND NOT EXISTS (
    SELECT 1 FROM outbox AS p WHERE p.key = o.key AND p.id < o.id AND p.available_at > o.available_at
)
ORDER BY o.available_at, o.id LIMIT :limit
"""
_CLAIM = {
    dialect: text(_CLAIMABLE + locking).bindparams(bindparam("now", type_=UTCDateTime())).columns(*outbox.c)
    for dialect, locking in (("sqlite", ""), ("postgresql", " FOR UPDATE OF o SKIP LOCKED"))
}


async def claim(
    connection: AsyncConnection, now: datetime, lease: datetime, confirmed: Collection[int]
) -> list[Pending]:
    """Rows past their grace, oldest first, ours until `lease`; `confirmed` are rows that are sent and about to go."""
    rows = (await connection.execute(_CLAIM[connection.dialect.name], {"now": now, "limit": CLAIM})).all()
    pending = [_pending(row) for row in sorted(rows, key=lambda row: int(row.id))]
    keys = sorted({each.row.key for each in pending if each.row.key is not None})
    # A row that another sweeper has locked this instant was skipped above, but it is older all the same.
    others = await bulk.select(connection, (outbox.c.key, outbox.c.id), outbox.c.key, keys)
    found = gaps(others, {each.id for each in pending}, confirmed)
    kept = [each for each in pending if before(each, found)]
    records = [{"id": each.id, "available_at": lease} for each in kept]
    await bulk.update(connection, outbox, ("id",), ("available_at",), records)
    return kept


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


def _pending(row: Any) -> Pending:
    names = OutboxRow.__dataclass_fields__
    return Pending(int(row.id), OutboxRow(**{name: getattr(row, name) for name in names}))


def _words(said: Receipt | None) -> str | None:
    match said:
        case Receipt.UNROUTABLE:
            return "unroutable: no queue is bound for this routing key; start the service that handles it"
        case Receipt.UNKNOWN:
            return "not confirmed: the broker refused it, was away, or did not answer in time"
        case _:
            return None
