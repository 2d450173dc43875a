"""Ctrl-C: exit code 130 and at most one line. Imports nothing that takes time to import."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130


def say() -> None:
    """The one line."""
    os.write(2, b"Interrupted.\n")


def end_at_once() -> None:
    """From here on Ctrl-C ends the process there and then: for times in which nothing has to be put in order."""

    def end(_number: int, _frame: object) -> None:
        # Neither buffers nor `finally`: whatever is half done here (an import, say) is not ours to end.
        say()
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, end)


@contextmanager
def raised() -> Iterator[None]:
    """Meanwhile Ctrl-C raises KeyboardInterrupt, so that what is open is put in order; after that it ends at once."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        end_at_once()


@contextmanager
def kept_from_children() -> Iterator[None]:
    """A process started meanwhile never hears of Ctrl-C, from its first instruction on: its parent tells it to end."""
    # Blocked, not ignored: one that comes meanwhile reaches this process a moment later.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
