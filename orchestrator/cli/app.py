"""amends: run the orchestrator, look at sagas, start one by hand.

Data goes to stdout, logs and complaints to stderr. Exit codes: 0 fine, 1 not found or not possible, 2 usage,
69 a dependency is unavailable, 78 bad configuration.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from contracts.registry import InvalidMessage
from messaging.clock import SystemClock
from messaging.commandline import describe, run_migrations, without_password
from messaging.database import Database, is_transient
from messaging.outbox import INFO, Emitting, emit
from messaging.process import EX_CONFIG, EX_UNAVAILABLE, bus_of, load
from messaging.process import main as run_process
from messaging.service import Service
from messaging.settings import MEMORY
from orchestrator import catalog as catalogs
from orchestrator import queries
from orchestrator.assembly import MIGRATIONS, orchestrator
from orchestrator.catalog import Catalog
from orchestrator.cli import pictures, timeline
from orchestrator.engine import SOURCE
from orchestrator.saga.state import Status, saga_id
from orchestrator.saga.steps import InvalidSaga
from orchestrator.settings import OrchestratorSettings, RelaySettings

T = TypeVar("T")

app = typer.Typer(help="Sagas that make amends.", no_args_is_help=True, rich_markup_mode=None)
config = typer.Typer(help="The configuration.", no_args_is_help=True)
app.add_typer(config, name="config")


class Output(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table for people, json for programs.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    app(args=None if arguments is None else list(arguments), prog_name="amends")


@app.command()
def migrate() -> None:
    """Bring the orchestrator's tables to head; safe to run again.

    Example: DATABASE_URL=postgresql://amends@localhost/amends amends migrate
    """
    run_migrations(load(OrchestratorSettings), [MIGRATIONS])


@app.command()
def run() -> None:
    """Run the orchestrator until SIGTERM or Ctrl-C.

    Example: AMENDS_SAGAS=shop.sagas.checkout,shop.sagas.refund amends run
    """
    settings = load(OrchestratorSettings)
    found = _catalog(settings)
    raise typer.Exit(run_process(settings, SOURCE, lambda: [orchestrator(settings, found, bus_of(settings, SOURCE))]))


@app.command()
def relay() -> None:
    """Run a relay alone, for an application that only emits: its outbox to the broker.

    DATABASE_URL is the application's own database; `python -m messaging migrate` makes the tables there.

    Example: DATABASE_URL=postgresql://shop@localhost/shop amends relay
    """
    settings = load(RelaySettings)
    if not settings.database_url.get_secret_value():
        _fail("a relay needs the application's database: set DATABASE_URL to it", EX_CONFIG)
    if settings.amqp_url.get_secret_value() == MEMORY:
        _fail("a relay needs a broker: set AMQP_URL=amqp://user:password@host:5672/", EX_CONFIG)
    raise typer.Exit(
        run_process(settings, "relay", lambda: [Service(settings, bus_of(settings, "relay"), name="relay")])
    )


@app.command("list")
def list_sagas(
    *,
    saga: Annotated[str | None, typer.Option(help="Only this saga.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only this status.")] = None,
    key: Annotated[str | None, typer.Option(help="Only this key (the order's id, say).")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what moved since then: 90s, 15m, 2h, 3d, or a moment.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the latest first.")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List saga instances, those that moved last first.

    Example: amends list --status stuck --since 1h
    """
    settings = load(OrchestratorSettings)
    after = _moment(since) if since else None

    async def look(database: Database) -> tuple[list[queries.Listed], dict[tuple[str, str], int]]:
        async with database.reading() as connection:
            found = await queries.listing(
                connection, name=saga, status=status.value if status else None, key=key, since=after, limit=limit
            )
            return found, await queries.counts(connection)

    found, totals = _with_database(settings, look)
    if output is Output.JSON:
        typer.echo(json.dumps([pictures.listed_as_json(each) for each in found], indent=2))
    else:
        pictures.listing(found, totals, _screen())


