"""The store of persons' keys on both databases: made once, opened in batches, erased for good, wrapped anew."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from messaging import migrate
from messaging.database import Database
from messaging.keys import UnusableKey
from messaging.subject_keys import KeysUnavailable, NoKeyYet
from messaging.subjects import erasing, rewrapping
from messaging.subjects.erasing import Erasure
from messaging.subjects.master import DamagedKey, MasterKey, Masters
from messaging.subjects.rewrapping import Rewrapped
from messaging.subjects.schema import metadata, subject_key
from messaging.subjects.store import MISSED_SECONDS, REMEMBERED_SECONDS, SubjectStore
from tests.contract.messaging.bench import statements

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLD, NEW = MasterKey("old", bytes(range(32))), MasterKey("new", bytes(range(32, 64)))


class _Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return NOON

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody sleeps here, and not for {seconds} s")


class _Vault:
    """Stores of several processes on one database, and what a person does beside them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = _Clock()
        self.database = Database(url)
        self._opened = [self.database]

    def store(self, *known: MasterKey, current: str = "old") -> SubjectStore:
        database = Database(self.url)
        self._opened.append(database)
        return SubjectStore(database, lambda: Masters(known or (OLD,), current), self.clock)

    async def erase(self, subject: str, why: str = "asked for it") -> bool:
        return (await erasing.erase(self.database, [Erasure(subject, NOON, "ada", why)])).subjects == (subject,)

    async def masters(self) -> list[str | None]:
        async with self.database.reading() as connection:
            return [*await connection.scalars(select(subject_key.c.master).order_by(subject_key.c.subject))]

    async def close(self) -> None:
        for each in self._opened:
            await each.close()


async def _with_table(url: str) -> _Vault:
    vault = _Vault(url)
    async with vault.database.transaction() as connection:
        await connection.run_sync(metadata.create_all)
    return vault


@pytest.fixture
async def vault(database_url: str) -> AsyncIterator[_Vault]:
    """An empty one; its table as the code says (test_migrations.py compares that with the migrations)."""
    made = await _with_table(database_url)
    yield made
    await made.close()


async def test_a_person_has_one_key_whoever_asks(vault: _Vault) -> None:
    """The first to ask makes it; another process gets the same, by the person's name and by the key's id."""
    made = await vault.store().ensure(["ada", "bob"])
    elsewhere = vault.store()

    assert await elsewhere.ensure(["bob", "ada"]) == made
    ada = made["ada"]
    assert ada is not None
    assert made["bob"] is not None
    assert (len(ada.id), len(ada.key)) == (22, 32)
    assert ada.key != made["bob"].key
    assert await elsewhere.opened([ada.id]) == {ada.id: ada}
    assert await vault.store().opened([ada.id, "A" * 22, "no id at all", "\ud800"]) == {ada.id: ada}


async def test_what_lies_in_the_database_opens_nothing(vault: _Vault) -> None:
    """No key is in it, nor the master key."""
    made = await vault.store().ensure(["ada"])
    async with vault.database.reading() as connection:
        (row,) = await connection.execute(select(subject_key))
    assert (row.subject, row.master, row.made_at, row.erased_at) == ("ada", "old", NOON, None)
    assert len(row.wrapped) == 80
    for key in (made["ada"], OLD):
        assert key is not None
        assert key.key.hex() not in row.wrapped
        assert repr(key.key) not in repr(key)


async def test_a_batch_is_one_look_and_one_more_for_who_is_new(vault: _Vault) -> None:
    """Whatever its size; and none for what was looked up a moment ago."""
    store, names = vault.store(), [f"person {number}" for number in range(300)]
    for asked, expected in ((names, ["SELECT", "INSERT"]), (names, []), ([*names, "one more"], ["SELECT", "INSERT"])):
        with statements(store.database) as said:
            keys = await store.ensure(asked)
        assert [each.split()[0] for each in said] == expected
    ids = [key.id for key in keys.values() if key is not None]
    other = vault.store()
    for expected in (["SELECT"], []):
        with statements(other.database) as said:
            assert len(await other.opened(ids)) == 301
        assert [each.split()[0] for each in said] == expected
    # By their ids it knows them now, and so by their names.
    with statements(other.database) as said:
        assert await other.ensure(names) == {name: keys[name] for name in names}
    assert said == []


