"""What a handler writes last goes with what its batch writes: one round trip for both.

async with together(db) as writes:
    writes.update(account, ("id",), ("held",), records)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession

from messaging.bulk import Writes

WRITES = "amends_writes"
"""Where a batch's session keeps its `Writes`, in `session.info`."""


@asynccontextmanager
async def together(db: AsyncSession) -> AsyncIterator[Writes]:
    """Statements that are sent when the block ends or, where `db` is that of a batch, before anything else is handled.

    So the rest of the same call of a handler does not see them, and what they violate is raised when it has returned.
    Within a savepoint they are sent at once, and undone with it.
    """
    batch: Writes | None = db.info.get(WRITES)
    if batch is not None and not db.in_nested_transaction():
        yield batch
        return
    writes = Writes()
    yield writes
    await writes.run(await db.connection())
