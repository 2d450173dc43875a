"""The command line every service has: run it, migrate its tables, show its configuration, remove what is old."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import typer
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from messaging import migrate as migrations_of
from messaging.bus import Bus
from messaging.database import DATABASE_ERRORS, does_not_answer, held_up, in_words, may_not, no_database
from messaging.environment import as_written, misspelled
from messaging.privileges import NoSuchRole, NotGranted, Part, Roles
from messaging.process import EX_CONFIG, EX_UNAVAILABLE, bus_of, load, main
from messaging.service import Service
from messaging.settings import ServiceSettings

S = TypeVar("S", bound=ServiceSettings)


def service_commands(
    settings: type[S], assemble: Callable[[S, Bus], Service], migrations: Sequence[str], *, help: str
) -> typer.Typer:
    """`run` (also without a word), `migrate`, `config` and `prune` for one service."""
    from messaging.prune_command import prune_command

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
        found = load(settings)
        warn_of_misspelled(settings)
        for line in describe(found):
            typer.echo(line)

    @app.command()
    def needs() -> None:
        """Say what the service reads and publishes, for `amends broker definitions`."""
        print_needs(lambda: assemble(found := load(settings), offline(found.service)))

    package = migrations[0].partition(":")[0]
    app.command("prune")(prune_command(lambda: load(settings), f"python -m {package}"))
    return app


def offline(service: str) -> Bus:
    """A bus that leads nowhere, for a service that is only looked at."""
    from messaging.memory import MemoryBroker, MemoryBus

    return MemoryBus(MemoryBroker(), service=service)


def print_needs(assemble: Callable[[], Service]) -> None:
    """What a service of participants needs of the broker, as JSON on stdout; ends with 78 where its name cannot be."""
    from messaging import needs

    try:
        typer.echo(needs.as_json(needs.of_service(assemble())))
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EX_CONFIG) from error


def run_migrations(settings: ServiceSettings, migrations: Sequence[str]) -> None:
    """Bring a service's tables to head, with one clear line either way.

    Exits 69 where the database is away, 78 where it is none.
    """
    bring_to_head(settings, (migrations_of.MESSAGING, *migrations), Roles(settings.app_role, settings.prune_role))


def bring_to_head(settings: ServiceSettings, locations: Sequence[str], roles: Roles) -> None:
    """The same for these histories and no others."""
    shown = without_password(settings.database)
    try:
        left_out = migrations_of.migrate_now(settings.database, locations, roles)
    except (NoSuchRole, NotGranted) as error:
        typer.echo(f"{shown}: {error}" if isinstance(error, NoSuchRole) else str(error), err=True)
        raise typer.Exit(EX_CONFIG) from error
    except DATABASE_ERRORS as error:
        words, code = _failed(settings, error)
        typer.echo(words, err=True)
        raise typer.Exit(code) from error
    typer.echo(f"{shown}: {', '.join(each.partition(':')[0] for each in locations)} at head")
    if roles:
        typer.echo(f"{shown}: {' and '.join(roles.named.values())} may use the tables, and change none")
    for role, tables in left_out.items():
        variables = " or ".join(part.value for part in Part)
        typer.echo(
            f"{shown}: {role} may use some of the tables, and not {', '.join(tables)}; name it as the migration before "
            f"did ({variables}), or what connects as {role} fails on them",
            err=True,
        )


def _failed(settings: ServiceSettings, error: BaseException) -> tuple[str, int]:
    """Why a migration could not be done, and the exit code."""
    shown = without_password(settings.database)
    if (mend := no_database(settings.database, error, settings.database_variable)) is not None:
        return mend, EX_CONFIG
    if may_not(error):
        return f"{shown}: {in_words(error)}; connect as the role that owns the tables", EX_CONFIG
    if held_up(error):
        held = f"{shown}: a transaction that runs for long holds the tables ({in_words(error)}); run it again later"
        return held, EX_UNAVAILABLE
    return does_not_answer(settings.database, error, settings.database_variable), EX_UNAVAILABLE


def warn_of_misspelled(settings: type[ServiceSettings]) -> None:
    """A line on stderr for every variable that is one of these settings, but for its spelling."""
    for name, meant in misspelled(settings, os.environ).items():
        typer.echo(f"{name} is no setting; did you mean {meant}?", err=True)


def describe(settings: ServiceSettings) -> list[str]:
    """A line a setting: its variable, its value without secrets, what it is for."""
    return [f"{each.variable}={each.value}\n    {each.meaning}" for each in described(settings)]


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as it is now: its variable in the environment, its value without secrets, what it is for."""

    variable: str
    value: str
    meaning: str


def described(settings: ServiceSettings) -> list[Setting]:
    """Every setting, in the order of its class."""
    found = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name == "database_url":
            value = without_password(settings.named_database)
        elif isinstance(value, SecretStr):
            value = without_password(value.get_secret_value())
        elif isinstance(value, tuple):
            shown = (
                without_password(each.get_secret_value()) if isinstance(each, SecretStr) else each for each in value
            )
            value = tuple(shown)
        found.append(Setting(str(field.validation_alias), as_written(value), field.description or ""))
    return found


def counted(number: int, one: str, more: str = "") -> str:
    """So many of them, as people say it: 1 saga, 2 sagas; `more` where that is not `one` and an s."""
    return f"{number} {one if number == 1 else more or one + 's'}"


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def span(text: str) -> timedelta | None:
    """A length of time as people write it: 90s, 15m, 2h, 30d; None where it is none of these."""
    if text[-1:] not in _UNITS or not (text[:-1].isascii() and text[:-1].isdigit()):
        return None
    try:
        return timedelta(seconds=int(text[:-1]) * _UNITS[text[-1]])
    except OverflowError:
        return None


def without_password(url: str) -> str:
    """A URL that can be shown; anything else with a secret in it becomes stars."""
    try:
        parsed = make_url(url)
        # The password of a private key.
        secret = {name: "***" for name in ("sslpassword",) if name in parsed.query}
        return parsed.update_query_dict(secret).render_as_string(hide_password=True)
    except ArgumentError:
        return "***" if url else ""
