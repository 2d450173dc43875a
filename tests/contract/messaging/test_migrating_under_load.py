"""A migration beside processes that run: who reads for long holds the migration up, and nobody else."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from messaging import migrate
from messaging.database import Database
from orchestrator.assembly import MIGRATIONS
from orchestrator.cli.app import app

LOOK = text("SELECT count(*) FROM saga")


async def test_a_migration_that_waits_for_a_reader_keeps_nobody_waiting(postgres_url: str) -> None:
    """It lets go after a while, so that what came meanwhile goes on, and tries again until the reader has ended."""
    database = Database(postgres_url)
    try:
        await migrate.upgrade(database, [MIGRATIONS], "0006")
        async with database.reading() as reader:
            await reader.execute(LOOK)
            migrating = asyncio.create_task(migrate.upgrade(database, [MIGRATIONS]))
            await asyncio.sleep(0.5)
            for _ in range(3):
                async with asyncio.timeout(migrate.LOCK_SECONDS + 5), database.reading() as other:
                    await other.execute(LOOK)
                await asyncio.sleep(0.5)
            assert not migrating.done()
        await migrating
        assert await migrate.pending(database, [MIGRATIONS]) == {}
    finally:
        await database.close()


async def test_a_migration_that_never_gets_its_turn_says_why(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 69, as it may be run again: somebody reads, and the database is not away."""
    database = Database(postgres_url)
    monkeypatch.setattr(migrate, "PATIENCE_SECONDS", 0.0)
    try:
        await migrate.upgrade(database, [migrate.MESSAGING])
        await migrate.upgrade(database, [MIGRATIONS], "0006")
        async with database.reading() as reader:
            await reader.execute(LOOK)
            ended = await asyncio.to_thread(CliRunner().invoke, app, ["migrate"], env={"DATABASE_URL": postgres_url})
    finally:
        await database.close()
    assert (ended.exit_code, ended.stdout) == (69, "")
    assert "a transaction that runs for long holds the tables (canceling statement due to lock timeout)" in ended.stderr
    assert "start it" not in ended.stderr
