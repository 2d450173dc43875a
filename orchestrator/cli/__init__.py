"""The `amends` command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from messaging import interrupts, loading


def script(arguments: Sequence[str] | None = None) -> None:
    """The console script: a process of its own, which Ctrl-C ends at once where there is nothing to put in order."""
    # First of all: what follows takes a while to load, in which Ctrl-C must not end in a traceback.
    interrupts.end_at_once()
    words = _words(arguments)
    with loading.uncollected():
        program = _program(words)
    program()


def main(arguments: Sequence[str] | None = None) -> None:
    """The same from a process of yours: Ctrl-C, the output, the logs, the path of imports are then as they were before.

    Raises SystemExit. Where standard output is a pipe whose reader has gone, it ends the process, as a program ends.
    """
    path, hook = list(sys.path), sys.excepthook
    try:
        with interrupts.at_once():
            from messaging import logging

            with logging.configured_meanwhile():
                _program(_words(arguments))()
    finally:
        # Typer's own, for the end of a program.
        sys.excepthook = hook
        if "" not in path and "" in sys.path:
            sys.path.remove("")


def _words(arguments: Sequence[str] | None) -> list[str]:
    """These, or those that the program was started with; ends it with 2 where one of them is no text."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for number, word in enumerate(words, 1):
        if any("\ud800" <= each <= "\udfff" for each in word):
            # No database, no JSON and no terminal takes what is no text.
            sys.stderr.write(f"amends: argument {number} is no UTF-8 text: {word!a}\n")
            raise SystemExit(2)
    return words


def _program(words: list[str]) -> Callable[[], None]:
    """The program, with what these words need of it."""
    from messaging.program import run
    from orchestrator.cli.commands import amends, wanted

    app = amends(wanted(words))
    return lambda: run("amends", lambda: app(args=words, prog_name="amends"))
