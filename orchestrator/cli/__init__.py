"""The `amends` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from messaging import interrupts


def script(arguments: Sequence[str] | None = None) -> None:
    """The console script: a process of its own, which Ctrl-C ends at once where there is nothing to put in order."""
    # First of all: what follows takes a second to load, in which Ctrl-C must not end in a traceback.
    interrupts.end_at_once()
    _run(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """The same from a process of yours: Ctrl-C, the output, the logs, the path of imports are then as they were before.

    Raises SystemExit. Where standard output is a pipe whose reader has gone, it ends the process, as a program ends.
    """
    path, hook = list(sys.path), sys.excepthook
    try:
        with interrupts.at_once():
            from messaging import logging

            with logging.configured_meanwhile():
                _run(arguments)
    finally:
        # Typer's own, for the end of a program.
        sys.excepthook = hook
        if "" not in path and "" in sys.path:
            sys.path.remove("")


def _run(arguments: Sequence[str] | None) -> None:
    from messaging.program import run
    from orchestrator.cli.app import main as commands

    run("amends", lambda: commands(arguments))
