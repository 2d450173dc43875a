"""Migrations run beside processes that work: none keeps a large table from them, but where a reason is listed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, event, text

from messaging import migrate
from messaging.database import Database
from tests.contract.messaging.holding_up import holds_up
from tests.contract.messaging.test_expand_only import HISTORIES, revisions

UNRELEASED = "no release has had the tables without it, so nobody has a large one"
EXCUSED = {
    ("messaging:migrations", "0002", "dead_letter"): UNRELEASED,
    ("orchestrator:migrations", "0004", "saga"): UNRELEASED,
    ("orchestrator:migrations", "0004", "collected_letter"): UNRELEASED,
    ("orchestrator:migrations", "0006", "saga"): UNRELEASED,
}
"""What a migration may do to a table all the same, and why. One with another reason says how long it takes, and what an
operator does meanwhile.
"""
_FILES = "SELECT relname, relfilenode FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"


@pytest.mark.parametrize("location", HISTORIES)
async def test_no_migration_keeps_a_large_table_from_those_who_work_with_it(postgres_url: str, location: str) -> None:
    """By the statements it sends; and whatever PostgreSQL has written anew is among what they were found to do."""
    database = Database(postgres_url)
    found: set[tuple[str, str, str]] = set()
    try:
        for revision in revisions(location):
            before = await _files(database)
            with _sent(database) as statements:
                await migrate.upgrade(database, [location], revision)
            after = await _files(database)
            told = holds_up(statements, before.keys())
            for words in told:
                place = (location, revision, words.partition(" ")[0])
                found.add(place)
                assert place in EXCUSED, f"{location} {revision}: {words}"
            anew = {table for table in before.keys() & after.keys() if before[table] != after[table]}
            assert anew <= {words.partition(" ")[0] for words in told}, f"{location} {revision}"
    finally:
        await database.close()
    assert found == {each for each in EXCUSED if each[0] == location}


@contextmanager
def _sent(database: Database) -> Iterator[list[str]]:
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        # Where Alembic keeps its place is no table that is large, or that anybody works with.
        if "alembic_version_" not in statement:
            found.append(statement)

    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def _files(database: Database) -> dict[str, int]:
    """The file that each table lies in: another one once it has been written anew."""

    def look(connection: Connection) -> dict[str, int]:
        return {each.relname: each.relfilenode for each in connection.execute(text(_FILES))}

    async with database.reading() as connection:
        return await connection.run_sync(look)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("CREATE TABLE saga (id UUID NOT NULL)", []),
        ("ALTER TABLE saga ADD COLUMN note VARCHAR(55)", []),
        ("ALTER TABLE saga ADD COLUMN note TEXT DEFAULT 'none' NOT NULL", []),
        ("ALTER TABLE saga ADD COLUMN tries INTEGER DEFAULT 0 NOT NULL", []),
        ("ALTER TABLE saga SET (fillfactor = 50)", []),
        ("ALTER TABLE saga ALTER COLUMN note SET DEFAULT 'none'", []),
        ("ALTER TABLE saga ADD CONSTRAINT tries CHECK (tries >= 0) NOT VALID", []),
        ("CREATE INDEX CONCURRENTLY ix ON saga (note)", []),
        ("CREATE INDEX ix ON parcel (note)", []),
        ("DROP INDEX ix", []),
        ("SELECT id FROM saga", []),
        ("CREATE UNIQUE INDEX ix ON saga (note)", ["saga takes no writes while it is indexed"]),
        ("CREATE INDEX ix ON public.saga USING hash (note)", ["saga takes no writes while it is indexed"]),
        (
            "ALTER TABLE saga ADD COLUMN span bigint\n GENERATED ALWAYS AS (a + b) STORED, ADD COLUMN c int",
            ["saga is written anew, for a value in every row"],
        ),
        ("ALTER TABLE saga ADD COLUMN id BIGSERIAL", ["saga is written anew, for a value in every row"]),
        (
            "ALTER TABLE saga ADD COLUMN at UUID DEFAULT gen_random_uuid()",
            ["saga may be written anew, for a default that is no constant"],
        ),
        ("ALTER TABLE saga ALTER COLUMN note TYPE TEXT", ["saga is written anew, for another type"]),
        ("ALTER TABLE saga ALTER COLUMN note SET NOT NULL", ["saga is read through, for nulls"]),
        (
            "ALTER TABLE saga ADD CONSTRAINT tries CHECK (tries >= 0)",
            ["saga is read through for a new rule: add the rule NOT VALID, and validate it later"],
        ),
        (
            "ALTER TABLE saga ADD COLUMN b int, ADD FOREIGN KEY (b) REFERENCES parcel (id)",
            ["saga is read through for a new rule: add the rule NOT VALID, and validate it later"],
        ),
        (
            "UPDATE saga SET note = 'none'",
            ["saga has its rows changed in one transaction: that is for a program beside the services"],
        ),
        ('LOCK TABLE "saga" IN EXCLUSIVE MODE', ["saga is locked as a whole"]),
        ("VACUUM FULL saga", ["saga is locked as a whole"]),
        ("ALTER TABLE saga SET UNLOGGED", ["saga is written anew"]),
    ],
)
def test_what_takes_as_long_as_a_table_is_large_is_found(statement: str, found: list[str]) -> None:
    """And what takes no longer than a look is not; nor what concerns a table that is new."""
    assert holds_up([statement], {"saga"}) == found
