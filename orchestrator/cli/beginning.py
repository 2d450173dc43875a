"""`amends new`: the beginning of a project of one's own."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from orchestrator.cli.opening import fail
from orchestrator.scaffolding.naming import BadName, Naming
from orchestrator.scaffolding.project import AlreadyThere, service, write

_TOLD = 5
"""How many files that are in the way are named."""

app = typer.Typer(
    help="Begin a project.\n\nExample: amends new service warehouse", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def new() -> None:
    """Nothing: Typer would take a group with a single command for that command."""


@app.command("service")
def new_service(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the package and the participant: stock_keeping.")],
    *,
    directory: Annotated[
        Path | None, typer.Option("--directory", "-d", metavar="DIR", help="Where to.  [default: a folder of its name]")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it will answer HTTP by default.")] = 8010,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show; write nothing.")] = False,
) -> None:
    """Write a participant service of your own.

    Contracts, domain, handlers, tables and their migration, settings, tests, an image, a compose file and manifests for
    Kubernetes: a project that depends on Amends, passes its own lint and tests, and runs as it is. Nothing is written
    over.

    Example: amends new service warehouse
    Example: amends new service stock_keeping --directory ~/src/stock --port 8020 --dry-run
    """
    try:
        naming = Naming(name)
    except BadName as error:
        fail(str(error), 2)
    where = directory or Path(naming.dashed)
    project = service(naming, port=port, version=version("amends"))
    if not dry_run:
        _write(project, where)
    for path in project:
        typer.echo(str(where / path))
    if dry_run:
        typer.echo("nothing is written", err=True)
    else:
        typer.echo(f"written; next: cd {where}, and read README.md", err=True)


def _write(project: dict[PurePosixPath, str], where: Path) -> None:
    try:
        write(project, where)
    except AlreadyThere as error:
        more = len(error.paths) - _TOLD
        named = ", ".join(map(str, error.paths[:_TOLD])) + (f" and {more} more" if more > 0 else "")
        fail(f"there already: {named}; nothing is written. Name another --directory, or move them away", 1)
    except OSError as error:
        fail(f"{error.filename or where} cannot be written: {error.strerror}", 1)
