"""The `amends` command."""

from __future__ import annotations

from collections.abc import Sequence

from messaging import interrupts


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    # First of all: what follows takes a second to load, in which Ctrl-C must not end in a traceback.
    interrupts.end_at_once()
    from messaging.program import run
    from orchestrator.cli.app import main as commands

    run("amends", lambda: commands(arguments))
