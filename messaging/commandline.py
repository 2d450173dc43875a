"""The command line every service has: run it, migrate its tables, show its configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import typer
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from messaging import migrate as migrations_of
from messaging.bus import Bus
from messaging.database import DATABASE_ERRORS, does_not_answer
from messaging.process import EX_UNAVAILABLE, bus_of, load, main
from messaging.service import Service
from messaging.settings import ServiceSettings

S = TypeVar("S", bound=ServiceSettings)


def service_commands(
    settings: type[S], assemble: Callable[[S, Bus], Service], migrations: Sequence[str], *, help: str
) -> typer.Typer:
    """`run` (also without a word), `migrate` and `config` for one service."""
    app = typer.Typer(help=help, no_args_is_help=False, add_completion=True, rich_markup_mode=None)

    @app.callback(invoke_without_command=True)
    def default(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            run()

    @app.command()
    def run() -> None:
        """Run the service until SIGTERM or Ctrl-C."""
        found = load(settings)
        raise typer.Exit(main(found, found.service, lambda: [assemble(found, bus_of(found, found.service))]))

    @app.command()
    def migrate() -> None:
        """Bring the tables to head; safe to run again."""
        run_migrations(load(settings), migrations)

    @app.command()
    def config() -> None:
        """Show every setting, where it comes from in the environment, and what it is now. No secrets."""
        for line in describe(load(settings)):
            typer.echo(line)

    return app


def run_migrations(settings: ServiceSettings, migrations: Sequence[str]) -> None:
    """Bring a service's tables to head, with one clear line either way; exits 69 without a database."""
    locations = (migrations_of.MESSAGING, *migrations)
    shown = without_password(settings.database)
    try:
        migrations_of.migrate_now(settings.database, locations)
    except DATABASE_ERRORS as error:
        typer.echo(does_not_answer(settings.database, error), err=True)
        raise typer.Exit(EX_UNAVAILABLE) from error
    typer.echo(f"{shown}: {', '.join(each.partition(':')[0] for each in locations)} at head")


def describe(settings: ServiceSettings) -> list[str]:
    """A line a setting: its variable, its value without secrets, what it is for."""
    lines = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name == "database_url":
            value = without_password(settings.database)
        elif isinstance(value, SecretStr):
            value = without_password(value.get_secret_value())
        elif isinstance(value, tuple):
            value = ",".join(map(str, value))
        lines.append(f"{field.validation_alias}={value}\n    {field.description}")
    return lines


def without_password(url: str) -> str:
    """A URL that can be shown; anything else with a secret in it becomes stars."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "***" if url else ""
