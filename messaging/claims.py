"""Claiming outbox rows: how a sweeper gets rows that nobody is sending, and gives back those it could not send.

A claim is a lease on some rows, and its number is the token that proves whose they are: it stands in a table of its own
with the numbers of its rows, which stay as they are. Whoever claims passes over what others have claimed or have locked
this instant. Keys keep their order: a row behind one that somebody else has is not claimed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from operator import itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.value import value
from messaging import bulk, driver
from messaging.bus import Outgoing, Receipt
from messaging.outbox_rows import OF_MESSAGE, Pending, message_of
from messaging.schema import UTCDateTime, outbox, outbox_claim
from messaging.shapes import among, pack

CLAIM = 2_000
"""Rows in one claim, at the most: what a claim costs the database beside its rows is spread over them."""
CLAIM_BYTES = 16 * 1024 * 1024
"""Bodies in one claim: no further row is taken once they have so many bytes. What is claimed lies in memory."""
LEASE = timedelta(seconds=30)
"""How long claimed rows are ours: far longer than publishing them may take."""
LONGEST_WAIT = timedelta(minutes=1)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

_READ = ("id", "available_at", *OF_MESSAGE)
"""What is read of a row, in this order."""
_ID, _AVAILABLE_AT, _KEY, _BODY = (_READ.index(name) for name in ("id", "available_at", "key", "body"))
# What a row mostly says twice comes once: NULL is a type that is the routing key, and a correlation id that is the key.
# A moment is said as the database does it best.
_SAID = {
    "type": "NULLIF(type, routing_key)",
    "correlation_id": "NULLIF(correlation_id, key)",
    "available_at": "{available_at}",
    "created_at": "{created_at}",
}
# A row behind one of its key that is claimed, or becomes available later than itself, is left out, also when both are
# available by now: in this order the younger ones would come first, and enough of them would fill every claim with rows
# nobody may send. The limit stands in the text: a plan for any number of rows would read the whole table.
_TAKE = f"""
WITH l AS {{materialized}} (
    {{leased}}
)
SELECT {", ".join(f"{_SAID.get(name, name)} AS {name}" for name in _READ)}
FROM (
    SELECT *, sum(size) OVER (ORDER BY available_at, id ROWS UNBOUNDED PRECEDING) - size AS before FROM (
        SELECT {", ".join(f"o.{name}" for name in _READ)}, {{size}} AS size FROM outbox AS o
        WHERE o.available_at >= {{since}} AND o.available_at <= {{now}} AND o.id NOT IN (SELECT id FROM l)
        AND NOT EXISTS (
            SELECT 1 FROM outbox AS p WHERE p.key = o.key AND p.id < o.id
            AND (p.available_at > o.available_at OR p.id IN (SELECT id FROM l)) {{one_by_one}}
        )
        ORDER BY o.available_at, o.id LIMIT {CLAIM} {{locking}}
    ) AS o
) AS m WHERE before < {{bytes}}
"""
_TAKE_LITE = (
    text(
        _TAKE.format(
            since=":since",
            now=":now",
            bytes=":bytes",
            size="length(CAST(o.body AS BLOB))",
            leased="SELECT value AS id FROM outbox_claim, json_each(outbox_claim.ids) WHERE ends_at > :now",
            materialized="",
            one_by_one="",
            locking="",
            available_at="available_at",
            created_at="created_at",
        )
    )
    .bindparams(*(bindparam(name, type_=UTCDateTime()) for name in ("since", "now")))
    .columns(*(outbox.c[name] for name in _READ))
)
_TAKE_THERE = _TAKE.format(
    since="$1",
    now="$2",
    bytes="$3",
    size="octet_length(o.body)",
    leased="SELECT unnest(ids) AS id FROM outbox_claim WHERE ends_at > $2",
    materialized="MATERIALIZED",
    # Otherwise it becomes a join of the whole table with itself, of which only the first rows are wanted.
    one_by_one="OFFSET 0",
    locking="FOR UPDATE OF o SKIP LOCKED",
    # A moment takes the driver longer than all the rest of the row.
    available_at="date_part('epoch', available_at)",
    created_at="date_part('epoch', created_at)",
)
# PostgreSQL may think that few rows are available, as few were when it last counted: then it would fetch all there are,
# to sort them. For this transaction only.
_IN_ORDER = "SET LOCAL enable_bitmapscan = off"
_OLDER = text(f"SELECT key, id FROM outbox WHERE {among('sqlite', outbox.c.key)} AND id < :newest")
# The first are claimed: a claim that was made and committed while we were looking at its rows, just before it locked
# them or after, we did not see, but these words see it. One that is not committed has its rows locked.
_OLDER_THERE = """
SELECT NULL, id FROM (SELECT unnest(ids) AS id FROM outbox_claim WHERE ends_at > $3) AS c WHERE id BETWEEN $4 AND $2
UNION ALL SELECT key, id FROM outbox WHERE key = ANY($1::text[]) AND id < $2
"""
_ENDED = text("DELETE FROM outbox_claim WHERE ends_at <= :now").bindparams(bindparam("now", type_=UTCDateTime()))
_ENTER_THERE = """
WITH ended AS (
    DELETE FROM outbox_claim WHERE id IN (SELECT id FROM outbox_claim WHERE ends_at <= $1 FOR UPDATE SKIP LOCKED)
) INSERT INTO outbox_claim (ends_at, ids) VALUES ($2, $3::bigint[]) RETURNING id
"""


@value
class Claimed:
    """A claimed row, as it is published. Not an OutboxRow: a backlog has a million of them."""

    id: int
    key: str | None
    message: Outgoing


@dataclass(frozen=True)
class Claim:
    """Rows that are ours until the lease ends, and what to say next time."""

    token: int | None
    """Proves that they are; None where there are none."""
    rows: Sequence[Claimed]
    full: bool
    """Whether there may be more: as many were found as one claim takes."""
    upto: datetime
    """Nothing is left that has been available since before this, but what is committed late or given back."""

    @cached_property
    def ids(self) -> frozenset[int]:
        """The numbers of the rows."""
        return frozenset([each.id for each in self.rows])


async def claim(
    connection: AsyncConnection,
    now: datetime,
    lease: datetime,
    confirmed: Collection[int],
    since: datetime = BEGINNING,
) -> Claim:
    """Rows past their grace, oldest first, ours until `lease`; `confirmed` are rows that are sent and about to go.

    `since` spares PostgreSQL the way over what was there before: until a vacuum, the index leads over every row that
    was ever sent, and a backlog of a million would be walked over from its beginning with every claim. Rows that
    have been available for longer are found without it only.
    """
    found = await _look(connection, now, since)
    if not found:
        return Claim(None, (), False, since)
    mine, ends = await _gaps(connection, found, confirmed, now)
    kept: Sequence[Any] = found
    if ends or len(mine) < len(found):
        kept = [row for row in found if row[_ID] in mine and row[_ID] < ends.get(row[_KEY], row[_ID] + 1)]
    return Claim(
        await _enter(connection, [row[_ID] for row in kept], now, lease),
        [_claimed(*row) for row in kept],
        len(found) == CLAIM or sum(len(row[_BODY].encode()) for row in found) >= CLAIM_BYTES,
        _moment(max(row[_AVAILABLE_AT] for row in found)),
    )


def _claimed(  # in the order of _READ
    identity: int,
    _available_at: datetime | float,
    key: str | None,
    message_id: UUID,
    exchange: str,
    routing_key: str,
    wire_type: str | None,
    source: str,
    correlation_id: str | None,
    body: str,
    created_at: datetime | float,
) -> Claimed:
    message = message_of(
        key,
        message_id,
        exchange,
        routing_key,
        routing_key if wire_type is None else wire_type,
        source,
        correlation_id,
        body,
        _moment(created_at),
    )
    return Claimed(identity, key, message)


def _moment(value: datetime | float) -> datetime:
    """What PostgreSQL says in seconds is exact to the microsecond, until the year 2100 and beyond."""
    return value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)


async def _look(connection: AsyncConnection, now: datetime, since: datetime) -> list[Any]:
    """Rows that nobody has, as far as can be seen, in the order of their numbers; locked on PostgreSQL."""
    rows: Sequence[Any]
    if connection.dialect.name == "postgresql":
        await driver.fetch(connection, _IN_ORDER, ())
        rows = await driver.fetch(connection, _TAKE_THERE, (since, now, CLAIM_BYTES))
    else:
        rows = (await connection.execute(_TAKE_LITE, {"since": since, "now": now, "bytes": CLAIM_BYTES})).all()
    return sorted(rows, key=itemgetter(_ID))


async def _gaps(
    connection: AsyncConnection, found: Sequence[Any], confirmed: Collection[int], now: datetime
) -> tuple[set[int], dict[str | None, int]]:
    """Which of the rows are free, and of each key the oldest row that somebody else must send first.

    A row that another sweeper has locked this instant was not found, but it is older all the same.
    """
    keys = list({row[_KEY] for row in found if row[_KEY] is not None})
    mine = {row[_ID] for row in found}
    newest = found[-1][_ID]
    older: Sequence[Any]
    if connection.dialect.name == "postgresql":
        seen = await driver.fetch(connection, _OLDER_THERE, (keys, newest, now, found[0][_ID]))
        mine.difference_update(identity for key, identity in seen if key is None)
        older = [each for each in seen if each[0] is not None]
    else:
        given = {"values": pack(connection.dialect, outbox.c.key, keys), "newest": newest}
        older = (await connection.execute(_OLDER, given)).all()
    return mine, gaps(older, mine, confirmed)


async def _enter(connection: AsyncConnection, ids: Sequence[int], now: datetime, lease: datetime) -> int | None:
    """Write the claim down, in the place of those that have run out; returns its token."""
    if not ids:
        return None
    if connection.dialect.name == "postgresql":
        ((token,),) = await driver.fetch(connection, _ENTER_THERE, (now, lease, ids))
    else:
        await connection.execute(_ENDED, {"now": now})
        record = {"ends_at": lease, "ids": pack(connection.dialect, outbox.c.id, ids)}
        (token,) = await bulk.insert(connection, outbox_claim, ("ends_at", "ids"), [record], returning="id")
    return int(token)


async def give_back(
    connection: AsyncConnection, token: int, failed: Mapping[int, Receipt | None], now: datetime, *, cut_off: bool
) -> None:
    """End a claim; its rows that were not confirmed are available again, after a backoff where it was their fault.

    None as what the broker said is a row that was not tried; `cut_off` says that the connection was lost.
    """
    tried = {identity: said for identity, said in failed.items() if said is not None}
    columns = (outbox.c.id, outbox.c.attempts)
    rows = await bulk.select(connection, columns, outbox.c.id, sorted(tried), "ORDER BY id FOR UPDATE")
    if not await bulk.delete(connection, outbox_claim.c.id, [token]):
        return  # our lease ran out and another sweeper has them now
    records = []
    for identity, attempts in rows:
        said = tried[identity]
        wait = min(timedelta(seconds=2 ** min(attempts + 1, 10)), LONGEST_WAIT)
        if said is Receipt.UNKNOWN and cut_off:
            wait = timedelta(0)
        records.append(
            {"id": identity, "attempts": attempts + 1, "available_at": now + wait, "last_error": _WORDS[said]}
        )
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
    gap = None if pending.key is None else found.get(pending.key)
    return gap is None or pending.id < gap


_WORDS = {
    Receipt.UNROUTABLE: "unroutable: no queue is bound for this routing key; start the service that handles it",
    Receipt.UNKNOWN: "not confirmed: the broker refused it, was away, or did not answer in time",
}