async def test_who_makes_the_same_keys_at_once_gets_the_same(vault: _Vault) -> None:
    """Eight processes, each with the persons in an order of its own."""
    names = [f"person {number}" for number in range(20)]
    orders = [names, names[::-1], names[10:] + names[:10], names[::2] + names[1::2]] * 2
    found = await asyncio.gather(*(vault.store().ensure(each) for each in orders))

    assert all(each == found[0] for each in found)
    assert len(await vault.masters()) == 20


async def test_an_erased_person_is_gone_and_stays_so(vault: _Vault) -> None:
    """In another process at once, in one that knows the key after REMEMBERED_SECONDS; nobody makes a new one."""
    store = vault.store()
    ada = (await store.ensure(["ada"]))["ada"]
    assert ada is not None
    assert await vault.erase("ada") is True

    assert await vault.store().opened([ada.id]) == {ada.id: None}
    vault.clock.seconds += REMEMBERED_SECONDS - 0.001
    assert await store.opened([ada.id]) == {ada.id: ada}
    vault.clock.seconds += 0.001
    assert await store.opened([ada.id]) == {ada.id: None}
    assert await store.ensure(["ada"]) == {"ada": None}
    async with vault.database.reading() as connection:
        assert await erasing.find(connection, "ada") == erasing.Subject(
            "ada", ada.id, None, NOON, NOON, "ada", "asked for it"
        )


async def test_who_was_never_seen_can_be_erased(vault: _Vault) -> None:
    """Nobody makes a key later; and the first reason stays."""
    assert await vault.erase("carl") is True
    assert await vault.erase("carl", "asked again") is False

    keys = await vault.store().ensure(["carl", "ada"])
    assert [name for name, key in keys.items() if key is None] == ["carl"]
    async with vault.database.reading() as connection:
        assert await erasing.erasures(connection) == [Erasure("carl", NOON, "ada", "asked for it")]
        found = await erasing.find(connection, "carl")
        assert found is not None
        assert found.made_at is None
        assert await erasing.find(connection, found.id) == found
        assert await erasing.find(connection, "dora") is None


async def test_erasing_and_making_at_once_leaves_no_key(vault: _Vault) -> None:
    """Whichever comes first, in the end there is none."""
    names = [f"person {number}" for number in range(10)]
    erasures = [Erasure(each, NOON, "ada", "asked") for each in names]
    await asyncio.gather(vault.store().ensure(names), erasing.erase(vault.database, erasures))

    assert await vault.store().ensure(names) == dict.fromkeys(names)


async def test_in_a_file_nothing_is_left_of_an_erased_key(sqlite_url: str) -> None:
    """Neither in the database nor in its log of writes, also of keys that were wrapped anew and moved about."""
    vault = await _with_table(sqlite_url)
    try:
        names = [f"customer-{number * 7919 % 1000}" for number in range(1000)]
        await vault.store().ensure(names)
        wrapped = await _wrapped(vault)
        await rewrapping.rewrap(vault.database, Masters((OLD, NEW), "new"), told=lambda _: None)
        wrapped += await _wrapped(vault)
        written = _bytes_of(sqlite_url)
        assert all(each in written for each in wrapped[1000:])
        await erasing.erase(vault.database, [Erasure(each, NOON, "ada", "asked for it") for each in names])
        written = _bytes_of(sqlite_url)
        assert not [each for each in wrapped if each in written]
        assert b"asked for it" in written
    finally:
        await vault.close()


async def _wrapped(vault: _Vault) -> list[bytes]:
    async with vault.database.reading() as connection:
        return [each.encode() for each in await connection.scalars(select(subject_key.c.wrapped)) if each is not None]


def _bytes_of(sqlite_url: str) -> bytes:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    return b"".join(each.read_bytes() for each in sorted(path.parent.glob(f"{path.name}*")))


