"""python -m deploy.servers [--no-fsync] -- COMMAND: run a command with a broker and a database of its own.

Starts what TEST_AMQP_URL and TEST_DATABASE_URL do not name yet, sets them (and TEST_RABBITMQCTL, the path of
a `rabbitmqctl` for the broker it started), runs the command, stops the servers however it ends, and exits
with its exit code. With --no-fsync PostgreSQL does not wait for the disk: for tests, which do not outlive the machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType

from deploy.servers import PostgresServer, RabbitServer, ServerUnavailable

_USAGE = "usage: python -m deploy.servers [--no-fsync] -- COMMAND [ARGUMENT ...]"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Interrupted(BaseException):
    """A signal came while no command was running yet."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Command:
    """The command, once it runs; signals for us are meant for it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._signals = 0

    def run(self, command: Sequence[str], environment: dict[str, str]) -> int:
        self._process = subprocess.Popen(command, env=environment)
        code = self._process.wait()
        # As a shell says it: 128 and the signal.
        return code if code >= 0 else 128 - code

    def pass_on(self, number: int, _frame: FrameType | None) -> None:
        if self._process is None:
            raise _Interrupted(number)
        self._signals += 1
        if self._signals > 2:
            self._process.kill()
        elif number != signal.SIGINT or not _at_terminal():
            self._process.send_signal(number)


def _at_terminal() -> bool:
    """Whether Ctrl-C reaches the command by itself: a terminal signals everyone in the foreground."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


def _start_missing(stack: ExitStack, environment: dict[str, str], *, durable: bool) -> None:
    """Start what the environment does not name, both at the same time, and write it there."""
    servers: list[RabbitServer | PostgresServer] = []
    if not environment.get("TEST_AMQP_URL"):
        rabbit = stack.enter_context(RabbitServer())
        environment["TEST_AMQP_URL"] = rabbit.url
        environment["TEST_RABBITMQCTL"] = str(rabbit.control)
        servers.append(rabbit)
    if not environment.get("TEST_DATABASE_URL"):
        postgres = stack.enter_context(PostgresServer(durable=durable))
        environment["TEST_DATABASE_URL"] = postgres.url
        servers.append(postgres)
    for server in servers:
        server.launch()
    for server in servers:
        server.wait()


def main(arguments: list[str]) -> int:
    """Run the command behind `--` and return its exit code.

    2 when there is no command, 69 when a server cannot be had, 127 when the command does not exist.
    """
    durable = arguments[:1] != ["--no-fsync"]
    if not durable:
        arguments = arguments[1:]
    if len(arguments) < 2 or arguments[0] != "--":
        print(_USAGE, file=sys.stderr)
        return 2
    command = _Command()
    environment = dict(os.environ)
    for number in _SIGNALS:
        signal.signal(number, command.pass_on)
    try:
        with ExitStack() as stack:
            # Entered last, left first: nothing interrupts the servers' removal.
            stack.callback(_ignore_signals)
            _start_missing(stack, environment, durable=durable)
            return command.run(arguments[1:], environment)
    except ServerUnavailable as error:
        print(f"amends: {error}", file=sys.stderr)
        return 69
    except FileNotFoundError as error:
        print(f"amends: {error.filename} is not there to be run", file=sys.stderr)
        return 127
    except _Interrupted as interrupted:
        return 128 + interrupted.number


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