@app.command()
def show(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="A saga's id, the beginning of it, or its key.")],
    *,
    data: Annotated[bool, typer.Option("--data", help="What every input and command carried, too.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one saga: where it is, its steps, and its history as a timeline.

    Example: amends show 3fa8
    """
    settings = load(OrchestratorSettings)

    async def look(database: Database) -> timeline.Story:
        async with database.reading() as connection:
            row = await queries.find(connection, wanted)
            return timeline.story(
                row,
                await queries.transitions(connection, row.id),
                await queries.parked_for(connection, row.id),
            )

    try:
        story = _with_database(settings, look)
    except queries.NoSuchSaga as error:
        _fail(str(error), 1)
    if output is Output.JSON:
        typer.echo(json.dumps(story.as_json(), indent=2))
    else:
        pictures.story(story, _screen(), with_data=data)


@app.command()
def start(
    saga: Annotated[str, typer.Argument(help="The saga's name.")],
    event: Annotated[str, typer.Argument(metavar="JSON|@FILE|-", help="The data of its start event.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show; publish nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Start a saga by hand: publish its start event through the outbox.

    The same key never starts a second instance.

    Example: amends start fulfill_order @order.json
    """
    settings = load(OrchestratorSettings)
    found = _catalog(settings)
    definition = found.newest(saga)
    if definition is None:
        _fail(f"there is no saga {saga!r}; AMENDS_SAGAS loads {', '.join(found.names())}", 1)
    starting = definition.starts_on
    try:
        message = found.registry.parse(starting.event.wire_type, starting.event.wire_version, _json(event))
        if not isinstance(message, starting.event):
            raise InvalidMessage(f"{starting.event.wire_type} became {type(message).__name__}")
        key = str(starting.key(message))
    except InvalidMessage as error:
        _fail(f"the start event does not fit its contract: {error}", 1)
    identity = saga_id(saga, key)
    words = f"publish {starting.event.wire_type} (key {key}), which starts {saga} {identity}"
    if dry_run:
        typer.echo(f"would {words}")
        return
    if not yes and not typer.confirm(f"{words}?"):
        raise typer.Exit(1)

    async def publish(database: Database) -> None:
        emitting = Emitting(source=starting.event.wire_type.partition(".")[0])
        async with database.session(**{INFO: emitting}) as session:
            emit(session, message)

    _with_database(settings, publish)
    typer.echo(str(identity))
    typer.echo("in the outbox; it leaves with the running orchestrator's relay", err=True)


@config.command("show")
def show_configuration() -> None:
    """Show every setting: its variable, what it is now, what it is for. No secrets."""
    for line in describe(load(OrchestratorSettings)):
        typer.echo(line)


def _catalog(settings: OrchestratorSettings) -> Catalog:
    # A console script does not have the working directory on its path, where a team's modules lie.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return catalogs.load(settings.sagas)
    except InvalidSaga as error:
        _fail(f"invalid saga: {error}", EX_CONFIG)


def _with_database(settings: OrchestratorSettings, act: Callable[[Database], Awaitable[T]]) -> T:
    shown = without_password(settings.database)
    if settings.database.startswith("sqlite:///") and not Path(settings.database[10:]).exists():
        _fail(f"{shown} does not exist; set DATABASE_URL, or run `amends migrate` to make it", EX_UNAVAILABLE)

    async def opened() -> T:
        database = Database(settings.database)
        try:
            return await act(database)
        finally:
            await database.close()

    try:
        return asyncio.run(opened())
    except (DBAPIError, OSError) as error:
        cause = str(error).partition("\n")[0]
        if isinstance(error, DBAPIError) and not is_transient(error):
            _fail(f"{shown} has not our tables ({cause}); run `amends migrate` first", EX_CONFIG)
        _fail(f"{shown} does not answer ({cause}); start it, or set DATABASE_URL", EX_UNAVAILABLE)


def _json(text: str) -> Any:
    try:
        content = sys.stdin.read() if text == "-" else Path(text[1:]).read_text() if text.startswith("@") else text
        return json.loads(content)
    except OSError as error:
        _fail(f"{text[1:]} cannot be read: {error.strerror}", 2)
    except ValueError as error:
        _fail(f"that is no JSON: {error}", 2)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _moment(text: str) -> datetime:
    if text[-1:] in _UNITS and text[:-1].isdigit():
        return SystemClock().now() - timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        _fail(f"--since {text!r}: write 90s, 15m, 2h, 3d, or a moment like 2026-01-31T12:00:00+00:00", 2)
    return moment if moment.tzinfo is not None else moment.astimezone()


def _screen() -> Console:
    """The terminal; a file or a pipe is as wide as it has to be."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=250)


def _fail(words: str, code: int) -> NoReturn:
    typer.echo(f"amends: {words}", err=True)
    raise typer.Exit(code)
