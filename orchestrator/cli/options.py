"""Arguments and options that several commands have, each with one name and one sentence of help."""

from __future__ import annotations

from typing import Annotated

import typer

from messaging.reaching import YesOption

__all__ = [
    "DryRunOption",
    "LatestOption",
    "OnlySagaOption",
    "RecordedArgument",
    "RecordedOrManyArgument",
    "WantedArgument",
    "WantedOrManyArgument",
    "WhoOption",
    "YesOption",
]

_ONE = typer.Argument(metavar="ID", help="A saga's id, the beginning of it, or its key.")
_RECORDED = typer.Argument(metavar="ID|FILE", help="A saga's id, the beginning of it, its key, or an exported bundle.")

WantedArgument = Annotated[str, _ONE]
WantedOrManyArgument = Annotated[str | None, _ONE]
RecordedArgument = Annotated[str, _RECORDED]
RecordedOrManyArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="ID|FILE", help="A saga's id, the beginning of it, its key, an exported bundle, or prune's archive."
    ),
]
OnlySagaOption = Annotated[str | None, typer.Option("--saga", help="Only this saga.")]
LatestOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many, the latest first.")]
WhoOption = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who decides.  [default: your login]")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check and show; change nothing.")]
