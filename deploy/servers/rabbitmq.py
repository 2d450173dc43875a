"""A RabbitMQ node of one's own."""

from __future__ import annotations

import secrets
import shlex
import shutil
import socket
import tempfile
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
    accepts,
    clean_environment,
)


class RabbitServer:
    """A RabbitMQ node of its own: name, ports, cookie, epmd, data and log are shared with nobody.

    `url` is where it is found. One that is `beside` another shares cookie and epmd with that, so that it can `join` it;
    the other has to be there for as long. Raises ServerUnavailable when RabbitMQ is not installed.
    """

    def __init__(self, beside: RabbitServer | None = None) -> None:
        self._beside = beside
        self._scripts = _find_rabbitmq()
        self._lease = PortLease(3)
        self.port, self._dist_port, self.epmd_port = self._lease.ports
        self.password, self.cookie = secrets.token_hex(16), secrets.token_hex(16)
        if beside is not None:
            self.epmd_port, self.password, self.cookie = beside.epmd_port, beside.password, beside.cookie
        self.node = f"amends{self.port}@localhost"
        directory = Path(tempfile.mkdtemp(prefix="amends-rabbitmq-"))
        self._process = ServerProcess("RabbitMQ", directory)
        self._epmd = ServerProcess("epmd", directory)
        self._epmd.log = directory / "epmd.log"
        self._configure(directory)

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{self.password}@{HOST}:{self.port}/"

    @property
    def pid(self) -> int:
        """Of the Erlang machine. Raises ServerUnavailable when it is not running."""
        return self._process.pid

    @property
    def log(self) -> Path:
        return self._process.log

    @property
    def control(self) -> Path:
        """A program that is `rabbitmqctl` for this node."""
        return self._process.directory / "rabbitmqctl"

    def launch(self) -> None:
        """Start it without waiting; `wait` returns when it answers."""
        if self._beside is None and not self._epmd.running:
            # Ours, and not the one Erlang starts by itself: that would be nobody's child and stay behind.
            self._epmd.start([_find_epmd(), "-port", str(self.epmd_port), "-address", HOST], self._environment)
            self._epmd.wait_until(lambda: accepts(self.epmd_port), START_SECONDS)
        self._process.start([str(self._scripts / "rabbitmq-server")], self._environment)

    def wait(self) -> None:
        """Return when it speaks AMQP. Raises ServerUnavailable with the end of its log."""
        self._process.wait_until(lambda: _speaks_amqp(self.port), START_SECONDS)

    def start(self) -> None:
        """Start it, with the data it has, and wait until it speaks AMQP."""
        self.launch()
        self.wait()

    def stop(self) -> None:
        """Shut it down properly. Its data stay."""
        self._process.stop()

    def kill(self) -> None:
        """Kill it with -9. Its data stay as they are."""
        self._process.kill()

    def restart(self) -> None:
        """Down and up again at the same address, with the same data."""
        self.stop()
        self.start()

    def join(self) -> None:
        """Become a node of the cluster that the one beside is in. Both have to run. Raises ServerUnavailable."""
        if self._beside is None:
            raise ServerUnavailable("there is no RabbitMQ node beside this one to join")
        for words in (("stop_app",), ("join_cluster", self._beside.node), ("start_app",)):
            self.ctl(*words)

    def ctl(self, *arguments: str) -> str:
        """What `rabbitmqctl ARGUMENTS` prints. Raises ServerUnavailable with its complaint when it fails."""
        return self._process.run([str(self.control), *arguments], self._environment)

    def remove(self) -> None:
        """Kill it, if it runs, and delete everything it wrote."""
        self._process.kill()
        self._epmd.kill()
        self._process.remove()
        self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _configure(self, directory: Path) -> None:
        (directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {HOST}:{self.port}\n"
            f"default_user = {USER}\n"
            f"default_pass = {self.password}\n"
            "default_user_tags.administrator = true\n"
            "default_permissions.configure = .*\n"
            "default_permissions.read = .*\n"
            "default_permissions.write = .*\n"
            # Who comes with a certificate, to a TLS listener that a test adds, may log in by its common name.
            "ssl_cert_login_from = common_name\n"
            "ssl_options.verify = verify_peer\n"
            "auth_mechanisms.1 = PLAIN\n"
            "auth_mechanisms.2 = AMQPLAIN\n"
            "auth_mechanisms.3 = EXTERNAL\n"
            "log.console = true\n"
            "log.console.level = info\n"
            "log.file = false\n",
            encoding="utf-8",
        )
        plugins = "[rabbitmq_auth_mechanism_ssl,rabbitmq_consistent_hash_exchange]"
        (directory / "enabled_plugins").write_text(f"{plugins}.\n", encoding="utf-8")
        (directory / "environment.conf").touch()
        cookie = directory / ".erlang.cookie"
        cookie.write_text(self.cookie, encoding="utf-8")
        cookie.chmod(0o400)
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        self._environment = clean_environment("RABBITMQ_", "ERL_") | {
            "HOME": str(directory),
            "ERL_AFLAGS": "-start_epmd false",
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self.epmd_port),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "environment.conf"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced.config"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(directory / "generated"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback,
            "RABBITMQ_CTL_ERL_ARGS": loopback,
            # The script then becomes the Erlang machine instead of waiting beside it: our pid is the node's.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
        assignments = " ".join(
            shlex.quote(f"{name}={value}")
            for name, value in self._environment.items()
            if name == "HOME" or name.startswith(("RABBITMQ_", "ERL_"))
        )
        self.control.write_text(
            f'#!/bin/sh\nexec env {assignments} {shlex.quote(str(self._scripts / "rabbitmqctl"))} "$@"\n',
            encoding="utf-8",
        )
        self.control.chmod(0o700)


def _find_rabbitmq() -> Path:
    """The directory of RabbitMQ's own scripts.

    Debian's wrapper on the PATH insists on root or the user rabbitmq, and on the system's directories.
    """
    places = [*sorted(Path("/usr/lib/rabbitmq/lib").glob("*/sbin"), reverse=True), Path("/opt/rabbitmq/sbin")]
    on_path = shutil.which("rabbitmq-server")
    if on_path is not None:
        places.append(Path(on_path).resolve().parent)
    for place in places:
        if all((place / name).exists() for name in ("rabbitmq-server", "rabbitmqctl", "rabbitmq-env")):
            return place
    raise ServerUnavailable(
        "RabbitMQ is not installed; install it (Debian: apt-get install rabbitmq-server), or name a running broker"
    )


def _find_epmd() -> str:
    found = shutil.which("epmd")
    if found is None:
        raise ServerUnavailable("epmd, which comes with Erlang, is not on the PATH; install erlang-base")
    return found


def _speaks_amqp(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=5) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            # A method frame, connection.start: the node has booted as far as taking clients.
            return connection.recv(1) == b"\x01"
    except OSError:
        return False
