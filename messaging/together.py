"""What a handler writes last goes with what its batch writes: one round trip for both.

async with together(db) as writes:
    writes.update(account, ("id",), ("held",), records)
"""

from __future__ import annotations

from types import TracebackType

from sqlalchemy.ext.asyncio import AsyncSession

from messaging.bulk import Writes

WRITES = "amends_writes"
"""Where a batch's session keeps its `Writes`, in `session.info`."""


def together(db: AsyncSession) -> Together:
    """Statements that are sent when the block ends or, where `db` is that of a batch, before anything else is handled.

    So the rest of the same call of a handler does not see them, and what they violate is raised when it has returned.
    Within a savepoint they are sent at once, and undone with it.
    """
    batch: Writes | None = db.info.get(WRITES)
    return Together(db, None if batch is None or db.in_nested_transaction() else batch)


class Together:
    """The block that `together` begins. `contextlib` would make it of a function, at five times the price."""

    __slots__ = ("_batch", "_db", "_writes")

    def __init__(self, db: AsyncSession, batch: Writes | None) -> None:
        self._db = db
        self._batch = batch
        self._writes = Writes() if batch is None else batch

    async def __aenter__(self) -> Writes:
        return self._writes

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._batch is None:
            await self._writes.run(await self._db.connection())
