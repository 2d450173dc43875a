"""`amends keys`: what services sign their messages with, and what proves it to others."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from messaging import keys
from messaging.clock import SystemClock
from messaging.keys import PublicKey, UnusableKey
from messaging.process import EX_CONFIG
from orchestrator.cli.opening import Output, OutputOption, fail, screen

app = typer.Typer(
    help="Keys that messages are signed with.\n\nExample: amends keys show keys/",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A public key as it is told; `retired` is a moment, `usable` whether readers take what it signs now."""

    id: str
    service: str
    retired: str | None
    usable: bool


@app.command()
def new(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="Whom it will speak for: payment, orchestrator.")],
    *,
    private: Annotated[
        Path, typer.Option("--private", metavar="FILE", help="Where the private half goes; only its owner can read it.")
    ],
    public: Annotated[
        Path | None, typer.Option("--public", metavar="DIR", help="A folder for the public half.  [default: printed]")
    ] = None,
    identity: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="By which readers know it.  [default: SERVICE-…]")
    ] = None,
) -> None:
    """Make a key for a service to sign with.

    The private half is that service's alone (AMENDS_SIGNING_KEY_FILE); every service gets the public one
    (AMENDS_PUBLIC_KEYS), and before the first message that is signed with it. Nothing is written over.

    Example: amends keys new payment --private payment-key.json --public keys/
    """
    try:
        key = keys.new(service, identity)
    except UnusableKey as error:
        fail(str(error), 2)
    half = None if public is None else public / f"{key.id}.json"
    if half is not None and half.exists():
        fail(f"there already: {half}; give another --id", 1)
    try:
        keys.write_private(key, private)
        if half is not None:
            half.write_text(keys.as_json(key.public_half), encoding="utf-8")
    except FileExistsError:
        fail(f"there already: {private}; a key is never written over", 1)
    except OSError as error:
        fail(f"{error.filename or private} cannot be written: {error.strerror}", 1)
    if half is None:
        typer.echo(keys.as_json(key.public_half), nl=False)
    else:
        typer.echo(str(private))
        typer.echo(str(half))


@app.command()
def show(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder of public keys, or a file of them.")],
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show public keys, whom each speaks for, and whether readers take what it signs.

    Example: amends keys show keys/
    """
    try:
        found = sorted(keys.public_keys(path).values(), key=lambda each: (each.service, each.id))
    except UnusableKey as error:
        fail(str(error), EX_CONFIG)
    shown = [_shown(each) for each in found]
    if output is Output.JSON:
        typer.echo(json.dumps([asdict(each) for each in shown], indent=2))
        return
    table = Table("key", "speaks for", "retired", box=None, pad_edge=False)
    for each in shown:
        table.add_row(each.id, each.service, _when(each))
    screen().print(table)


def _shown(key: PublicKey) -> Shown:
    retired = None if key.retired is None else key.retired.isoformat()
    return Shown(key.id, key.service, retired, not key.is_retired(SystemClock().now()))


def _when(shown: Shown) -> str:
    if shown.retired is None:
        return "no"
    return f"from {shown.retired}" if shown.usable else f"since {shown.retired}"
