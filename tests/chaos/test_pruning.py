"""`amends prune` killed with -9 while it removes: nothing is lost, and running it again finishes."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import func, insert, select, text

from messaging import migrate
from messaging.archive import TornArchive
from messaging.database import Database
from orchestrator.archive import recorded_in
from orchestrator.assembly import MIGRATIONS
from orchestrator.schema import saga, saga_history
from tests.acceptance.programs import AMENDS, finished

COUNT = 3_000


async def _ended_long_ago(database: Database) -> None:
    await migrate.upgrade(database, [migrate.MESSAGING, MIGRATIONS])
    then = datetime.now(UTC) - timedelta(days=40)
    row = {
        "name": "work",
        "version": 1,
        "status": "completed",
        "step": "",
        "reason": "",
        "data": "{}",
        "progress": "{}",
        "revision": 1,
        "started_at": then,
        "updated_at": then,
    }
    line = {"seq": 1, "at": then, "input": "{}", "facts": "[]", "commands": "[]"}
    ids = [UUID(int=number) for number in range(1, COUNT + 1)]
    async with database.transaction() as connection:
        await connection.execute(insert(saga), [row | {"id": each, "key": str(each.int)} for each in ids])
        await connection.execute(insert(saga_history), [line | {"saga_id": each} for each in ids])


async def _at_rest(database: Database) -> None:
    """Wait until the server has ended what the killed one had asked of it last; SQLite has no server."""
    busy = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' "
        "AND pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(30):
        while database.dialect == "postgresql":
            async with database.reading() as connection:
                if (await connection.execute(busy)).scalar_one() == 0:
                    return
            await asyncio.sleep(0.02)


async def _left(database: Database) -> tuple[set[int], int]:
    await _at_rest(database)
    async with database.snapshot() as connection:
        ids = {each.int for each in (await connection.execute(select(saga.c.id))).scalars()}
        return ids, int((await connection.execute(select(func.count()).select_from(saga_history))).scalar_one())


def _archived(directory: Path) -> set[int]:
    found: set[int] = set()
    for path in sorted(directory.glob("*.jsonl.gz")):
        with suppress(TornArchive):  # what a kill has torn off is still in the database
            found.update(each.id.int for each in recorded_in(path))
    return found


KILLED = """
import os, signal, sys, threading
after = float(sys.argv.pop(1))
opened = []
def hear(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".gz"):
        opened.append(arguments)
        if len(opened) == 3:
            threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
sys.addaudithook(hear)
from orchestrator.cli import script
script()
"""
"""The command, killed so many seconds after it has opened its archive for the third of thirty times.

By itself: whoever watches it from outside may find it at its end on a machine that is busy.
"""


def _killed(words: tuple[str, ...], after: float, database_url: str, folder: Path) -> None:
    """Run it until it is killed."""
    ended = finished((sys.executable, "-c", KILLED, str(after), *words), folder, DATABASE_URL=database_url)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


async def test_pruning_that_is_killed_loses_nothing_and_is_finished_by_the_next_run(
    database_url: str, tmp_path: Path
) -> None:
    """After each of three kills every saga is whole in the database or in an archive; at last all are archived."""
    database = Database(database_url)
    await _ended_long_ago(database)
    kept = tmp_path / "kept"
    words = ("prune", "--older-than", "30d", "--archive", str(kept), "--yes")
    everything = set(range(1, COUNT + 1))
    for after in (0.0, 0.005, 0.02):
        _killed(words, after, database_url, tmp_path)
        left, transitions = await _left(database)
        assert transitions == len(left)
        assert left | _archived(kept) == everything
    assert left, "it was killed too late to be of any use"
    ended = finished((*AMENDS, *words), tmp_path, DATABASE_URL=database_url)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"removed {len(left)} sagas with {len(left)} transitions, 0 inbox entries")
    assert await _left(database) == (set(), 0)
    assert _archived(kept) == everything
    await database.close()
