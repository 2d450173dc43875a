"""Runs on SQLite: files that are copied from templates, in memory where the machine has a place for that."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from messaging.database import Database
from tests.simulation.driver import Engines
from tests.simulation.laying import first_rows, make_tables
from tests.simulation.life import Life
from tests.simulation.stores import Sky, Store
from tests.simulation.virtual import VirtualLoop
from tests.simulation.wiring import MIGRATIONS


class FileStore(Store):
    """One service's file."""

    def __init__(self, sky: Sky, path: Path) -> None:
        super().__init__(sky)
        self.path = path
        self._looking = sqlite3.connect(path, isolation_level=None)

    def ask(self, statement: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        cursor = self._looking.execute(statement)
        return [column[0] for column in cursor.description], cursor.fetchall()

    def close(self) -> None:
        self._looking.close()


class Files:
    """The files of one run after another."""

    several = False

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="amends-simulation-", dir=_fast()))
        self._templates = self._directory / "templates"
        self._templates.mkdir()
        for service in MIGRATIONS:
            asyncio.run(_make_template(self._templates, service))
        self._engines = Engines()
        self._run = self._directory / "run"
        self._stores: Mapping[str, FileStore] = {}

    @property
    def seen(self) -> Mapping[str, int]:
        """Nobody stands in the way."""
        return {}

    def loop(self) -> VirtualLoop:
        """The loop of a run that begins: any will do."""
        return VirtualLoop()

    def lay_out(self, sky: Sky, start: datetime) -> Mapping[str, Store]:
        """The files of a run that begins; those of the one before are gone."""
        shutil.rmtree(self._run, ignore_errors=True)
        self._run.mkdir()
        for service in sky.plan.services:
            path = self._run / f"{service}.db"
            shutil.copyfile(self._templates / f"{service}.db", path)
            raw = sqlite3.connect(path)
            for rows in first_rows(service, sky.plan, start):
                raw.executemany(rows.insert("?"), rows.values)
            raw.commit()
            raw.close()
        self._stores = {service: FileStore(sky, self._run / f"{service}.db") for service in sky.plan.services}
        return self._stores

    def database(self, name: str, life: Life) -> Database:
        """The database of this life of a service."""
        store = self._stores[name]
        return self._engines.database(name, store.path, life, store)

    def close(self) -> None:
        """Remove every file."""
        shutil.rmtree(self._directory)

    def drop(self) -> None:
        """Remove every file that nobody else removes just now."""
        shutil.rmtree(self._directory, ignore_errors=True)


async def _make_template(directory: Path, service: str) -> None:
    database = Database(f"sqlite:///{directory / service}.db")
    await make_tables(database, service)
    await database.close()
    # One file, with nothing left beside it.
    raw = sqlite3.connect(directory / f"{service}.db")
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()


def _fast() -> str | None:
    # Thousands of small files that live for a tenth of a second: memory is the place for them, where there is one.
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() else None
