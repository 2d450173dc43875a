"""The system under measurement: orchestrator, order and payment as the processes they are in production.

Real RabbitMQ with quorum queues, real PostgreSQL, the durability both have by default, a database for each service.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import aio_pika
import asyncpg
import httpx
from sqlalchemy.engine import make_url

from benchmarks.usage import Watched, listener_on
from deploy.killing import three_services
from deploy.migrate import MIGRATIONS
from deploy.servers import free_ports
from deploy.up import HOST, Backends, Service, backends
from messaging.settings import ServiceSettings
from messaging.topology import COLLECTED_QUEUE, DEAD_LETTER_QUEUE

BATCH: int = ServiceSettings.model_fields["batch_size"].default
"""Most messages in one transaction, where nobody says otherwise."""
READY_SECONDS = 90.0
STOP_SECONDS = 40.0
_LOG_LINES = 30
CREDIT_LIMIT = 10**12
"""Minor units: no order is refused for want of credit."""


class NotMeasurable(Exception):
    """The system does not come up, or does not end what it was given; says what, and where to look."""


class System:
    """The services, running; `logs` is where each writes what it says, `given` are settings of the measurement."""

    def __init__(
        self, found: Backends, services: Sequence[Service], logs: Path, given: Mapping[str, str] | None = None
    ) -> None:
        self.amqp_url = found.amqp_url
        self.databases = dict(found.database_urls)
        self._services = services
        self._logs = logs
        self._settings = {
            "AMQP_URL": found.amqp_url,
            "HOST": HOST,
            "AMENDS_LOG_FORMAT": "json",
            "AMENDS_LOG_LEVEL": "info",
            "PAYMENT_DEFAULT_CREDIT_LIMIT": str(CREDIT_LIMIT),
        } | dict(given or {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._migrated = False

    @property
    def order_url(self) -> str:
        """Where orders are placed."""
        return self.address("order")

    def address(self, name: str) -> str:
        """Where a service answers."""
        return next(each.address for each in self._services if each.name == name)

    def start(self, *names: str) -> None:
        """Start these (all of them without a name); `ready` waits until all are of use. Raises NotMeasurable."""
        if not self._migrated:
            self._migrate()
        for service in self._services:
            if names and service.name not in names:
                continue
            own = {"DATABASE_URL": self.databases[service.name], "PORT": str(service.port)}
            with self._log(service.name).open("ab") as log:
                self._processes[service.name] = subprocess.Popen(
                    [sys.executable, "-m", service.module],
                    env={**os.environ, **self._settings, **own},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def _migrate(self) -> None:
        """In a process of its own, as in production: one that has migrated keeps 8 MB of what migrates."""
        databases = {name: self.databases[name] for name in MIGRATIONS if name in self.databases}
        if databases:
            log = self._log("migrate")
            with log.open("ab") as said:
                done = subprocess.run(
                    [sys.executable, "-m", "deploy.migrate", *databases],
                    env={**os.environ, **{f"{name.upper()}_DATABASE_URL": url for name, url in databases.items()}},
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
            if done.returncode:
                raise NotMeasurable(f"the tables could not be made{self._last_words('migrate')}")
        self._migrated = True

    async def restart(self, given: Mapping[str, str]) -> None:
        """End all of them and start them with these settings as well; returns when they are ready.

        Raises NotMeasurable.
        """
        await asyncio.to_thread(self.stop)
        self._settings |= given
        self.start()
        await self.ready()

    async def ready(self) -> None:
        """Return when every service that was started says it is. Raises NotMeasurable."""
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            for service in self._services:
                if service.name not in self._processes:
                    continue
                give_up = time.monotonic() + READY_SECONDS
                while not await _answers(client, service):
                    self.check()
                    if time.monotonic() > give_up:
                        raise NotMeasurable(
                            f"{service.name} was not ready after {READY_SECONDS:g} s{self._last_words(service.name)}"
                        )
                    await asyncio.sleep(0.1)

    def check(self) -> None:
        """Raise NotMeasurable where a service has ended by itself."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise NotMeasurable(f"{name} ended with exit code {process.returncode}{self._last_words(name)}")

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a service a signal."""
        self._processes[name].send_signal(number)

    async def drain(self, name: str) -> None:
        """End a service as a roll-out does. Raises NotMeasurable where it left something."""
        process = self._processes.pop(name)
        process.terminate()
        code = await asyncio.to_thread(process.wait, STOP_SECONDS)
        if code or "drain_cut_short" in self.log_of(name):
            raise NotMeasurable(f"{name} ended with exit code {code}{self._last_words(name)}")

    def watched(self, *names: str) -> Watched:
        """The processes whose CPU and memory count: of these services, or of all and of the servers."""
        if names:
            return Watched({name: self._processes[name].pid for name in names})
        return Watched(
            {name: process.pid for name, process in self._processes.items()}
            | {"broker": listener_on(self.amqp_url), "PostgreSQL": listener_on(next(iter(self.databases.values())))}
        )

    def stop(self) -> None:
        """Let all of them drain and end, and kill what has not ended by then."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def remove_queues(self) -> None:
        """Delete the queues of the services: the next measurement may want them of another type."""
        names = [f"{each.name}.{kind}" for each in self._services for kind in ("commands", "events")]
        asyncio.run(_delete_queues(self.amqp_url, [*names, COLLECTED_QUEUE, DEAD_LETTER_QUEUE]))

    def log_of(self, name: str) -> str:
        """What a service has said so far."""
        return self._log(name).read_text(encoding="utf-8", errors="replace")

    def _last_words(self, name: str) -> str:
        lines = self.log_of(name).splitlines()[-_LOG_LINES:]
        return "; the end of its log:\n" + "\n".join(lines)

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def open_system(
    stack: ExitStack,
    environment: Mapping[str, str],
    logs: Path,
    *,
    modules: Mapping[str, str] | None = None,
    given: Mapping[str, str] | None = None,
    orchestrators: int = 1,
    payments: int = 1,
) -> tuple[System, str]:
    """The system, not started yet, and the URL of a scratch database for whoever runs beside it.

    `orchestrators` is how many processes of it there are, on one database: orchestrator, orchestrator-2, …; so are
    `payments`.
    `modules` names the services that are wanted and the program of each (all three, each its own, when it is left out).

    AMQP_URL and DATABASE_URL (or TEST_AMQP_URL and TEST_DATABASE_URL) name the servers; what they do not name is
    started, in `stack`. Nobody else may use that broker meanwhile: the queues have the names they always have. The
    databases of the run are dropped when `stack` ends. Raises what `deploy.up.backends` raises.
    """
    servers = {
        name: environment.get(f"TEST_{name}") or environment.get(name, "") for name in ("AMQP_URL", "DATABASE_URL")
    }
    # Databases of this run alone: a server that was named may hold those of an earlier one.
    run = f"amends_bench_{os.getpid()}_{int(time.time())}"
    services = three_services(run)
    if modules is not None:
        services = [replace(each, module=modules[each.name]) for each in services if each.name in modules]
    for name, count in (("orchestrator", orchestrators), ("payment", payments)):
        services.extend(_further([each for each in services if each.name == name], count - 1))
    scratch = Service("scratch", "", 0, f"{run}_scratch")
    wanted = [*services, scratch]
    found = backends(stack, servers, wanted)
    if servers["DATABASE_URL"]:
        stack.callback(lambda: asyncio.run(_drop(servers["DATABASE_URL"], [each.database for each in wanted])))
    return System(found, services, logs, given), found.database_urls["scratch"]


async def _delete_queues(amqp_url: str, names: Sequence[str]) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for name in names:
            await channel.queue_delete(name)


def _further(services: Sequence[Service], count: int) -> list[Service]:
    """More processes of the first of these."""
    return [
        replace(services[0], name=f"{services[0].name}-{number}", port=port)
        for number, port in enumerate(free_ports(count), 2)
    ]


async def _drop(server: str, databases: Sequence[str]) -> None:
    url = make_url(server).set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        for name in databases:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()


async def _answers(client: httpx.AsyncClient, service: Service) -> bool:
    try:
        return (await client.get(f"{service.address}/readyz")).is_success
    except httpx.TransportError:
        return False
