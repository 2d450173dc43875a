"""A PostgreSQL cluster of one's own."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.servers.process import (
    HOST,
    START_SECONDS,
    USER,
    PortLease,
    ServerProcess,
    ServerUnavailable,
    clean_environment,
)


class PostgresServer:
    """A PostgreSQL cluster of its own: data, sockets, port and log are shared with nobody.

    PostgreSQL refuses to run as root; for root it runs as the user `postgres` (or `nobody`).
    `url` names its maintenance database. Not `durable`, it leaves it to the kernel when what it confirmed reaches the
    disk: killed, it keeps everything all the same, but not when the machine goes down; making and dropping databases
    is many times faster. Raises ServerUnavailable when PostgreSQL is not installed.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self._durable = durable
        self._programs = _find_postgres()
        self._password = secrets.token_hex(16)
        self._lease = PortLease(1)
        (self.port,) = self._lease.ports
        directory = Path(tempfile.mkdtemp(prefix="amends-postgres-"))
        account = _unprivileged() if os.geteuid() == 0 else None
        if account is not None:
            os.chown(directory, account.pw_uid, account.pw_gid)
        self._process = ServerProcess("PostgreSQL", directory, account=account)
        self._data = directory / "data"
        self._environment = clean_environment("PG") | {
            "HOME": str(directory),
            "LC_ALL": "C",
            "PGPASSWORD": self._password,
        }

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Where that database of this cluster is found."""
        return f"postgresql://{USER}:{self._password}@{HOST}:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """Of the postmaster. Raises ServerUnavailable when it is not running."""
        return self._process.pid

    @property
    def log(self) -> Path:
        return self._process.log

    def launch(self) -> None:
        """Start it without waiting; `wait` returns when it answers."""
        if not self._data.exists():
            self._initialize()
        self._process.start(
            [
                str(self._programs / "postgres"),
                *("-D", str(self._data)),
                *("-h", HOST),
                *("-p", str(self.port)),
                *("-k", str(self._process.directory)),
                *("-c", "max_connections=200"),
                *("-c", f"fsync={'on' if self._durable else 'off'}"),
            ],
            self._environment,
        )

    def wait(self) -> None:
        """Return when it takes queries. Raises ServerUnavailable with the end of its log."""
        self._process.wait_until(self._answers, START_SECONDS)

    def start(self) -> None:
        """Start it, with the data it has, and wait until it takes queries."""
        self.launch()
        self.wait()

    def stop(self) -> None:
        """Shut it down properly: clients are cut off, what they committed is kept."""
        self._process.stop(signal.SIGINT)

    def kill(self) -> None:
        """Kill it with -9, and its children with it. Its data stay as they are; the next start recovers them."""
        postmaster = self.pid
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text(encoding="ascii").split()
        self._process.kill()
        # They see by themselves that it is gone, but not at once, and no other starts on memory that they still hold.
        give_up = time.monotonic() + START_SECONDS
        for child in map(int, children):
            while _runs(child) and time.monotonic() < give_up:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                time.sleep(0.01)

    def restart(self) -> None:
        """Down and up again at the same address, with the same data."""
        self.stop()
        self.start()

    def create_database(self, name: str) -> str:
        """A new, empty database; returns its URL."""
        self._tool("createdb", name)
        return self.url_of(name)

    def remove(self) -> None:
        """End it at once, if it runs, and delete everything it wrote."""
        # Immediate shutdown rather than SIGKILL: it takes its shared memory and its children with it.
        self._process.stop(signal.SIGQUIT)
        self._process.remove()
        self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _initialize(self) -> None:
        secret = self._process.directory / "password"
        secret.touch(mode=0o600)
        secret.write_text(self._password, encoding="utf-8")
        if self._process.account is not None:
            os.chown(secret, self._process.account.pw_uid, self._process.account.pw_gid)
        self._process.run(
            [
                str(self._programs / "initdb"),
                *("-D", str(self._data)),
                *("-U", USER),
                *("--pwfile", str(secret)),
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
            ],
            self._environment,
        )
        secret.unlink()

    def _tool(self, program: str, *arguments: str) -> str:
        address = ["-h", HOST, "-p", str(self.port), "-U", USER]
        return self._process.run([str(self._programs / program), *address, *arguments], self._environment)

    def _answers(self) -> bool:
        try:
            self._tool("pg_isready", "-q")
        except ServerUnavailable:
            return False
        return True


def _find_postgres() -> Path:
    """The directory of the newest server's programs; Debian keeps them off the PATH."""
    places = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    places.sort(key=_major_version, reverse=True)
    on_path = shutil.which("postgres")
    if on_path is not None:
        places.append(Path(on_path).resolve().parent)
    for place in places:
        if all((place / name).exists() for name in ("postgres", "initdb", "createdb", "pg_isready")):
            return place
    raise ServerUnavailable(
        "PostgreSQL is not installed; install it (Debian: apt-get install postgresql), or name a running database"
    )


def _major_version(place: Path) -> int:
    digits = re.search(r"\d+", str(place))
    return int(digits.group()) if digits else 0


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerUnavailable("PostgreSQL does not run as root, and there is neither a user postgres nor nobody; add one")


def _runs(pid: int) -> bool:
    """Whether there is such a process, and not only what is left of it until somebody asks how it ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")
