"""Ctrl-C: exit code 130 and one line. Imports nothing that takes time to import."""

from __future__ import annotations

import os
import signal

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
