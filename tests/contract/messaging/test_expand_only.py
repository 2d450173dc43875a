"""Two versions run on one database in a roll-out: what a migration finds there stays as the version before needs it."""

from __future__ import annotations

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from messaging import migrate
from messaging.database import Database
from tests.contract.messaging.expanding import broken, snapshot

HISTORIES = (
    "messaging:migrations",
    "orchestrator:migrations",
    "services.order:migrations",
    "services.payment:migrations",
    "messaging.subjects:migrations",
)
BEFORE_ANY_RELEASE = {("messaging:migrations", "0002")}
"""Nobody has run what it takes away from. There will be no second one of these."""
BEFORE = "CREATE TABLE parcel (id BIGINT NOT NULL PRIMARY KEY, label TEXT, weight INTEGER NOT NULL DEFAULT 0)"


def revisions(location: str) -> list[str]:
    """A history's revisions, the first one first."""
    config = Config()
    config.set_main_option("script_location", location)
    config.set_main_option("path_separator", "os")
    found = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()]
    return found[::-1]


@pytest.mark.parametrize("location", HISTORIES)
async def test_every_migration_only_adds(database_url: str, location: str) -> None:
    """No table, column, type or default is taken away, and nothing new is asked of rows that old code writes."""
    database = Database(database_url)
    try:
        first, *rest = revisions(location)
        await migrate.upgrade(database, [location], first)
        for revision in rest:
            async with database.reading() as connection:
                before = await connection.run_sync(snapshot)
            await migrate.upgrade(database, [location], revision)
            async with database.reading() as connection:
                after = await connection.run_sync(snapshot)
            if (location, revision) not in BEFORE_ANY_RELEASE:
                assert broken(before, after) == [], f"{location} {revision}"
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP TABLE parcel", ["parcel is gone"]),
        ("ALTER TABLE parcel DROP COLUMN label", ["parcel.label is gone"]),
        ("ALTER TABLE parcel RENAME COLUMN label TO title", ["parcel.label is gone"]),
        ("ALTER TABLE parcel RENAME TO package", ["parcel is gone"]),
        ("CREATE UNIQUE INDEX one_label ON parcel (label)", ["parcel has a new rule: unique ['label']"]),
        ("ALTER TABLE parcel ADD COLUMN color TEXT", []),
        ("ALTER TABLE parcel ADD COLUMN color TEXT NOT NULL DEFAULT 'brown'", []),
        ("CREATE INDEX by_label ON parcel (label)", []),
    ],
)
async def test_what_takes_something_away_is_found(database_url: str, change: str, said: list[str]) -> None:
    """And what only adds is not."""
    assert await _found(database_url, change) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "ALTER TABLE parcel ADD COLUMN color TEXT NOT NULL",
            ["parcel.color is new and has to be given: give it a default, or let it be null"],
        ),
        ("ALTER TABLE parcel ALTER COLUMN label SET NOT NULL", ["parcel.label could be null and must not be any more"]),
        ("ALTER TABLE parcel ALTER COLUMN weight DROP DEFAULT", ["parcel.weight has lost its default"]),
        ("ALTER TABLE parcel ALTER COLUMN weight TYPE BIGINT", ["parcel.weight was INTEGER and is BIGINT"]),
        ("ALTER TABLE parcel ADD CHECK (weight > 0)", ["parcel has a new rule: check weight > 0"]),
    ],
)
async def test_what_only_postgresql_can_change_is_found_there(postgres_url: str, change: str, said: list[str]) -> None:
    """SQLite's tables are made anew for it, which the test above would see."""
    assert await _found(postgres_url, change) == said


async def _found(url: str, change: str) -> list[str]:
    database = Database(url)

    def act(connection: Connection) -> list[str]:
        connection.execute(text(BEFORE))
        before = snapshot(connection)
        connection.execute(text(change))
        return broken(before, snapshot(connection))

    try:
        async with database.transaction() as connection:
            return await connection.run_sync(act)
    finally:
        await database.close()
