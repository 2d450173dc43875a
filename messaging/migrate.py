"""Migrations: a history for the messaging tables, one for each service's own, in the service's one database.

They ship inside the packages (`messaging/migrations`, `services/order/migrations`, …), run on PostgreSQL and
SQLite, and each keeps its place in a version table of its own, so that they move independently. Alembic takes a tenth
of a second to load: only what migrates loads it, not every start that finds the tables at head.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Connection, MetaData, Table, column, inspect, select, text
from sqlalchemy.exc import DBAPIError

from messaging.database import Database, held_up, in_words, may_not, shown
from messaging.privileges import NotGranted, Roles, grant, left_out
from messaging.revisions import is_behind

if TYPE_CHECKING:
    from alembic.config import Config

MESSAGING = "messaging:migrations"

_LOCK = 0x616D656E6473  # "amends"; only one process migrates a database at a time

LOCK_SECONDS = 2
"""How long a migration waits for a table on PostgreSQL: whoever comes after it waits as long."""
PATIENCE_SECONDS = 300.0
"""How long it tries again, while transactions that run for long hold the tables."""
_PAUSE_SECONDS = 1.0


class MigrationsPending(Exception):
    """The database is not at the revision this code was written for."""


def version_table(location: str) -> str:
    """The table in which a history keeps its place: `alembic_version_` and the service's name."""
    return f"alembic_version_{location.partition(':')[0].rpartition('.')[2]}"


def _name(location: str) -> str:
    return location.partition(":")[0]


def run(metadata: MetaData, version_table: str) -> None:
    """What an `env.py` of ours calls: run this history over the connection that was handed in."""
    from alembic import context

    context.config.attributes["tables"] = metadata
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=version_table,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    context.run_migrations()


async def upgrade(
    database: Database, locations: Sequence[str], revision: str = "head", *, roles: Roles | None = None
) -> None:
    """Bring the database to `revision` of each history; does nothing where it is there already, or further.

    `roles` are then granted what they need on its tables, in the same transaction. Raises NoSuchRole. Beside processes
    that run it keeps nobody waiting for longer than LOCK_SECONDS and what it does itself.
    """
    moving = set(locations)
    if revision == "head":
        behind = await pending(database, locations)
        moving = {each for each in locations if _name(each) in behind}
        if not moving and not roles:
            return
    from alembic import command

    def act(config: Config, location: str) -> None:
        if location in moving:
            command.upgrade(config, revision)
        else:
            _look(config)

    await _each(database, [each for each in locations if roles or each in moving], act, roles)


async def downgrade(database: Database, locations: Sequence[str], revision: str = "base") -> None:
    """Take the database back to `revision` of each history, last history first."""
    from alembic import command

    await _each(database, tuple(reversed(locations)), lambda config, _: command.downgrade(config, revision))


async def pending(database: Database, locations: Sequence[str]) -> dict[str, str]:
    """The histories that are not at head, each with the revision the database has ("none" for a bare one).

    One that a later version has taken further than this code knows is none of them. Raises NotGranted.
    """
    user = database.url.username

    def compare(connection: Connection) -> dict[str, str]:
        behind = {}
        for location in locations:
            table = version_table(location)
            found: set[str] = set()
            if inspect(connection).has_table(table):
                found.update(connection.execute(select(column("version_num")).select_from(text(table))).scalars())
            if is_behind(found, location):
                behind[_name(location)] = ", ".join(found) or "none"
        # To a role that may not look into the schema all tables seem to be missing.
        if behind and database.dialect == "postgresql" and not connection.scalar(text("SELECT current_schema()")):
            raise NotGranted(shown(database.url), user, "no schema is open to it")
        return behind

    async with database.reading() as connection:
        try:
            return await connection.run_sync(compare)
        except DBAPIError as error:
            if not may_not(error):
                raise
            raise NotGranted(shown(database.url), user, in_words(error)) from error


async def _each(
    database: Database, locations: Sequence[str], act: Callable[[Config, str], None], roles: Roles | None = None
) -> None:
    def migrate(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        for location in locations:
            config = _config(location, connection)
            act(config, location)
            if roles:
                grant(connection, roles, config.attributes["tables"].tables.values(), [version_table(location)])

    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            async with database.transaction() as connection:
                await connection.run_sync(migrate)
        except DBAPIError as error:
            if not held_up(error) or time.monotonic() >= give_up:
                raise
        else:
            return
        # What has come meanwhile goes on.
        await asyncio.sleep(_PAUSE_SECONDS)


def _look(config: Config) -> None:
    """Run a history's entry without a migration, for the tables that it tells of: they may be further than we know."""
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(config)
    with EnvironmentContext(config, script, fn=lambda _revision, _context: []):
        script.run_env()


def _config(location: str, connection: Connection) -> Config:
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", location)
    config.set_main_option("path_separator", "os")
    return config


def migrate_now(database_url: str, locations: Sequence[str], roles: Roles | None = None) -> dict[str, list[str]]:
    """`upgrade` for callers without an event loop (a command line, a container's first step).

    Returns roles that an earlier run has granted something and this one has not: by role, tables it may not use.
    """

    async def act() -> dict[str, list[str]]:
        database = Database(database_url, command_seconds=None)
        try:
            await upgrade(database, locations, roles=roles)
            if database.dialect == "sqlite":
                return {}
            async with database.reading() as connection:
                return await connection.run_sync(lambda within: left_out(within, _tables(within, locations)))
        finally:
            await database.close()

    return asyncio.run(act())


def _tables(connection: Connection, locations: Sequence[str]) -> list[Table]:
    """All that these histories make."""
    found: list[Table] = []
    for location in locations:
        config = _config(location, connection)
        _look(config)
        found += config.attributes["tables"].tables.values()
    return found
