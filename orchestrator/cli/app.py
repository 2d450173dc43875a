"""amends: run the orchestrator, look at sagas, ask why they wait, decide about them, start one by hand.

Data goes to stdout, logs and complaints to stderr. Exit codes: 0 fine, 1 not found or not possible, 2 usage,
69 a dependency is unavailable, 78 bad configuration.
"""

from __future__ import annotations

from collections.abc import Sequence

import typer

from orchestrator.cli import (
    dead_letters,
    exporting,
    forking,
    listing,
    looking,
    preflight,
    pruning,
    repairing,
    replaying,
    running,
    statistics,
    waiting,
    watching,
    why,
)

app = typer.Typer(help="Sagas that make amends.", no_args_is_help=True, rich_markup_mode=None)
config = typer.Typer(help="The configuration.", no_args_is_help=True)
app.add_typer(config, name="config")
app.add_typer(dead_letters.app, name="dead-letters")

app.command()(running.migrate)
app.command()(running.run)
app.command()(running.relay)
app.command()(running.start)
app.command()(pruning.prune)
config.command("show")(running.show_configuration)

app.command("list")(listing.list_sagas)
app.command()(listing.reindex)
app.add_typer(waiting.parked, name="parked")
app.add_typer(waiting.outbox, name="outbox")
app.add_typer(waiting.deferred, name="deferred")
app.command()(statistics.stats)
app.command()(watching.watch)
app.command()(looking.show)
app.command()(why.why)

app.command()(replaying.replay)
app.command()(forking.fork)
app.command()(preflight.preflight)

app.command()(exporting.export)
app.command()(exporting.seal)

app.command()(repairing.retry)
app.command()(repairing.skip)
app.command()(repairing.resolve)
app.command()(repairing.compensate)
app.command()(repairing.cancel)
app.command()(repairing.abandon)
app.command()(repairing.reschedule)
app.command("migrate-instances")(repairing.migrate_instances)


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    app(args=None if arguments is None else list(arguments), prog_name="amends")
