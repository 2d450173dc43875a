"""The command that removes what is old: ended sagas, and what every service's `prune` removes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer

from messaging.archive import Archive
from messaging.clock import SystemClock
from messaging.commandline import counted
from messaging.database import Database
from messaging.process import load
from messaging.prune_command import (
    ArchiveOption,
    DryRunOption,
    OlderThanOption,
    UndecidedOption,
    archived_in,
    confirm,
    cutoff_of,
    progress,
    pruned,
    tell,
    warn_of_undecided,
)
from orchestrator import pruning
from orchestrator.cli.opening import PROGRAM, Output, OutputOption, with_database
from orchestrator.cli.options import YesOption
from orchestrator.pruning import Prunable, Wanted
from orchestrator.settings import OrchestratorSettings
from orchestrator.times import clock


@dataclass(frozen=True, slots=True)
class _Found:
    prunable: Prunable
    oldest_under_way: datetime | None
    undecided: int


def prune(
    *,
    older_than: OlderThanOption,
    saga: Annotated[
        str | None, typer.Option(help="Only instances of this saga; inbox and dead letters then stay.")
    ] = None,
    archive: ArchiveOption = None,
    undecided: UndecidedOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove sagas that ended long ago, and other old rows.

    With the sagas goes their history; the rest are inbox entries, dead letters that were handled or discarded, and
    definitions nobody needs. In small batches, while the orchestrator runs; a saga that has not ended is never touched,
    nor is, also with --undecided, an undecided dead letter of it. An archive is written before anything is deleted, and
    holds whole histories. Inbox entries are kept for 7 days at least.

    Example: amends prune --older-than 30d --archive /var/backups/amends --dry-run
    """
    settings, now = load(OrchestratorSettings), SystemClock().now()
    wanted = Wanted(cutoff_of(older_than, now, PROGRAM, undecided=undecided), saga)

    async def look(database: Database) -> _Found:
        async with database.reading() as connection:
            return _Found(
                await pruning.prunable(connection, wanted),
                await pruning.oldest_under_way(connection),
                await pruning.undecided(connection, wanted),
            )

    found = with_database(settings, look)
    if found.oldest_under_way is not None and found.oldest_under_way < wanted.cutoff.inbox_before:
        typer.echo(
            f"amends: a saga from {clock(found.oldest_under_way)} has not ended; a participant's inbox must keep what "
            "came since then",
            err=True,
        )
    if not undecided:
        warn_of_undecided(found.undecided, PROGRAM)
    kept = Archive(archive, settings.service, now) if archive is not None else None
    if dry_run or _nothing(found.prunable):
        tell(_would(found.prunable), found.prunable, output)
        return
    confirm(f"remove {_words(found.prunable)}", yes=yes)

    async def act(database: Database) -> Prunable:
        counted = found.prunable
        with progress(_rows(counted)) as removed:
            return await pruning.prune(database, wanted, kept, removed=removed)

    done = pruned(lambda: with_database(settings, act), PROGRAM)
    tell(f"removed {_words(done)}{archived_in(kept)}", done, output)


def _nothing(found: Prunable) -> bool:
    return not (_rows(found) or found.definitions)


def _rows(found: Prunable) -> int:
    return found.instances + found.inbox + found.dead_letters + found.collected_letters


def _would(found: Prunable) -> str:
    return "nothing is that old" if _nothing(found) else f"would remove {_words(found)}"


def _words(found: Prunable) -> str:
    words = (
        f"{counted(found.instances, 'saga')} with {counted(found.transitions, 'transition')}, "
        f"{counted(found.inbox, 'inbox entry', 'inbox entries')}, "
        f"{counted(found.dead_letters, 'dead letter')} of its own, {found.collected_letters} collected"
    )
    return f"{words}, the definitions {', '.join(found.definitions)}" if found.definitions else words
