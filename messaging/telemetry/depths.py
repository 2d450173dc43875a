"""What waits in every service's database: outbox rows, messages put off, dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.schema import dead_letter, deferred, outbox
from messaging.telemetry.families import MOST, Family, Labels, Value, folded

REASONS = frozenset(
    {
        *(
            "malformed",
            "oversized",
            "forbidden_header",
            "forbidden_sender",
            "bad_signature",
            "unopenable",
            "unknown",
            "invalid",
            "unhandled",
            "handler_failed",
        ),
        *("retries_exhausted", "expired", "delivery_limit", "rejected", "stray"),
    }
)
"""Why a message becomes a dead letter, as far as it is counted by itself."""

_first = select(outbox.c.created_at).order_by(outbox.c.id).limit(1)
_rows = select(outbox.c.id).limit(MOST).subquery()
_waiting = select(deferred.c.consumer, deferred.c.first_at).order_by(deferred.c.id).limit(MOST).subquery()
# No index tells which are open: of the newest so many, whatever has been decided about them.
_newest = select(dead_letter.c.reason, dead_letter.c.state).order_by(dead_letter.c.id.desc()).limit(MOST).subquery()
_OUTBOX: Select[Any] = select(func.count(), _first.scalar_subquery()).select_from(_rows)
_DEFERRED: Select[Any] = select(_waiting.c.consumer, func.count(), func.min(_waiting.c.first_at)).group_by(
    _waiting.c.consumer
)
_LETTERS: Select[Any] = (
    select(_newest.c.reason, func.count()).where(_newest.c.state == "open").group_by(_newest.c.reason)
)


class Depths:
    """Looks at the tables that every service has; `consumers` are those that run here, told of also when they have
    nothing.
    """

    def __init__(self, consumers: Sequence[str]) -> None:
        self._consumers = tuple(consumers)

    async def __call__(self, connection: AsyncConnection, now: datetime) -> Sequence[Family]:
        rows, oldest = (await connection.execute(_OUTBOX)).one()
        waiting = {consumer: (number, since) for consumer, number, since in await connection.execute(_DEFERRED)}
        put_off: dict[Labels, Value] = {(name,): float(waiting.get(name, (0, None))[0]) for name in self._consumers}
        since: dict[Labels, Value] = {(name,): age(waiting.get(name, (0, None))[1], now) for name in self._consumers}
        none: dict[Labels, float] = {(reason,): 0.0 for reason in sorted(REASONS)}
        letters = counted(((folded(reason, REASONS),), number) for reason, number in await connection.execute(_LETTERS))
        return (
            Family("amends_outbox_messages", "Messages in the outbox that have not left.", "gauge", (), {(): rows}),
            Family(
                "amends_outbox_oldest_age_seconds",
                "How long the oldest message in the outbox has waited; 0 when there is none.",
                "gauge",
                (),
                {(): age(oldest, now)},
            ),
            Family("amends_deferred_messages", "Messages put off until later.", "gauge", ("consumer",), put_off),
            Family(
                "amends_deferred_oldest_age_seconds",
                "How long ago the message was first tried that has been put off for longest; 0 when there is none.",
                "gauge",
                ("consumer",),
                since,
            ),
            Family(
                "amends_dead_letters",
                "Dead letters in this service's own database that nobody has decided about.",
                "gauge",
                ("reason",),
                none | letters,
            ),
        )


def age(since: datetime | None, now: datetime) -> float:
    """Seconds; 0 for nothing, and where the clock that wrote it is ahead of this one."""
    return 0.0 if since is None else max((now - since).total_seconds(), 0.0)


def counted(found: Iterable[tuple[Labels, int]]) -> dict[Labels, float]:
    """The sum of the numbers of those that are labeled alike."""
    sums: dict[Labels, float] = {}
    for labels, number in found:
        sums[labels] = sums.get(labels, 0.0) + number
    return sums
