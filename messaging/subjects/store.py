"""Keys of persons in SQL, each wrapped by a master key: made and opened for a batch at a time; implements `Keys`."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path

import structlog
from sqlalchemy.engine import make_url

from messaging import bulk, migrate
from messaging.clock import Clock
from messaging.database import DATABASE_ERRORS, Database, in_words, shown
from messaging.keys import UnusableKey
from messaging.settings import ServiceSettings
from messaging.subject_keys import (
    KEY_BYTES,
    LONGEST_SUBJECT,
    KeysUnavailable,
    NoKeyYet,
    SubjectKey,
    can_name,
    new_key_id,
)
from messaging.subjects import rows as reading
from messaging.subjects.master import MAKER, DamagedKey, Masters, UnknownMaster, Wrapped, read
from messaging.subjects.recent import Recent
from messaging.subjects.rows import READ, Row
from messaging.subjects.schema import subject_key
from messaging.subjects.settings import HISTORY

REMEMBERED_SECONDS = 10.0
"""How long a key is used without looking again: an erased one is gone everywhere after that."""
MOST_REMEMBERED = 10_000
MISSED_SECONDS = 60.0
"""How long a master key counts as missing after somebody has needed it: who waits for it asks again sooner."""
CONNECTIONS = 2
"""To the keys' database: one look is on its way for each batch in hand."""

_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_NEW = ("id", "subject", "wrapped", "master", "made_at")


def store_of(settings: ServiceSettings, clock: Clock) -> SubjectStore | None:
    """The store that the settings name; None where they name none. Raises UnusableKey."""
    if settings.subject_keys is None:
        return None
    url = settings.subject_keys.get_secret_value()
    if settings.database_variable == "DATABASE_URL" and _same_file(url, settings.database):
        raise UnusableKey(
            f"AMENDS_SUBJECT_KEYS and DATABASE_URL name the same file, {shown(url)}: a batch that holds it would wait "
            "for itself, and its backups would keep the keys; name another one"
        )
    database = Database(url, pool_size=CONNECTIONS, by_index=True)
    return SubjectStore(database, lambda: masters_of(settings), clock, makes=settings.make_subject_keys)


def _same_file(one: str, other: str) -> bool:
    """Whether both are this SQLite file."""
    first, second = make_url(one), make_url(other)
    if not first.database or not second.database or {first.get_backend_name(), second.get_backend_name()} != {"sqlite"}:
        return False
    return Path(first.database).resolve() == Path(second.database).resolve()


def masters_of(settings: ServiceSettings) -> Masters:
    """The master keys that the settings name. Raises UnusableKey."""
    if settings.master_keys is None:
        raise UnusableKey(
            "AMENDS_SUBJECT_KEYS needs the master keys that wrap them: name their folder in AMENDS_MASTER_KEYS "
            f"(`{MAKER}` makes one)"
        )
    return read(settings.master_keys, settings.master_key_id)


