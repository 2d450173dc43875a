"""A command line as a program: what becomes of it where it is interrupted, or where its output goes nowhere."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from messaging import interrupts

if TYPE_CHECKING:
    from typing_extensions import Buffer


class CannotPrint(Exception):
    """Standard output takes nothing more; says why."""


def run(program: str, command: Callable[[], object]) -> None:
    """Run a command to its end; `program` stands before a complaint.

    Ctrl-C is exit code 130. A reader who has gone away (`| head`) ends the process by SIGPIPE, as he does every other
    program; an output that cannot be written is one line and exit code 1. In the end Ctrl-C does what it did before.
    """
    if not interrupts.ours():
        # A thread: the process goes on beside it, and prints what it likes.
        command()
        return
    with interrupts.raised():
        try:
            with _printing():
                command()
        except KeyboardInterrupt:
            raise SystemExit(interrupts.INTERRUPTED) from None
        except CannotPrint as error:
            sys.stderr.write(f"{program}: cannot write the output: {error}\n")
            raise SystemExit(1) from None


@contextmanager
def _printing() -> Iterator[None]:
    """Meanwhile `sys.stdout` raises CannotPrint, at the latest in the end."""
    usual = sys.stdout
    if usual is None:
        # The shell has closed it. Libraries write to it all the same, and what the command does is done.
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            yield
        return
    # Whatever else lies in its place (a test's capture, a notebook) belongs to whoever put it there, and need not be a
    # file.
    if usual is not sys.__stdout__ or not isinstance(usual, io.TextIOWrapper):
        yield
        return
    usual.flush()
    output = _Output(usual.fileno(), "wb", closefd=False)
    sys.stdout = io.TextIOWrapper(
        _Unbuffered(output) if usual.write_through else io.BufferedWriter(output),
        encoding=usual.encoding,
        # What a terminal of another age cannot show is named, as on stderr, and ends nothing.
        errors="backslashreplace" if usual.errors == "strict" else usual.errors,
        line_buffering=usual.line_buffering,
        write_through=usual.write_through,
    )
    try:
        yield
    finally:
        # What a library has put in its place is not ours to write out.
        written, sys.stdout = sys.stdout, usual
        written.flush()


class _Unbuffered(io.BufferedWriter):
    """Keeps nothing back, as `python -u` wants it; a bare file might take a part only, and say nothing."""

    def write(self, content: Buffer, /) -> int:
        taken = super().write(content)
        self.flush()
        return taken


class _Output(io.FileIO):
    """The file behind standard output. An error of its own kind: `except OSError` elsewhere is about other files."""

    _failed = False

    def write(self, content: Buffer, /) -> int:
        if self._failed:
            # Told once; nobody flushes what is left over again.
            return memoryview(content).nbytes
        try:
            return super().write(content)
        except BrokenPipeError:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGPIPE)
            raise
        except OSError as error:
            self._failed = True
            raise CannotPrint(error.strerror or str(error)) from error
