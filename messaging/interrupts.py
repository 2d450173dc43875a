"""Ctrl-C: exit code 130 and at most one line. SIGTERM as the first process of a container. Imports nothing that takes
time to import.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
TERMINATED = 143
FIRST_PROCESS = 1


def say() -> None:
    """The one line."""
    os.write(2, b"Interrupted.\n")


def ours() -> bool:
    """Whether Ctrl-C is ours to see to: not in a thread, nor where a host that is not Python has done so."""
    return threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not None


def end_at_once() -> None:
    """From here on Ctrl-C ends the process there and then: for times in which nothing has to be put in order.

    So does SIGTERM, also for the first process of a container, which the kernel shields from it as long as it has said
    nothing else: a container that is to stop just when it has started would not hear of it.
    """
    signal.signal(signal.SIGINT, _end)
    if os.getpid() == FIRST_PROCESS:
        signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def at_once() -> Iterator[None]:
    """Meanwhile the same; after that Ctrl-C does what it did before."""
    with _handled_by(_end):
        yield


@contextmanager
def raised() -> Iterator[None]:
    """Meanwhile Ctrl-C raises KeyboardInterrupt, so that what is open is put in order; then it is as it was before."""
    with _handled_by(signal.default_int_handler):
        yield


def _end(_number: int, _frame: object) -> None:
    # Neither buffers nor `finally`: whatever is half done here (an import, say) is not ours to end.
    say()
    os._exit(INTERRUPTED)


def _terminate(_number: int, _frame: object) -> None:
    os._exit(TERMINATED)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    if not ours():
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def kept_from_children() -> Iterator[None]:
    """A process started meanwhile never hears of Ctrl-C, from its first instruction on: its parent tells it to end."""
    # Blocked, not ignored: one that comes meanwhile reaches this process a moment later.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
