"""Runs on a real PostgreSQL: a database whose schemas are the services' databases, emptied for each run."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import psycopg
from psycopg import sql
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url

from messaging.database import COMMAND_SECONDS, CONNECT_SECONDS, Database
from messaging.service import CONNECTIONS
from messaging.transaction import KeptConnection
from tests.simulation.laying import first_rows, make_tables
from tests.simulation.life import TWIN, Life
from tests.simulation.lines import DEADLOCK, Lines, ServedLoop
from tests.simulation.stores import Sky, Store
from tests.simulation.virtual import VirtualLoop
from tests.simulation.wiring import MIGRATIONS

_TABLES = """
SELECT quote_ident(schemaname) || '.' || quote_ident(relname) FROM pg_stat_user_tables
WHERE schemaname = ANY(%s) AND relname NOT LIKE 'alembic%%'
"""
_BLOCKED = "SELECT pid, pg_blocking_pids(pid) FROM unnest(%s::int[]) AS pid"
_END = "SELECT pg_terminate_backend(%s, 10000)"


class ServerStore(Store):
    """One service's schema."""

    answered_rows_stay = True

    def __init__(self, sky: Sky, name: str, looking: psycopg.Connection[Any]) -> None:
        super().__init__(sky)
        self.lines: Lines
        self._name = name
        self._looking = looking

    def go_away(self) -> None:
        super().go_away()
        self.lines.hang_up(self._name, all_of_them=True)

    def hang_up(self, *, all_of_them: bool) -> None:
        self.lines.hang_up(self._name, all_of_them=all_of_them)

    def ask(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        cursor = self._looking.execute(statement.encode())
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        return names, [tuple(map(_plain, row)) for row in cursor.fetchall()]


class ServedDatabase(Database):
    """A service's database as it runs on PostgreSQL, for one life after another."""

    def __init__(self, url: URL, schema: str) -> None:
        super().__init__(url, pool_size=CONNECTIONS + 2, by_index=True, async_creator=partial(_open, url, schema))
        # As it is shown: the same for every process that runs seeds.
        self.url = make_url("postgresql+asyncpg://simulated")
        self._kept_now = self.kept

        @event.listens_for(self.engine.sync_engine, "invalidate")
        def lost(_connection: Any, _record: Any, error: BaseException | None) -> None:
            # Whoever was made with the engine is told; that of the present life is another.
            if error is not None:
                self._kept_now.doubt()

    def anew(self) -> ServedDatabase:
        """The same with an empty pool: whatever an earlier life held is gone with it."""
        made = copy(self)
        made.kept = self._kept_now = KeptConnection()
        self.engine.sync_engine.dispose(close=False)
        return made


class Server:
    """A database of this process's own on a server, dropped at the end."""

    several = True

    def __init__(self, url: str) -> None:
        self._maintenance = make_url(url).set(drivername="postgresql")
        self._url = self._maintenance.set(database=f"amends_simulation_{uuid4().hex}")
        name = sql.Identifier(str(self._url.database))
        with _connect(self._maintenance) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
            with suppress(InsufficientPrivilege):
                # Whoever is no superuser waits a second for each deadlock.
                connection.execute(
                    sql.SQL("ALTER DATABASE {} SET deadlock_timeout = {}").format(name, sql.Literal(f"{DEADLOCK}s"))
                )
        self._control = _connect(self._url)
        for service in MIGRATIONS:
            self._control.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(service)))
            asyncio.run(_make(self._url, service))
        found = self._control.execute(_TABLES, (list(MIGRATIONS),)).fetchall()
        self._empty = f"TRUNCATE {', '.join(table for (table,) in found)} RESTART IDENTITY".encode()
        self._looking = {service: _connect(self._url, service) for service in MIGRATIONS}
        self._databases = {name: self._made(name) for service in MIGRATIONS for name in (service, service + TWIN)}
        self._lines: Lines | None = None
        self._loop: ServedLoop | None = None

    def reach(self) -> socket.socket:
        """A connection to it, to be spoken on."""
        return socket.create_connection((str(self._url.host), self._url.port or 5432))

    def blocked(self, backends: Sequence[int]) -> dict[int, list[int]]:
        """Which of these wait for a lock, and for whom."""
        return dict(self._control.execute(_BLOCKED, (list(backends),)).fetchall())

    def finish(self, backend: int) -> None:
        """End a backend, and return when it is gone."""
        self._control.execute(_END, (backend,))

    # -- a run -----------------------------------------------------------------------------------------------

    @property
    def seen(self) -> Mapping[str, int]:
        """How often what was seen on the wires of this run."""
        return {} if self._lines is None else dict(self._lines.tally)

    def loop(self) -> VirtualLoop:
        """The loop of a run that begins."""
        self._loop = ServedLoop()
        return self._loop

    def lay_out(self, sky: Sky, start: datetime) -> Mapping[str, Store]:
        """Empty tables with a run's first rows in them."""
        assert self._loop is not None
        self._forget()
        self._control.execute(self._empty)
        plan = sky.plan
        stores = {service: ServerStore(sky, service, self._looking[service]) for service in plan.services}
        for service in plan.services:
            with self._looking[service].cursor() as cursor:
                for rows in first_rows(service, plan, start):
                    cursor.executemany(rows.insert("%s").encode(), rows.values)
        chance = random.Random(f"server {plan.seed}")
        self._lines = self._loop.lines = Lines(self._loop, self, stores, chance, sky)
        for store in stores.values():
            store.lines = self._lines
        return stores

    def database(self, name: str, _life: Life) -> Database:
        """The database of this life of a service."""
        return self._databases[name].anew()

    def _made(self, name: str) -> ServedDatabase:
        made = ServedDatabase(self._url, name.rstrip(TWIN))
        # The first connection is asked what kind of server that is, and no other.
        asyncio.run(_visit(made))
        return made

    def _forget(self) -> None:
        """End whoever is left of the run before."""
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def close(self) -> None:
        """Drop the database."""
        self._forget()
        for connection in (self._control, *self._looking.values()):
            connection.close()
        self.drop()

    def drop(self) -> None:
        """Drop the database, whoever is connected to it."""
        with _connect(self._maintenance) as connection:
            name = sql.Identifier(str(self._url.database))
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


def _connect(url: URL, schema: str = "public") -> psycopg.Connection[Any]:
    options = f"-csearch_path={schema} -cTimeZone=UTC"
    return psycopg.connect(url.render_as_string(hide_password=False), autocommit=True, options=options)


async def _open(url: URL, schema: str) -> Any:
    return await asyncpg.connect(
        host=url.host,
        port=url.port,
        user=url.username,
        password=url.password,
        database=url.database,
        ssl=False,
        timeout=CONNECT_SECONDS,
        command_timeout=COMMAND_SECONDS,
        server_settings={"search_path": schema, "TimeZone": "UTC"},
    )


async def _make(url: URL, service: str) -> None:
    database = Database(url, async_creator=partial(_open, url, service))
    await make_tables(database, service)
    await database.close()


async def _visit(database: Database) -> None:
    await database.ping()
    await database.close()


def _plain(value: Any) -> Any:
    """A value as SQLite has it."""
    if isinstance(value, UUID):
        return value.hex
    return value
