"""The stamp in a shard's database: which shard it is, of how many. Whoever is configured otherwise leaves it alone."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.database import Database, shown
from messaging.process import BadConfiguration
from messaging.worker import CannotGoOn
from orchestrator.schema import saga, saga_shard
from orchestrator.sharding import ALONE, Placement


class WrongShard(BadConfiguration, CannotGoOn):
    """This database is another shard, or was one of another number of shards; says which, and how to mend it."""


async def check(database: Database, placement: Placement) -> None:
    """Stamp an empty database; raises WrongShard where the stamp, or what lies there already, says otherwise."""
    async with database.transaction() as connection:
        found = await stamp(connection)
        if found == placement:
            return
        where = shown(database.url)
        if found is None and (await connection.execute(select(saga.c.id).limit(1))).first() is None:
            await connection.execute(saga_shard.insert(), {"number": placement.number, "shards": placement.shards})
            return
        if found is None and placement == ALONE:
            return  # from before there were stamps
        raise WrongShard(f"{where} {_mend(found, placement)}")


async def stamp(connection: AsyncConnection, *, hold: bool = False, change: bool = False) -> Placement | None:
    """What the stamp says, None where there is none.

    With `hold` it says so until the transaction ends; whoever means to `change` it waits for those who hold it.
    """
    query = select(saga_shard.c.number, saga_shard.c.shards)
    if hold or change:
        query = query.with_for_update(read=hold)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Placement(row.number, row.shards)


async def hold(connection: AsyncConnection, placement: Placement) -> None:
    """Keep the stamp as it is while a batch is handled. Raises WrongShard where it has been changed meanwhile."""
    found = await stamp(connection, hold=True)
    if found != placement:
        raise WrongShard(f"the database {_mend(found, placement)}")


def _mend(found: Placement | None, placement: Placement) -> str:
    if found is not None and found.shards < 0:
        return "is being resharded; let `amends reshard` come to its end, and start this again"
    what = "holds the sagas of an orchestrator without shards" if found is None or found == ALONE else f"is {found}"
    wanted = "this process has no shards" if placement == ALONE else f"this process is of {placement}"
    return (
        f"{what}, and {wanted}. Mend the order or the number of the databases in AMENDS_SHARDS, or AMENDS_SHARD; "
        "to change how many there are, end the orchestrators and run `amends reshard`"
    )
