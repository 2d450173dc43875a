"""The `prune` command that every service has, and what the orchestrator's shares with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from messaging import pruning
from messaging.archive import Archive, ArchiveFailed
from messaging.clock import SystemClock
from messaging.commandline import counted, span
from messaging.database import Database
from messaging.pruning import Cutoff, Prunable
from messaging.reaching import Output, OutputOption, YesOption, fail, reach
from messaging.settings import ServiceSettings

T = TypeVar("T")

OlderThanOption = Annotated[
    str, typer.Option("--older-than", metavar="AGE", help="What is older may go: 12h, 30d. There is no default.")
]
ArchiveOption = Annotated[
    Path | None,
    typer.Option("--archive", metavar="DIR", help="Write what is removed there first, but for inbox entries."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Count and show; remove nothing.")]
UndecidedOption = Annotated[
    bool, typer.Option("--undecided", help="Dead letters too that are neither handled nor discarded.")
]


def prune_command(settings_of: Callable[[], ServiceSettings], program: str) -> Callable[..., None]:
    """The command for a service with these settings; `program` is how it is started."""

    def prune(
        *,
        older_than: OlderThanOption,
        archive: ArchiveOption = None,
        undecided: UndecidedOption = False,
        dry_run: DryRunOption = False,
        yes: YesOption = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Remove old inbox entries and discarded dead letters, in small batches, while the service runs.

        Inbox entries are kept for 7 days at least: they make repeated messages harmless. Dead letters that are open or
        were sent again stay, unless --undecided says otherwise: whether their sagas have ended, a service cannot know.

        Example: python -m messaging prune --older-than 90d --archive /var/backups/amends --yes
        """
        settings, now = settings_of(), SystemClock().now()
        cut = cutoff_of(older_than, now, program, undecided=undecided)
        found, lying = reach(settings, lambda database: _count(database, cut), program=program)
        if not undecided:
            warn_of_undecided(lying, program)
        kept = Archive(archive, settings.service, now) if archive is not None else None
        if found == Prunable(0, 0) or dry_run:
            tell(_would(found), found, output)
            return
        confirm(f"remove {_words(found)} from {settings.service}'s database", yes=yes)

        async def act(database: Database) -> Prunable:
            with progress(found.inbox + found.dead_letters) as removed:
                return await pruning.prune(database, cut, kept, removed=removed)

        done = pruned(lambda: reach(settings, act, program=program), program)
        tell(f"removed {_words(done)}{archived_in(kept)}", done, output)

    return prune


async def _count(database: Database, cut: Cutoff) -> tuple[Prunable, int]:
    async with database.reading() as connection:
        return await pruning.prunable(connection, cut), await pruning.undecided(connection, cut)


def _would(found: Prunable) -> str:
    return "nothing is that old" if found == Prunable(0, 0) else f"would remove {_words(found)}"


def _words(found: Prunable) -> str:
    return f"{counted(found.inbox, 'inbox entry', 'inbox entries')} and {counted(found.dead_letters, 'dead letter')}"


# -- what the orchestrator's command shares ------------------------------------------------------------------


def cutoff_of(older_than: str, now: datetime, program: str, *, undecided: bool = False) -> Cutoff:
    """`--older-than` as moments; ends the command with 2."""
    age = span(older_than)
    if age is None:
        fail(f"--older-than {older_than!r}: write 12h or 30d", 2, program=program)
    try:
        return pruning.cutoff(age, now, undecided=undecided)
    except OverflowError:
        fail(f"--older-than {older_than!r} is before any calendar; write 12h or 30d", 2, program=program)


def warn_of_undecided(letters: int, program: str) -> None:
    """Say on stderr what stays though it is old, and how to mend that."""
    if letters:
        typer.echo(
            f"{program}: undecided dead letters that old stay ({letters}); `amends dead-letters redrive` or `discard` "
            "decides about them, --undecided removes them",
            err=True,
        )


def confirm(words: str, *, yes: bool) -> None:
    """Ask, unless that was answered before; ends the command with 1 where it is not wanted."""
    if not yes and not typer.confirm(f"{words}?", err=True):
        raise typer.Exit(1)


@contextmanager
def progress(total: int, doing: str = "removing") -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr, nothing elsewhere; what is yielded is told of each batch."""
    # Here, because every start of a service loads this module.
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(doing, total=total)

        def advance(count: int) -> None:
            bar.update(task, advance=count)

        yield advance


def pruned(act: Callable[[], T], program: str) -> T:
    """What `act` returns; ends the command with 1 where the archive cannot be written."""
    try:
        return act()
    except ArchiveFailed as error:
        fail(f"{error}; nothing was removed that is not archived", 1, program=program)


def tell(words: str, found: object, output: Output) -> None:
    """The outcome: a sentence, or the counts as JSON."""
    typer.echo(json.dumps(asdict(found), indent=2, default=str) if output is Output.JSON else words)  # type: ignore[call-overload]


def archived_in(kept: Archive | None) -> str:
    """Where it is archived, if anything was."""
    return "" if kept is None or kept.path is None else f"; archived in {kept.path}"
