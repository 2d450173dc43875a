"""The stamp in a shard's database: which shard it is, of how many. Whoever is configured otherwise leaves it alone."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk
from messaging.bulk import Outcome, Writes
from messaging.consumer import CannotGoOn
from messaging.database import Database, shown
from messaging.plans import plan
from messaging.process import BadConfiguration
from messaging.shapes import Select
from orchestrator.schema import saga, saga_shard
from orchestrator.sharding import ALONE, Placement

_HOLD = plan(Select, (saga_shard.c.number, saga_shard.c.shards), saga_shard.c.number, "FOR SHARE")


class WrongShard(BadConfiguration, CannotGoOn):
    """This database is another shard, or was one of another number of shards; says which, and how to mend it."""


async def check(database: Database, placement: Placement) -> None:
    """Stamp a database that has no stamp: an empty one, or that of an orchestrator without shards, from before there
    were stamps. Raises WrongShard where the stamp, or what lies there already, says otherwise.
    """
    async with database.transaction() as connection:
        found = await stamp(connection)
        if found is None and (placement == ALONE or await _empty(connection)):
            row = {"number": placement.number, "shards": placement.shards}
            # Several processes may start at once: what another has written meanwhile is compared.
            await bulk.insert(connection, saga_shard, ("number", "shards"), [row], ignore_conflicts=True)
            found = await stamp(connection)
        if found != placement:
            raise WrongShard(f"{shown(database.url)} {_mend(found, placement)}")


async def _empty(connection: AsyncConnection) -> bool:
    return (await connection.execute(select(saga.c.id).limit(1))).first() is None


async def stamp(connection: AsyncConnection, *, hold: bool = False, change: bool = False) -> Placement | None:
    """What the stamp says, None where there is none.

    With `hold` it says so until the transaction ends; whoever means to `change` it waits for those who hold it.
    """
    query = select(saga_shard.c.number, saga_shard.c.shards)
    if hold or change:
        query = query.with_for_update(read=hold)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Placement(row.number, row.shards)


def hold_with(reads: Writes, placement: Placement) -> Outcome:
    """Keep the stamp as it is while a batch is handled, together with what else is read; `compare` what comes of it."""
    return reads.add(_HOLD, (placement.number,))


def same(held: Outcome, placement: Placement) -> bool:
    """Whether the stamp that is held is this one."""
    return held.rows == [(placement.number, placement.shards)]


async def compare(connection: AsyncConnection, held: Outcome, placement: Placement) -> None:
    """Raises WrongShard where the stamp that is held has been changed since this process started."""
    if same(held, placement):
        return
    # What was changed while it was waited for is not among what the waiting statement saw.
    found = await stamp(connection)
    if found is None and placement == ALONE:
        return  # nobody has started here with `check`: a test's engine, an embedded one
    raise WrongShard(f"the database {_mend(found, placement)}")


async def moving(connection: AsyncConnection) -> bool:
    """Whether instances are being moved between shards; if not, nobody begins to until the transaction ends."""
    found = await stamp(connection, hold=True)
    return found is not None and found.shards < 0


def _mend(found: Placement | None, placement: Placement) -> str:
    if found is not None and found.shards < 0:
        return "is being resharded; let `amends reshard` come to its end, and start this again"
    what = "holds the sagas of an orchestrator without shards" if found is None or found == ALONE else f"is {found}"
    wanted = "this process has no shards" if placement == ALONE else f"this process is of {placement}"
    return (
        f"{what}, and {wanted}. Mend the order or the number of the databases in AMENDS_SHARDS, or AMENDS_SHARD; "
        "to change how many there are, end the orchestrators and run `amends reshard`"
    )
