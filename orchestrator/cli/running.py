"""Commands that run something: the orchestrator, a relay, migrations, one saga by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from contracts.registry import InvalidMessage
from messaging.commandline import describe, described, run_migrations, warn_of_misspelled
from messaging.database import Database
from messaging.outbox import INFO, Emitting, emit
from messaging.process import EX_CONFIG, bus_of, load
from messaging.process import main as run_process
from messaging.service import Service
from messaging.settings import MEMORY
from orchestrator.assembly import MIGRATIONS, orchestrator
from orchestrator.cli.opening import Output, OutputOption, catalog_of, fail, json_given, with_database
from orchestrator.cli.options import YesOption
from orchestrator.cli.sealing import sealing_of, warn_of_plain
from orchestrator.instance import SOURCE
from orchestrator.saga.state import saga_id
from orchestrator.settings import OrchestratorSettings, RelaySettings

config = typer.Typer(
    help="The configuration.\n\nExample: amends config show", no_args_is_help=True, rich_markup_mode=None
)


def migrate() -> None:
    """Bring the orchestrator's tables to head.

    Safe to run again.

    Example: DATABASE_URL=postgresql://amends@localhost/amends amends migrate
    """
    for each in load(OrchestratorSettings).each_shard():
        run_migrations(each, [MIGRATIONS])


def run() -> None:
    """Run the orchestrator until SIGTERM or Ctrl-C.

    Example: AMENDS_SAGAS=shop.sagas.checkout,shop.sagas.refund amends run
    """
    settings = load(OrchestratorSettings)
    if settings.shards and settings.shard is None:
        fail(
            f"AMENDS_SHARD must say which of {len(settings.shards)} shards this is: 0 to {len(settings.shards) - 1}",
            EX_CONFIG,
        )
    found = catalog_of(settings)
    raise typer.Exit(run_process(settings, SOURCE, lambda: [orchestrator(settings, found, bus_of(settings, SOURCE))]))


def relay() -> None:
    """Run a relay alone, for an application that only emits.

    It takes what lies in the outbox to the broker. DATABASE_URL is the application's own database; `python -m messaging
    migrate` makes the tables there.

    Example: DATABASE_URL=postgresql://shop@localhost/shop amends relay
    """
    settings = load(RelaySettings)
    if not settings.database_url.get_secret_value():
        fail("a relay needs the application's database: set DATABASE_URL to it", EX_CONFIG)
    if settings.amqp_url.get_secret_value() == MEMORY:
        fail("a relay needs a broker: set AMQP_URL=amqp://user:password@host:5672/", EX_CONFIG)
    raise typer.Exit(
        run_process(settings, "relay", lambda: [Service(settings, bus_of(settings, "relay"), name="relay")])
    )


def start(
    saga: Annotated[str, typer.Argument(help="The saga's name.")],
    event: Annotated[str, typer.Argument(metavar="JSON|@FILE|-", help="The data of its start event.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show; publish nothing.")] = False,
    yes: YesOption = False,
) -> None:
    """Start a saga by hand.

    Publishes its start event through the outbox. The same key never starts a second instance.

    Example: amends start fulfill_order @order.json
    """
    settings = load(OrchestratorSettings)
    found = catalog_of(settings)
    definition = found.newest(saga)
    if definition is None:
        fail(f"there is no saga {saga!r}; AMENDS_SAGAS loads {', '.join(found.names())}", 1)
    starting = definition.starts_on
    try:
        message = found.registry.parse(starting.event.wire_type, starting.event.wire_version, json_given(event))
        if not isinstance(message, starting.event):
            raise InvalidMessage(f"{starting.event.wire_type} became {type(message).__name__}")
        key = str(starting.key(message))
    except InvalidMessage as error:
        fail(f"the start event does not fit its contract: {error}", 1)
    identity = saga_id(saga, key)
    words = f"publish {starting.event.wire_type} (key {key}), which starts {saga} {identity}"
    if dry_run:
        typer.echo(f"would {words}")
        return
    if not yes and not typer.confirm(f"{words}?", err=True):
        raise typer.Exit(1)

    async def publish(database: Database) -> None:
        async with sealing_of(settings) as sealing:
            emitting = Emitting(source=starting.event.wire_type.partition(".")[0], sealing=sealing)
            async with database.session(**{INFO: emitting}) as session:
                emit(session, message)

    warn_of_plain(settings, message)
    # From whichever shard: it is handed on to its own.
    with_database(settings.each_shard()[0], publish)
    typer.echo(str(identity))
    typer.echo("in the outbox; it leaves with the running orchestrator's relay", err=True)


@config.command("show")
def show_configuration(*, output: OutputOption = Output.TABLE) -> None:
    """Show every setting: its variable, what it is now, what it is for.

    No secrets.

    Example: amends config show
    """
    settings = load(OrchestratorSettings)
    warn_of_misspelled(OrchestratorSettings)
    if output is Output.JSON:
        typer.echo(json.dumps([asdict(each) for each in described(settings)], indent=2))
        return
    for line in describe(settings):
        typer.echo(line)
