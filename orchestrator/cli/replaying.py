"""The command that replays histories: one, a bundle's, or all. Publishes nothing, writes nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from messaging.archive import TornArchive, UnreadableArchive
from messaging.commandline import counted, without_password
from messaging.database import Database
from messaging.process import EX_SOFTWARE, EX_UNAVAILABLE, load
from orchestrator import queries
from orchestrator.archive import recorded_in
from orchestrator.cli import stepping, verdicts
from orchestrator.cli.bundled import archive_named, bundle_named
from orchestrator.cli.opening import Output, OutputOption, catalog_of, fail, moment, screen, warn, with_database
from orchestrator.cli.options import RecordedOrManyArgument
from orchestrator.cli.shards import holding
from orchestrator.replay.reading import recorded as read_recorded
from orchestrator.replay.recorded import Recorded
from orchestrator.replay.replaying import replay as replay_one
from orchestrator.replay.stopping import NothingToStop, stop_at
from orchestrator.replay.sweeping import DatabaseFailed, ProcessEnded, Selection, count, sweep
from orchestrator.replay.tally import Tally
from orchestrator.saga.state import Status
from orchestrator.settings import OrchestratorSettings


def replay(
    wanted: RecordedOrManyArgument = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every saga in the database.")] = False,
    saga: Annotated[str | None, typer.Option(help="With --all: only this saga.")] = None,
    status: Annotated[Status | None, typer.Option(help="With --all: only this status.")] = None,
    since: Annotated[
        str | None, typer.Option(help="With --all: only what moved since then: 90s, 15m, 2h, 3d, or a moment.")
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Go through it by hand, forward and back in time.")
    ] = False,
    pdb: Annotated[
        int | None,
        typer.Option("--pdb", min=1, metavar="SEQ", help="Stop in your own functions at this transition, in pdb."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Replay histories with the code of this checkout.

    Recorded inputs go through the definitions again, and every transition is compared. Publishes nothing and writes
    nothing. Exit codes: 0 the same, 1 something differs, or there is no such saga, 70 no verdict: one of the processes
    of --all was killed.

    Example: amends replay 3fa8
    Example: amends replay --all --saga fulfill_order --since 7d
    Example: amends replay /var/backups/amends/orchestrator-20260301T120000Z.jsonl.gz
    Example: amends replay 3fa8 --interactive
    Example: amends replay 3fa8 --pdb 3
    """
    if every == (wanted is not None):
        fail("name one saga (its id, its key or a bundle's file), or all of them: --all", 2)
    if not every and (saga or status or since):
        fail("--saga, --status and --since choose among --all", 2)
    if wanted is None and (interactive or pdb is not None):
        fail("--interactive and --pdb go through one saga: name it", 2)
    settings = load(OrchestratorSettings)
    archive = archive_named(wanted) if wanted is not None else None
    if archive is not None and not interactive and pdb is None:
        _archived(settings, archive, output)
    elif wanted is not None and interactive:
        stepping.step_through(recorded_of(settings, wanted), catalog_of(settings), screen())
    elif wanted is not None and pdb is not None:
        _stop(settings, wanted, pdb)
    elif wanted is not None:
        _one(settings, wanted, output)
    else:
        after = moment(since) if since else None
        _all(settings, Selection(saga, status.value if status else None, after), output)


def _one(settings: OrchestratorSettings, wanted: str, output: Output) -> None:
    catalog = catalog_of(settings)
    found = replay_one(recorded_of(settings, wanted), catalog)
    if output is Output.JSON:
        typer.echo(json.dumps(verdicts.as_json(found), indent=2))
    else:
        verdicts.verdict(found, screen())
    if found.difference is not None:
        raise typer.Exit(1)


def _stop(settings: OrchestratorSettings, wanted: str, seq: int) -> None:
    try:
        transition = stop_at(recorded_of(settings, wanted), catalog_of(settings), seq)
    except NothingToStop as error:
        fail(str(error), 1)
    if transition is not None:
        typer.echo(f"decided: {transition.verdict.value}, {counted(len(transition.facts), 'fact')}", err=True)


def recorded_of(settings: OrchestratorSettings, wanted: str) -> Recorded:
    """The instance with this id or key, or the one in this file; ends the command where there is none."""
    bundle = bundle_named(wanted)
    if bundle is not None:
        return bundle.recorded

    async def look(database: Database) -> Recorded:
        async with database.snapshot() as connection:
            return await read_recorded(connection, await queries.find(connection, wanted))

    try:
        return with_database(holding(settings, wanted), look)
    except queries.NoSuchSaga as error:
        fail(str(error), 1)


def _all(settings: OrchestratorSettings, selection: Selection, output: Output) -> None:
    catalog = catalog_of(settings)  # complains here, once, rather than in every process
    if selection.name is not None and selection.name not in catalog.names():
        fail(f"there is no saga {selection.name!r}; AMENDS_SAGAS loads {', '.join(catalog.names())}", 1)
    began = time.perf_counter()
    _tell(_swept(settings, selection), began, output)


def _archived(settings: OrchestratorSettings, path: Path, output: Output) -> None:
    catalog, tally, began = catalog_of(settings), Tally(), time.perf_counter()
    console, torn = Console(stderr=True), ""
    columns = (SpinnerColumn(), TextColumn("replaying {task.completed}"))
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            for recorded in bar.track(recorded_in(path)):
                tally.add(replay_one(recorded, catalog))
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}", 1)
    except TornArchive as error:
        torn = str(error)
    except UnreadableArchive as error:
        fail(str(error), 1)
    if torn:  # told first: whatever the replay comes to, the command ends with 1
        warn(f"{torn}; {counted(tally.instances, 'instance')} read")
    _tell(tally, began, output)
    if torn:
        raise typer.Exit(1)


def _tell(tally: Tally, began: float, output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps(verdicts.tally_as_json(tally), indent=2))
    else:
        verdicts.tally(tally, time.perf_counter() - began, screen())
    if tally.different:
        raise typer.Exit(1)


def _swept(settings: OrchestratorSettings, selection: Selection) -> Tally:
    instances = with_database(settings, lambda database: count(database, selection))
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("replaying", total=instances)
            return sweep(
                settings.database,
                settings.sagas,
                selection,
                instances=instances,
                progress=lambda more: bar.advance(task, more),
            )
    except DatabaseFailed as error:
        shown = without_password(settings.database)
        fail(f"{shown} did not answer to the end ({error}); start it again and repeat", EX_UNAVAILABLE)
    except ProcessEnded:
        fail(
            "a process that replays ended before its time (killed for want of memory, perhaps), so there is no "
            "verdict; repeat it with less (--saga, --since), or in one process: `taskset -c 0 amends replay --all`",
            EX_SOFTWARE,
        )
