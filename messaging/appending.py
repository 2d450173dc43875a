"""A batch's rows go into the outbox, each key in its order.

A row whose key has an older row pending is not published before that one. What is pending, the rows that are there
already tell, and what their messages have led to meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk, schema
from messaging.bulk import Outcome, Writes
from messaging.outbox_rows import COLUMNS, OutboxRow, Pending
from messaging.plans import Guard, array_text, plan
from messaging.shapes import Insert, Select

_KEY, _ID = schema.outbox.c.key, schema.outbox.c.id
_OLDER = (_KEY, _ID, schema.outbox.c.message_id)
_LOOK = plan(Select, _OLDER, _KEY)
_ALIKE = ("exchange", "source", "created_at", "available_at")
_INSERT_ONE = plan(Insert, schema.outbox, COLUMNS, False, "id", _ALIKE, False)
_NOTHING_ELSE = Guard(known="id", proven="message_id")
MOST_KNOWN = 50
"""Rows on their way, or sent and not deleted yet, that a lone batch's last statement names."""


async def append(
    connection: AsyncConnection,
    rows: Sequence[OutboxRow],
    *,
    grace: timedelta,
    on_their_way: Collection[int],
    done: Collection[int],
    besides: Collection[int] = (),
    beside: Writes | None = None,
    arrived: Collection[str] = (),
) -> list[Pending]:
    """Write a batch's rows, and in the same round trip what lies in `beside`.

    Returns those the caller may publish itself once it has committed. A row whose key has an older row pending that
    this process is not sending (`on_their_way`), does not send with these (`besides`) and has not sent (`done`) is left
    to the sweepers, open to them at once, so that a key keeps its order. `arrived` are ids of messages that somebody
    has answered: rows that another process has sent and not deleted yet, or of which the broker's confirmation was
    lost. They are deleted.
    """
    # What is sent stays sent, also if its row is deleted while we look: then nobody names it any more. Nor did anybody
    # name what another lane has written and committed meanwhile.
    sent, sending = frozenset(done), frozenset(on_their_way)
    writes = Writes() if beside is None else beside
    older, written = _add(writes, rows, grace)
    await writes.run(connection)
    sending = sending.union(on_their_way, besides) if older.rows else sending
    before, proven, held = _pending_before(older.rows, sending, sent.union(done), arrived)
    await _let_go(connection, proven)
    numbered = _numbered(written, rows)
    # Nobody else will send them either, so no sweeper need wait for anybody's grace.
    left = [{"id": identity, "available_at": row.created_at} for identity, row in numbered if row.key in held]
    await bulk.update(connection, schema.outbox, ("id",), ("available_at",), left)
    return [
        Pending(identity, row, frozenset(before.get(row.key or "", ())), checked=True)
        for identity, row in numbered
        if row.key not in held
    ]


async def append_last(
    connection: AsyncConnection,
    rows: Sequence[OutboxRow],
    *,
    grace: timedelta,
    known: Collection[int],
    on_their_way: Collection[int],
    beside: Writes,
    arrived: Collection[str],
) -> tuple[list[Pending], list[int]]:
    """The same with COMMIT in the round trip, where it can go along; returns also which rows have arrived.

    `known` are at most `MOST_KNOWN` rows that this process is sending or has sent. Raises Unforeseen where a key has an
    older row pending beside those and what has arrived; `append` is then what knows what to do.
    """
    older, written = _add(beside, rows, grace)
    older.guard, older.known = _NOTHING_ELSE, (array_text(known), array_text(arrived))
    await beside.run_last(connection)
    before: dict[str, set[int]] = {}
    proven: list[int] = []
    if older.rows:
        sending = frozenset(on_their_way).intersection(known)
        before, proven, _ = _pending_before(older.rows, sending, set(known), arrived)
    pending = [
        Pending(identity, row, frozenset(before.get(row.key or "", ())), checked=True)
        for identity, row in _numbered(written, rows)
    ]
    return pending, proven


def _add(writes: Writes, rows: Sequence[OutboxRow], grace: timedelta) -> tuple[Outcome, Outcome]:
    """Look for older rows of their keys, and insert these."""
    keys = sorted({row.key for row in rows if row.key is not None})
    older = writes.add(_LOOK, keys)
    records = [_record(row, grace) for row in rows]
    if len(records) == 1:
        return older, writes.add(_INSERT_ONE, records)
    return older, writes.insert(schema.outbox, COLUMNS, records, returning="id", alike=_alike(rows))


def _numbered(written: Outcome, rows: Sequence[OutboxRow]) -> list[tuple[int, OutboxRow]]:
    # numbered in the order of the records, returned in any
    return list(zip(sorted(written.values), rows, strict=True))


def _record(row: OutboxRow, grace: timedelta) -> tuple[Any, ...]:
    """The row's values in the order of COLUMNS."""
    return (
        row.key,
        row.message_id,
        row.exchange,
        row.routing_key,
        row.type,
        row.source,
        row.correlation_id,
        row.body,
        row.created_at,
        row.created_at + grace,
    )


def _alike(rows: Sequence[OutboxRow]) -> tuple[str, ...]:
    """What the rows of one batch mostly have in common."""
    names = ["exchange"] if len({row.exchange for row in rows}) == 1 else []
    if len({row.source for row in rows}) == 1:
        names.append("source")
    if len({row.created_at for row in rows}) == 1:
        names.extend(("created_at", "available_at"))
    return tuple(names)


def _pending_before(
    older: Sequence[Any], on_their_way: Collection[int], done: Collection[int], arrived: Collection[str]
) -> tuple[dict[str, set[int]], list[int], set[str]]:
    """By key the rows that this process is sending; rows that have arrived; keys of which another's row is pending."""
    before: dict[str, set[int]] = {}
    proven: list[int] = []
    held: set[str] = set()
    for key, identity, message in older:
        if identity in on_their_way:
            before.setdefault(key, set()).add(identity)
        elif identity in done:
            continue
        elif str(message) in arrived:
            proven.append(identity)
        else:
            held.add(key)
    return before, proven, held


async def _let_go(connection: AsyncConnection, proven: Sequence[int]) -> None:
    """Delete rows whose messages have arrived, whatever the broker said of them: they are pending no more."""
    # Whoever holds one is deleting it, and may be waiting for a row of ours.
    free = await bulk.select(connection, (_ID,), _ID, proven, "ORDER BY id FOR UPDATE SKIP LOCKED")
    await bulk.delete(connection, _ID, [row.id for row in free])