class SubjectStore:
    """The store of one process. `read` reads the master keys, anew where a key is wrapped by one that is not known yet.

    A look is one statement, and one more where somebody is new; only where another process makes the same person's key
    in that moment, a third. One that `makes` no keys only reads.
    """

    def __init__(self, database: Database, read: Callable[[], Masters], clock: Clock, *, makes: bool = True) -> None:
        self.database = database
        self._makes = makes
        self._read = read
        self._masters = read()
        self._read_at = clock.monotonic()
        self._missed: dict[str, tuple[str, float]] = {}
        self._clock = clock
        self._by_subject = Recent[SubjectKey | None](REMEMBERED_SECONDS, MOST_REMEMBERED)
        self._by_id = Recent[SubjectKey | None](REMEMBERED_SECONDS, MOST_REMEMBERED)

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self, *, migrates: bool) -> None:
        """Bring or check the table, and see that every master key that is in use is here.

        Raises MigrationsPending, NotGranted, UnusableKey, and what a database raises that is away.
        """
        if migrates:
            await migrate.upgrade(self.database, [HISTORY])
        elif behind := await self.behind():
            raise migrate.MigrationsPending(behind)
        async with self.database.reading() as connection:
            samples = await reading.samples(connection)
        for each in samples:
            try:
                self._masters.unwrap(each)
            except UnknownMaster as error:
                raise UnusableKey(
                    f"keys in {shown(self.database.url)} are wrapped by the master key {error.master!r}, which is not "
                    f"among {', '.join(self._masters.ids)} in AMENDS_MASTER_KEYS; put it there, or wrap them anew "
                    "where it is (`amends subjects rewrap`)"
                ) from None
            except DamagedKey as error:
                raise UnusableKey(
                    f"{shown(self.database.url)}: {error}; put the key there that had this id when it was used"
                ) from None

    async def behind(self) -> str | None:
        """What is to be done where the table is not at head. Raises NotGranted."""
        if not await migrate.pending(self.database, [HISTORY]):
            return None
        where = shown(self.database.url)
        return f"{where}: the table of subjects' keys is not at head; run `amends subjects migrate` first"

    @property
    def lacks(self) -> str | None:
        """Which master key is missing, as somebody waits for one that it wraps; None where nobody does."""
        now = self._clock.monotonic()
        return next((why for why, at in self._missed.values() if now < at + MISSED_SECONDS), None)

    async def close(self) -> None:
        await self.database.close()

    # -- keys ------------------------------------------------------------------------------------------------

    async def ensure(self, subjects: Collection[str]) -> Mapping[str, SubjectKey | None]:
        """As `Keys.ensure`. Raises ValueError for who cannot be a subject, DamagedKey for one whose row was changed,
        NoKeyYet for one who has none where none may be made.

        It will again each time: that person's message is to be put aside, and no other.
        """
        for each in subjects:
            check_subject(each)
        now = self._clock.monotonic()
        found = self._by_subject.of(subjects, now)
        # Everybody makes them in one order: two processes cannot wait for each other.
        missing = sorted(set(subjects) - found.keys())
        while missing:
            rows = await self._reach(self._made_or_found, missing)
            opened = self._keep(rows, now)
            for row in rows:
                if row.id not in opened:
                    raise DamagedKey(f"{self._where}: the key {row.id} is damaged; restore it from a backup")
                found[row.subject] = opened[row.id]
            missing = [each for each in missing if each not in found]
        return found

    async def opened(self, ids: Collection[str]) -> Mapping[str, SubjectKey | None]:
        """As `Keys.opened`; one that is damaged is absent, too, and told in the log."""
        now = self._clock.monotonic()
        found = self._by_id.of(ids, now)
        missing = [each for each in dict.fromkeys(ids) if each not in found and _ID.fullmatch(each)]
        if missing:
            found |= self._keep(await self._reach(self._named, missing), now)
        return found

    async def _named(self, ids: Sequence[str]) -> Sequence[Row]:
        async with self.database.reading() as connection:
            return [Row(*each) for each in await bulk.select(connection, READ, subject_key.c.id, ids)]

    async def _made_or_found(self, subjects: Sequence[str]) -> Sequence[Row]:
        """The rows of these subjects; without those whose key another process has made in this moment."""
        async with self.database.reading() as connection:
            rows = [Row(*each) for each in await bulk.select(connection, READ, subject_key.c.subject, subjects)]
        there = {row.subject for row in rows}
        new = [each for each in subjects if each not in there]
        if not new:
            return rows
        if not self._makes:
            raise NoKeyYet(
                f"{self._where}: {new[0]!r} has no key yet, and this process makes none "
                "(AMENDS_MAKE_SUBJECT_KEYS=false): who is the first to say something of a person needs to be allowed to"
            )
        wrapped = [self._new(each) for each in new]
        at = self._clock.now()
        records = [
            {"id": each.id, "subject": each.subject, "wrapped": each.text, "master": each.master, "made_at": at}
            for each in wrapped
        ]
        async with self.database.transaction() as connection:
            made = {*await bulk.insert(connection, subject_key, _NEW, records, ignore_conflicts=True, returning="id")}
        return [*rows, *(Row.of(each) for each in wrapped if each.id in made)]

    def _new(self, subject: str) -> Wrapped:
        key = SubjectKey(new_key_id(), secrets.token_bytes(KEY_BYTES))
        return self._masters.wrap(key, subject)

    def _keep(self, rows: Sequence[Row], at: float) -> dict[str, SubjectKey | None]:
        """What these rows hold, by key id, and remembered from now on; without those that are damaged."""
        opened: dict[str, SubjectKey | None] = {}
        for row in rows:
            try:
                opened[row.id] = None if (sealed := row.sealed) is None else self._unwrap(sealed)
            except DamagedKey as error:
                structlog.get_logger().error("subject_key_damaged", key=row.id, error=str(error))
        self._by_id.keep(opened.items(), at)
        self._by_subject.keep(((row.subject, opened[row.id]) for row in rows if row.id in opened), at)
        return opened

    def _unwrap(self, wrapped: Wrapped) -> SubjectKey:
        try:
            return self._masters.unwrap(wrapped)
        except UnknownMaster as error:
            self._read_again(error)
            return self._unwrap(wrapped)

    def _read_again(self, unknown: UnknownMaster) -> None:
        """Look for a master key that has come meanwhile. Raises KeysUnavailable where it has not."""
        why = f"{self._where}: {unknown}; put it into AMENDS_MASTER_KEYS"
        now = self._clock.monotonic()
        if now >= self._read_at + REMEMBERED_SECONDS:
            self._read_at = now
            try:
                self._masters = self._read()
            except UnusableKey as error:
                why = f"{why}: {error}"
            for known in self._missed.keys() & {*self._masters.ids}:
                del self._missed[known]
            if unknown.master in self._masters.ids:
                return
        if unknown.master not in self._missed or self.lacks is None:
            structlog.get_logger().error("master_key_missing", master=unknown.master, error=why)
        self._missed[unknown.master] = (why, now)
        raise KeysUnavailable(why) from unknown

    async def _reach(
        self, look: Callable[[Sequence[str]], Awaitable[Sequence[Row]]], names: Sequence[str]
    ) -> Sequence[Row]:
        try:
            return await look(names)
        except DATABASE_ERRORS as error:
            # Whatever it is: no message is to blame, and a person mends it.
            raise KeysUnavailable(f"{self._where}: {in_words(error)}") from error

    @property
    def _where(self) -> str:
        return f"keys of persons in {shown(self.database.url)}"


def check_subject(subject: str) -> None:
    """Raise ValueError where this cannot name a person."""
    if not can_name(subject):
        raise ValueError(f"{subject[:50]!r} cannot be a subject: 1 to {LONGEST_SUBJECT} characters that can be stored")
