"""Commands and shards: which databases a command is about, and spreading sagas over more of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TypeVar

import typer

from messaging.commandline import counted
from messaging.database import Database
from messaging.process import EX_CONFIG, load
from orchestrator import queries, resharding
from orchestrator.cli.opening import Output, OutputOption, fail, with_database
from orchestrator.cli.options import DryRunOption, YesOption
from orchestrator.resharding import NotReady
from orchestrator.settings import OrchestratorSettings

T = TypeVar("T")


def across(settings: OrchestratorSettings, act: Callable[[Database], Awaitable[T]]) -> list[T]:
    """Do the same in every shard, one after the other, or in the one that AMENDS_SHARD names."""
    return [with_database(each, act) for each in settings.each_shard()]


def holding(settings: OrchestratorSettings, wanted: str) -> OrchestratorSettings:
    """The settings for the shard that holds this instance; ends the command with 1 where more than one does.

    Where none does, those for the first, so that the command itself says so.
    """
    shards = settings.each_shard()
    if len(shards) == 1:
        return shards[0]

    async def by_key(database: Database) -> bool | None:
        """Whether it is a whole key here, or else the beginning of an id; None where it is neither."""
        async with database.reading() as connection:
            try:
                return bool((await queries.find(connection, wanted)).key == wanted)
            except queries.Ambiguous as error:
                return error.by_key  # the command says which there are
            except queries.NoSuchSaga:
                return None

    held = [(each, with_database(each, by_key)) for each in shards]
    # As in one database: a whole key wins over ids that begin with the same characters.
    found = [each for each, how in held if how] or [each for each, how in held if how is not None]
    if len(found) > 1:
        numbers = ", ".join(str(each.shard) for each in found)
        fail(f"{wanted!r} fits sagas in more than one shard ({numbers}); give more of it, or set AMENDS_SHARD", 1)
    return found[0] if found else shards[0]


def collecting(settings: OrchestratorSettings) -> OrchestratorSettings:
    """The settings for the shard that collects everybody's dead letters, unless AMENDS_SHARD names another."""
    return settings.each_shard()[0]


def reshard(*, dry_run: DryRunOption = False, yes: YesOption = False, output: OutputOption = Output.TABLE) -> None:
    """Spread sagas over the databases of AMENDS_SHARDS.

    For the first time, or because databases were added at its end: what belongs to the new ones is moved there. End
    every orchestrator before. Safe to run again, also after it was cut short.

    Example: AMENDS_SHARDS=postgresql://amends@one/amends,postgresql://amends@two/amends amends reshard --dry-run
    """
    settings = load(OrchestratorSettings)
    if not settings.shards:
        fail("AMENDS_SHARDS names no databases; set it to all of them, those that are there already first", EX_CONFIG)
    if settings.shard is not None:
        fail("AMENDS_SHARD names one shard, and this is about all of them; unset it", 2)
    if not dry_run and not yes and not typer.confirm("Has every orchestrator ended?", err=True):
        raise typer.Exit(1)
    urls = [each.database for each in settings.each_shard()]

    async def spread(_first: Database) -> list[resharding.Moved]:
        databases = [Database(url) for url in urls]
        try:
            return await resharding.reshard(databases, dry_run=dry_run)
        finally:
            await asyncio.gather(*(each.close() for each in databases))

    try:
        # Each is reached first, so that one that is away or has no tables is told by its own name.
        across(settings, resharding.look)
        done = with_database(settings.each_shard()[0], spread)
    except NotReady as error:
        fail(str(error), 1)
    if output is Output.JSON:
        typer.echo(json.dumps([asdict(each) for each in done], indent=2))
        return
    for each in done:
        would = "would move" if dry_run else "moved"
        typer.echo(f"shard {each.source}: {would} {counted(each.instances, 'instance')} to shard {each.target}")
    if not done:
        typer.echo("every instance lies where it belongs")
