"""python -m messaging migrate: make or update the outbox, inbox, deferred and dead-letter tables in DATABASE_URL.

For an application that only emits: it keeps its own tables, these stand beside them.
"""

from __future__ import annotations

import typer

from messaging.commandline import run_migrations
from messaging.process import load
from messaging.settings import ServiceSettings

app = typer.Typer(help="The messaging tables of an application.", rich_markup_mode=None)


@app.callback()
def messaging() -> None:
    """The messaging tables of an application."""


@app.command()
def migrate() -> None:
    """Bring the messaging tables in DATABASE_URL to head; safe to run again."""
    run_migrations(load(ServiceSettings), [])


if __name__ == "__main__":
    app()
