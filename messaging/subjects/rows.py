"""What is read of the table of keys, and which master keys are in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.subjects.master import Wrapped
from messaging.subjects.schema import subject_key

READ = (subject_key.c.id, subject_key.c.subject, subject_key.c.wrapped, subject_key.c.master)

# From one to the next by the index, instead of through all the rows.
_MASTERS = text("""
WITH RECURSIVE used (master) AS (
    SELECT min(master) FROM subject_key
    UNION ALL
    SELECT (SELECT min(master) FROM subject_key WHERE master > used.master) FROM used WHERE used.master IS NOT NULL
)
SELECT master FROM used WHERE master IS NOT NULL
""")


class Row(NamedTuple):
    """A person's key; wrapped by no master key once it is erased."""

    id: str
    subject: str
    wrapped: str | None
    master: str | None

    @classmethod
    def of(cls, wrapped: Wrapped) -> Row:
        """Of one that was made."""
        return cls(wrapped.id, wrapped.subject, wrapped.text, wrapped.master)

    @property
    def sealed(self) -> Wrapped | None:
        """The key, unless it is erased."""
        if self.wrapped is None or self.master is None:
            return None
        return Wrapped(self.id, self.subject, self.wrapped, self.master)


def wrapped_by(master: str) -> Select[Any]:
    """The rows of one master key, by their ids."""
    return select(*READ).where(subject_key.c.master == master).order_by(subject_key.c.id)


async def masters(connection: AsyncConnection) -> Sequence[str]:
    """The master keys that wrap some key, as many looks into an index."""
    return [*await connection.scalars(_MASTERS)]


async def samples(connection: AsyncConnection) -> list[Wrapped]:
    """A key of each master key that is in use."""
    found = []
    for master in await masters(connection):
        row = (await connection.execute(wrapped_by(master).limit(1))).first()
        # Another may have been wrapped anew or erased meanwhile.
        if row is not None and (sealed := Row(*row).sealed) is not None:
            found.append(sealed)
    return found