@pytest.mark.parametrize("subject", ["", "x" * 201, "a\0b", "\ud800"])
async def test_what_cannot_be_a_person_is_refused(vault: _Vault, subject: str) -> None:
    """Before the database is asked: it would fail for all of a batch, and for ever."""
    with pytest.raises(ValueError, match="cannot be a subject"):
        await vault.store().ensure(["ada", subject])
    with pytest.raises(ValueError, match="cannot be a subject"):
        await vault.erase(subject)
    assert await vault.masters() == []


# -- master keys ---------------------------------------------------------------------------------------------


async def test_keys_are_wrapped_anew_beside_who_uses_them(vault: _Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped half way it goes on later; nobody's key changes, an erased one stays erased."""
    monkeypatch.setattr(rewrapping, "BATCH", 2)
    names = ["ada", "bob", "carl", "dora", "eve"]
    keys = await vault.store().ensure(names)
    await vault.erase("carl")
    both = Masters((OLD, NEW), "new")
    told: list[int] = []

    def stop(number: int) -> None:
        told.append(number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await rewrapping.rewrap(vault.database, both, told=stop)
    assert sorted(map(str, await vault.masters())) == ["None", "new", "new", "old", "old"]
    async with vault.database.reading() as connection:
        assert await rewrapping.others(connection, "new") == {"old": 2}
    assert await vault.store(OLD, NEW, current="new").ensure(names) == {**keys, "carl": None}

    assert await rewrapping.rewrap(vault.database, both, told=told.append) == Rewrapped(2)
    assert told == [2, 2]
    assert await rewrapping.rewrap(vault.database, both, told=told.append) == Rewrapped(0)
    assert await vault.store(NEW, current="new").ensure(names) == {**keys, "carl": None}


async def test_a_store_starts_with_its_table_and_every_master_key_that_is_in_use(database_url: str) -> None:
    """A missing one and a wrong one are told before anything begins; one that wraps nothing any more may go."""
    vault = _Vault(database_url)
    try:
        with pytest.raises(migrate.MigrationsPending, match="run `amends subjects migrate` first"):
            await vault.store().start(migrates=False)
        await vault.store().start(migrates=True)
        await vault.store(OLD).ensure(["ada"])
        await vault.store(OLD, NEW, current="new").ensure(["bob"])

        await vault.store(OLD, NEW, current="new").start(migrates=False)
        with pytest.raises(
            UnusableKey, match=r"wrapped by the master key 'old', which is not among new in AMENDS_MAST"
        ):
            await vault.store(NEW, current="new").start(migrates=False)
        with pytest.raises(UnusableKey, match=r"does not open with the master key 'old'; put the key there that had"):
            await vault.store(MasterKey("old", bytes(32)), NEW, current="new").start(migrates=False)
        await vault.erase("ada")
        await vault.store(NEW, current="new").start(migrates=False)
    finally:
        await vault.close()


async def test_a_master_key_that_comes_later_is_found(vault: _Vault) -> None:
    """A process that does not know it looks again, now and then; until it is there, who needs it waits."""
    known = [OLD]
    database = Database(vault.url)
    store = SubjectStore(database, lambda: Masters(known, "old"), vault.clock)
    try:
        ada = (await vault.store(NEW, current="new").ensure(["ada"]))["ada"]
        assert ada is not None
        for _ in range(2):
            with pytest.raises(KeysUnavailable, match="the master key 'new' is not here; put it into AMENDS_MASTER_KE"):
                await store.opened([ada.id])
            assert "the master key 'new' is not here" in str(store.lacks)
            vault.clock.seconds += REMEMBERED_SECONDS
        known.append(NEW)
        assert await store.opened([ada.id]) == {ada.id: ada}
        assert store.lacks is None
    finally:
        await database.close()


async def test_a_master_key_that_is_there_when_it_is_looked_for_was_never_missing(vault: _Vault) -> None:
    """Nobody is told to put a file where it lies already."""
    known = [OLD]
    database = Database(vault.url)
    store = SubjectStore(database, lambda: Masters(known, "old"), vault.clock)
    try:
        ada = (await vault.store(NEW, current="new").ensure(["ada"]))["ada"]
        assert ada is not None
        known.append(NEW)
        vault.clock.seconds += REMEMBERED_SECONDS
        with capture_logs() as said:
            assert await store.opened([ada.id]) == {ada.id: ada}
        assert (said, store.lacks) == ([], None)
    finally:
        await database.close()


async def test_a_master_key_is_missing_as_long_as_somebody_asks_for_what_it_wraps(vault: _Vault) -> None:
    """Nobody can say when its last key was erased, or wrapped anew."""
    ada = (await vault.store(NEW, current="new").ensure(["ada"]))["ada"]
    store = vault.store()
    assert ada is not None
    with pytest.raises(KeysUnavailable):
        await store.ensure(["ada"])
    vault.clock.seconds += MISSED_SECONDS - 1
    assert store.lacks is not None
    vault.clock.seconds += 1
    assert store.lacks is None


async def test_who_may_make_no_keys_opens_and_seals_with_those_there_are(vault: _Vault) -> None:
    """Of somebody without one it says so at once, writes nothing, and goes on with the others."""
    keys = await vault.store().ensure(["ada"])
    ada = keys["ada"]
    assert ada is not None
    reader = SubjectStore(vault.database, lambda: Masters([OLD], "old"), vault.clock, makes=False)
    with statements(vault.database) as said:
        assert await reader.opened([ada.id]) == {ada.id: ada}
        with pytest.raises(NoKeyYet, match="'bob' has no key yet, and this process makes none"):
            await reader.ensure(["ada", "bob"])
        assert await reader.ensure(["ada"]) == keys
    assert not [each for each in said if "INSERT" in each or "UPDATE" in each]
    async with vault.database.reading() as connection:
        assert await erasing.find(connection, "bob") is None


async def test_a_row_that_was_changed_opens_nothing(vault: _Vault) -> None:
    """Somebody gives bob what is ada's: neither a reader nor a writer takes it; the others go on."""
    keys = await vault.store().ensure(["ada", "bob", "carl"])
    ids = [key.id for key in keys.values() if key is not None]
    async with vault.database.transaction() as connection:
        of_ada = select(subject_key.c.wrapped).where(subject_key.c.subject == "ada").scalar_subquery()
        await connection.execute(update(subject_key).where(subject_key.c.subject == "bob").values(wrapped=of_ada))

    assert await vault.store().opened(ids) == {key.id: key for key in (keys["ada"], keys["carl"]) if key is not None}
    with pytest.raises(DamagedKey, match="is damaged; restore it from a backup"):
        await vault.store().ensure(["ada", "bob"])
    damaged = await rewrapping.rewrap(vault.database, Masters((OLD, NEW), "new"), told=lambda _: None)
    assert keys["bob"] is not None
    assert damaged == Rewrapped(2, (keys["bob"].id,))


async def test_a_database_that_is_away_makes_everybody_wait(
    postgres_url: str, fresh_postgres: Callable[[], str]
) -> None:
    """Also one without the table: no message is to blame."""
    vault = _Vault(postgres_url)
    away = Database("postgresql://nobody:secret@127.0.0.1:1/subjects")
    try:
        for store in (vault.store(), SubjectStore(away, lambda: Masters((OLD,), "old"), vault.clock)):
            with pytest.raises(KeysUnavailable) as told:
                await store.ensure(["ada"])
            with pytest.raises(KeysUnavailable):
                await store.opened(["A" * 22])
            assert "secret" not in str(told.value)
    finally:
        await vault.close()
        await away.close()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY, sqlite3.SQLITE_BUSY_SNAPSHOT])
async def test_why_ever_sqlite_is_busy_what_is_erased_is_overwritten_the_next_time(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A reader, a log that is being recovered, somebody who has written meanwhile: told alike, and no error."""
    database = Database(sqlite_url)
    plain = aiosqlite.Connection.execute_fetchall

    async def busy(self: aiosqlite.Connection, sql: str, *given: Any) -> Any:
        if sql == "VACUUM":
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = code
            raise error
        return await plain(self, sql, *given)

    try:
        with monkeypatch.context() as patched:
            patched.setattr(aiosqlite.Connection, "execute_fetchall", busy)
            assert not await erasing.overwritten(database)
        assert await erasing.overwritten(database)
    finally:
        await database.close()
