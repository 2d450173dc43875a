"""Wrapping anew what other master keys have wrapped, in small batches, beside services that run.

Each batch is a transaction of its own: stopped half way, the next time goes on where this one came to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk
from messaging.database import Database
from messaging.subjects import rows
from messaging.subjects.master import DamagedKey, Masters
from messaging.subjects.rows import Row
from messaging.subjects.schema import subject_key

BATCH = 500


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """How many keys the current master key wraps now that another did before; ids of those that do not open."""

    keys: int
    damaged: tuple[str, ...] = ()


async def others(connection: AsyncConnection, current: str) -> dict[str, int]:
    """How many keys each of the other master keys wraps."""
    counted = select(subject_key.c.master, func.count()).where(subject_key.c.master != current)
    found = await connection.execute(counted.group_by(subject_key.c.master).order_by(subject_key.c.master))
    return {str(master): number for master, number in found}


async def rewrap(database: Database, masters: Masters, *, told: Callable[[int], None]) -> Rewrapped:
    """Wrap everything by the current master key; `told` is told of each batch. Raises UnknownMaster.

    An erased key stays erased, also one that is erased meanwhile.
    """
    done = 0
    damaged: list[str] = []
    async with database.reading() as connection:
        old = [each for each in await rows.masters(connection) if each != masters.current]
    for master in old:
        after = ""
        while True:
            async with database.transaction() as connection:
                # Whoever else wraps them anew, or erases one, comes before or after.
                batch = rows.wrapped_by(master).where(subject_key.c.id > after).limit(BATCH).with_for_update()
                found = [Row(*each) for each in await connection.execute(batch)]
                done += await _write(connection, found, masters, damaged)
            if not found:
                break
            after = found[-1].id
            told(len(found))
    return Rewrapped(done, tuple(damaged))


async def _write(connection: AsyncConnection, found: Sequence[Row], masters: Masters, damaged: list[str]) -> int:
    records = []
    for row in found:
        if (sealed := row.sealed) is None:
            continue
        try:
            anew = masters.wrap(masters.unwrap(sealed), row.subject)
        except DamagedKey:
            damaged.append(row.id)
        else:
            records.append({"id": anew.id, "wrapped": anew.text, "master": anew.master})
    return await bulk.update(connection, subject_key, ("id",), ("wrapped", "master"), records)
