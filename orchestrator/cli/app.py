"""amends: run the orchestrator, look at sagas, ask why they wait, decide about them, start one by hand.

Data goes to stdout, logs and complaints to stderr. Exit codes: 0 fine, 1 not found or not possible, 2 usage,
69 a dependency is unavailable, 70 a process of ours was killed, 78 bad configuration.
"""

from __future__ import annotations

import sys
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
from orchestrator.cli.helping import Headed, lay_out_examples

RUN = "Run"
LOOK = "Look (changes nothing)"
REPLAY = "Replay (publishes nothing)"
REPAIR = "Repair (kept, with who and why)"

app = typer.Typer(help="Sagas that make amends.", cls=Headed, no_args_is_help=True, rich_markup_mode=None)
config = typer.Typer(
    help="The configuration.\n\nExample: amends config show", no_args_is_help=True, rich_markup_mode=None
)

app.command(rich_help_panel=RUN)(running.run)
app.command(rich_help_panel=RUN)(running.relay)
app.command(rich_help_panel=RUN)(running.start)
app.command(rich_help_panel=RUN)(running.migrate)
app.command(rich_help_panel=RUN)(listing.reindex)
app.command(rich_help_panel=RUN)(pruning.prune)
app.add_typer(config, name="config", rich_help_panel=RUN)
config.command("show")(running.show_configuration)

app.command("list", rich_help_panel=LOOK)(listing.list_sagas)
app.command(rich_help_panel=LOOK)(looking.show)
app.command(rich_help_panel=LOOK)(why.why)
app.command(rich_help_panel=LOOK)(watching.watch)
app.command(rich_help_panel=LOOK)(statistics.stats)
app.add_typer(waiting.parked, name="parked", rich_help_panel=LOOK)
app.add_typer(waiting.outbox, name="outbox", rich_help_panel=LOOK)
app.add_typer(waiting.deferred, name="deferred", rich_help_panel=LOOK)

app.command(rich_help_panel=REPLAY)(replaying.replay)
app.command(rich_help_panel=REPLAY)(forking.fork)
app.command(rich_help_panel=REPLAY)(preflight.preflight)
app.command(rich_help_panel=REPLAY)(exporting.export)
app.command(rich_help_panel=REPLAY)(exporting.seal)

app.command(rich_help_panel=REPAIR)(repairing.retry)
app.command(rich_help_panel=REPAIR)(repairing.resolve)
app.command(rich_help_panel=REPAIR)(repairing.skip)
app.command(rich_help_panel=REPAIR)(repairing.compensate)
app.command(rich_help_panel=REPAIR)(repairing.cancel)
app.command(rich_help_panel=REPAIR)(repairing.abandon)
app.command(rich_help_panel=REPAIR)(repairing.reschedule)
app.command("migrate-instances", rich_help_panel=REPAIR)(repairing.migrate_instances)
app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel=REPAIR)

lay_out_examples((app, config, waiting.parked, waiting.outbox, waiting.deferred, dead_letters.app))


def main(arguments: Sequence[str] | None = None) -> None:
    """These words, or those that the program was started with."""
    words = sys.argv[1:] if arguments is None else arguments
    for number, word in enumerate(words, 1):
        if any("\ud800" <= each <= "\udfff" for each in word):
            # No database, no JSON and no terminal takes what is no text.
            typer.echo(f"amends: argument {number} is no UTF-8 text: {word!a}", err=True)
            raise SystemExit(2)
    app(args=None if arguments is None else list(arguments), prog_name="amends")
