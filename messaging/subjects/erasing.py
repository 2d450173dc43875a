"""Erasing a person: the key goes, the row stays with who and why, so that nobody ever makes another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from sqlite3 import SQLITE_BUSY
from sqlite3 import OperationalError as SQLiteError

from sqlalchemy import or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging.database import Database
from messaging.subject_keys import new_key_id
from messaging.subjects.schema import subject_key
from messaging.subjects.store import check_subject

OVERWRITING_SECONDS = 5.0
"""How long SQLite waits for who reads and writes in the file that is to be written anew."""

_SHOWN = (
    subject_key.c.subject,
    subject_key.c.id,
    subject_key.c.master,
    subject_key.c.made_at,
    subject_key.c.erased_at,
    subject_key.c.erased_by,
    subject_key.c.erased_why,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is kept of a person: the key's id, which master key wraps it, and, once erased, when, by whom and why.

    `made_at` is None for one who was erased before there was a key.
    """

    subject: str
    id: str
    master: str | None
    made_at: datetime | None
    erased_at: datetime | None
    erased_by: str | None
    erased_why: str | None


@dataclass(frozen=True, slots=True)
class Erasure:
    """That a person is to have no key: since when, who says so, and why."""

    subject: str
    at: datetime
    by: str
    why: str


async def find(connection: AsyncConnection, name: str) -> Subject | None:
    """The person of this name, or the one whose key has this id; a person comes first."""
    wanted = select(*_SHOWN).where(or_(subject_key.c.subject == name, subject_key.c.id == name))
    found = [Subject(*row) for row in await connection.execute(wanted)]
    return next((each for each in found if each.subject == name), found[0] if found else None)


async def erasures(connection: AsyncConnection, since: datetime | None = None) -> list[Erasure]:
    """All who are erased, or since this moment, the first ones first."""
    columns = (subject_key.c.subject, subject_key.c.erased_at, subject_key.c.erased_by, subject_key.c.erased_why)
    wanted = select(*columns).where(subject_key.c.erased_at.is_not(None))
    if since is not None:
        wanted = wanted.where(subject_key.c.erased_at >= since)
    found = await connection.execute(wanted.order_by(subject_key.c.erased_at, subject_key.c.subject))
    return [Erasure(subject, at, by or "", why or "") for subject, at, by, why in found if at is not None]


@dataclass(frozen=True, slots=True)
class Erased:
    """Who was erased that had not been before; `remains` where SQLite's files still hold what was overwritten."""

    subjects: tuple[str, ...]
    remains: bool


async def erase(database: Database, wanted: Sequence[Erasure]) -> Erased:
    """Erase these persons; of those who were erased before the first reason stays.

    Raises ValueError for what cannot be a person's name.
    """
    for each in wanted:
        check_subject(each.subject)
    async with database.transaction() as connection:
        done = [each.subject for each in sorted(wanted, key=lambda one: one.subject) if await _erase(connection, each)]
    return Erased(tuple(done), remains=not await overwritten(database))


async def overwritten(database: Database) -> bool:
    """Have SQLite leave nothing in its files of what was: pages keep copies of what was moved within them.

    False where somebody is in the way who reads or writes: then it is to be done again.
    """
    if database.dialect != "sqlite":
        return True
    async with database.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        try:
            # Writers wait as long as this waits for readers.
            await driver.execute_fetchall(f"PRAGMA busy_timeout={OVERWRITING_SECONDS * 1000:.0f}")  # type: ignore[union-attr]
            # Outside of any transaction, which SQLAlchemy would begin.
            await driver.execute_fetchall("VACUUM")  # type: ignore[union-attr]
            # Where a reader needs the log as it is, this says so in its first column, and fails not.
            ((busy, *_),) = await driver.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
        except SQLiteError as error:
            # Also why it is busy is said, in the bits above.
            if error.sqlite_errorcode & 0xFF == SQLITE_BUSY:
                return False
            raise OperationalError("VACUUM", None, error) from error
        finally:
            await connection.invalidate()
    return not busy


async def _erase(connection: AsyncConnection, wanted: Erasure) -> bool:
    """In one statement: whoever makes this person's key in this moment comes before it or after it."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    erased = {"erased_at": wanted.at, "erased_by": wanted.by, "erased_why": wanted.why}
    row = insert(subject_key).values(id=new_key_id(), subject=wanted.subject, **erased)
    said = row.on_conflict_do_update(
        index_elements=[subject_key.c.subject],
        set_={"wrapped": None, "master": None, **erased},
        where=subject_key.c.erased_at.is_(None),
    ).returning(subject_key.c.subject)
    return (await connection.execute(said)).first() is not None
