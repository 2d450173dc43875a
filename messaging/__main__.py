"""python -m messaging: what an application needs of Amends without being one of its services.

migrate            make or update the outbox, inbox, deferred and dead-letter tables in DATABASE_URL
serve MODULE:NAME  run a participant as a service of its own
needs MODULE:NAME  say what it reads and publishes, for whoever owns the broker
prune              remove old inbox entries and discarded dead letters
"""

from __future__ import annotations

from messaging import interrupts, loading

if __name__ == "__main__":
    # What follows takes a while to load, in which Ctrl-C must not end in a traceback.
    interrupts.end_at_once()

import importlib
import sys
from typing import Annotated

with loading.uncollected():
    import typer

    from messaging.commandline import offline, print_needs, run_migrations
    from messaging.participant import InvalidHandler, Participant
    from messaging.process import EX_CONFIG, bus_of, load, main
    from messaging.program import run
    from messaging.prune_command import prune_command
    from messaging.service import participant_service
    from messaging.settings import ServiceSettings

app = typer.Typer(help="Outbox tables and participants of an application.", rich_markup_mode=None)


@app.callback()
def messaging() -> None:
    """Outbox tables and participants of an application."""


@app.command()
def migrate() -> None:
    """Bring the messaging tables in DATABASE_URL to head; safe to run again."""
    run_migrations(load(ServiceSettings), [])


app.command("prune")(prune_command(lambda: load(ServiceSettings), "python -m messaging"))


@app.command()
def serve(
    target: Annotated[str, typer.Argument(metavar="MODULE:NAME", help="Where the Participant is.")],
) -> None:
    """Run a participant until SIGTERM or Ctrl-C, with its own queues and /healthz, /readyz.

    Its own tables are its own to migrate; those of messaging come with `migrate`.

    Example: DATABASE_URL=postgresql://travel@localhost/travel python -m messaging serve trips.participant:travel
    """
    participant = _participant(target)
    settings = _settings_of(participant)
    raise typer.Exit(
        main(
            settings,
            participant.name,
            lambda: [participant_service(participant, settings, bus_of(settings, participant.name))],
        )
    )


@app.command()
def needs(
    target: Annotated[str, typer.Argument(metavar="MODULE:NAME", help="Where the Participant is.")],
) -> None:
    """Say what a participant reads and publishes, as JSON for `amends broker definitions`.

    Example: python -m messaging needs trips.participant:travel
    """
    participant = _participant(target)
    print_needs(lambda: participant_service(participant, _settings_of(participant), offline(participant.name)))


def _settings_of(participant: Participant) -> ServiceSettings:
    own = {"service": participant.name, "__annotations__": {}}
    named: type[ServiceSettings] = type("ParticipantSettings", (ServiceSettings,), own)
    return load(named)


def _participant(target: str) -> Participant:
    module_name, _, name = target.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module_name), name, None)
    except (ModuleNotFoundError, InvalidHandler) as error:
        typer.echo(f"{target}: {error}", err=True)
        raise typer.Exit(EX_CONFIG) from error
    if not isinstance(found, Participant):
        typer.echo(f"{target} is no Participant; write module:name, like trips.participant:travel", err=True)
        raise typer.Exit(EX_CONFIG)
    return found


if __name__ == "__main__":
    run("python -m messaging", app)
