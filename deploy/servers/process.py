"""One server program as a child of ours: started, watched until it answers, stopped by its pid."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

HOST = "127.0.0.1"
USER = "amends"
START_SECONDS = 120.0
"""How long a server may take to come up: seconds on an idle machine, much longer on a crowded one."""

_POLL = 0.05
_LOG_LINES = 80

# Blocks until our end of the pipe closes, which the kernel does however we die. Children of the server may still write.
_WATCHDOG = """
read -r _
kill -9 "$1" 2>/dev/null
for pause in 0.2 0.5 1 2 4 8 16; do sleep $pause; rm -rf "$2" && break; done
"""


class ServerUnavailable(Exception):
    """A server cannot be had here: not installed, or it did not come up; says which and what to do."""


class ServerProcess:
    """A running server that outlives neither `stop` nor this process, not even one that is killed with -9.

    `directory` holds all it writes; `account` is who runs it, None for whoever we are.
    """

    def __init__(self, name: str, directory: Path, *, account: pwd.struct_passwd | None = None) -> None:
        self.name = name
        self.directory = directory
        self.account = account
        self.log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Raises ServerUnavailable when it is not running."""
        if self._process is None or self._process.poll() is not None:
            raise ServerUnavailable(f"{self.name} is not running{self._last_words()}")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start `command`; `wait_until` says when it is of use."""
        if self.running:
            raise ServerUnavailable(f"{self.name} is running already, pid {self.pid}")
        self.stop()
        with self.log.open("ab") as log:
            # A session of its own: a Ctrl-C at the terminal reaches us, and we say when the server goes.
            self._process = self._spawn(command, environment, log, subprocess.STDOUT)
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(self._process.pid), str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Return once `ready()` holds.

        Raises ServerUnavailable, with the end of the log, when the server died or took longer.
        """
        give_up = time.monotonic() + seconds
        while True:
            # First: what answers at its port when it is dead is somebody else.
            if not self.running:
                raise ServerUnavailable(f"{self.name} ended while starting{self._last_words()}")
            if ready():
                return
            if time.monotonic() > give_up:
                raise ServerUnavailable(f"{self.name} did not answer within {seconds:g} s{self._last_words()}")
            time.sleep(_POLL)

    def stop(self, signal_number: signal.Signals = signal.SIGTERM, seconds: float = 30) -> None:
        """Ask it to end, and make it when it has not after `seconds`; nothing when it is not running."""
        process, watchdog = self._process, self._watchdog
        if process is not None and process.poll() is None:
            process.send_signal(signal_number)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if watchdog is not None:
            watchdog.kill()
            watchdog.wait()
            if watchdog.stdin is not None:
                watchdog.stdin.close()
        self._process = self._watchdog = None

    def kill(self) -> None:
        """What a power cut looks like to it: SIGKILL, at once."""
        self.stop(signal.SIGKILL)

    def run(self, command: Sequence[str], environment: Mapping[str, str], *, seconds: float = START_SECONDS) -> str:
        """Run one of the server's own tools as its user and return what it printed.

        Raises ServerUnavailable with the tool's words when it fails.
        """
        process = self._spawn(command, environment, subprocess.PIPE, subprocess.PIPE)
        try:
            output, complaints = (text.decode(errors="replace") for text in process.communicate(timeout=seconds))
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.communicate()
            raise ServerUnavailable(f"{command[0]} did not end within {seconds:g} s") from error
        if process.returncode != 0:
            words = complaints.strip() or output.strip()
            raise ServerUnavailable(f"{command[0]} failed with exit code {process.returncode}: {words}")
        return output

    def _spawn(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stdout: IO[bytes] | int,
        stderr: int,
    ) -> subprocess.Popen[bytes]:
        account = self.account
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=self.directory,
            env=environment,
            start_new_session=True,
            user=None if account is None else account.pw_uid,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
        )

    def remove(self) -> None:
        """Delete everything it wrote."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _last_words(self) -> str:
        if not self.log.exists():
            return ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return "; the end of its log:\n" + "\n".join(f"    {line}" for line in lines) if lines else ""


class PortLease:
    """Loopback ports nobody listens on, all different, kept from every other lease on the machine until `release`.

    They lie below the range from which the kernel takes ports for outgoing connections. A lease outlasts its server's
    restarts: otherwise the next server to be started may well be given the port of one that is down for a moment.
    """

    def __init__(self, count: int, *, in_a_row: bool = False) -> None:
        self.ports: list[int] = []
        self._locks: list[socket.socket] = []
        while len(self.ports) < count:
            first = random.randrange(20_000, 32_000)  # noqa: S311 - any number will do
            self._take(range(first, first + (count if in_a_row else 1)))

    def _take(self, ports: range) -> None:
        """All of these, or none where somebody has one of them."""
        locks = []
        for port in ports:
            lock = _lock(port)
            if lock is None:
                break
            locks.append(lock)
        if len(locks) == len(ports):
            self.ports.extend(ports)
            self._locks.extend(locks)
        else:
            _close(locks)

    def release(self) -> None:
        """Let others have them."""
        _close(self._locks)
        self._locks.clear()

    def keep(self) -> None:
        """Let nobody else have them before this process ends."""
        for lock in self._locks:
            lock.detach()
        self._locks.clear()


def _lock(port: int) -> socket.socket | None:
    """What keeps a port from other leases; None where somebody else has it, or listens there."""
    lock = socket.socket(socket.AF_UNIX)
    try:
        if sys.platform == "linux":
            # An abstract socket is a lock that no crash leaves behind.
            lock.bind(f"\0amends-port-{port}")
        with socket.socket() as listener:
            listener.bind((HOST, port))
    except OSError:
        lock.close()
        return None
    return lock


def _close(locks: Sequence[socket.socket]) -> None:
    for lock in locks:
        lock.close()


def free_ports(count: int, *, in_a_row: bool = False) -> list[int]:
    """Loopback ports nobody listens on, all different; no lease on the machine has them before this process ends.

    Whoever is given one may be down for a moment, and what is started meanwhile must not be given the same.
    """
    lease = PortLease(count, in_a_row=in_a_row)
    lease.keep()
    return lease.ports


def accepts(port: int) -> bool:
    """Whether somebody listens on that loopback port."""
    try:
        with socket.create_connection((HOST, port), timeout=5):
            return True
    except OSError:
        return False


def clean_environment(*prefixes: str) -> dict[str, str]:
    """Our environment without the variables that would lead a server or its tools somewhere else."""
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
