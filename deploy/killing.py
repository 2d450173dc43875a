"""The services as processes that are killed with -9 and started again, while somebody else gives them work."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from deploy.servers import free_ports
from deploy.up import HOST, Backends, Service

READY_SECONDS = 120.0
LONGEST_DOWN = 2.0
"""Seconds after which a killed process is started again at the latest."""


class NotReady(Exception):
    """A service did not get ready; says which, and where its log is."""


class Victim:
    """A process that may be killed with -9 and started again; what it says is added to `log`."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self.kills = 0
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs, or before its first start."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        with self.log.open("ab") as log:
            # A session of its own: a Ctrl-C at the terminal reaches us, and we say when it goes.
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL: it gets no chance to finish anything."""
        self.kills += 1
        self.end()

    def end(self) -> None:
        """As `kill`, but because the game is over."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class System:
    """The processes that make up one system, and where its services and their databases are."""

    def __init__(
        self, processes: Sequence[Victim], urls: Mapping[str, str], databases: Mapping[str, str], victims: Sequence[str]
    ) -> None:
        self.processes = {each.name: each for each in processes}
        self.urls = urls
        self.databases = databases
        self.victims = tuple(victims)

    def start(self) -> None:
        for process in self.processes.values():
            process.start()

    def stop(self) -> None:
        """Kill whatever runs. Nothing is drained: what they have promised is in their databases."""
        for process in self.processes.values():
            process.end()

    async def ready(self) -> None:
        """Return when every service says it is. Raises NotReady, with the name of a log to look into."""
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            for name, url in self.urls.items():
                try:
                    async with asyncio.timeout(READY_SECONDS):
                        while not await self._is_ready(client, url):  # noqa: ASYNC110 - it is another process
                            await asyncio.sleep(0.1)
                except TimeoutError as error:
                    logs = ", ".join(str(each.log) for each in self.processes.values())
                    raise NotReady(f"{name} was not ready after {READY_SECONDS:g} s; see {logs}") from error

    async def _is_ready(self, client: httpx.AsyncClient, url: str) -> bool:
        ended = self.deserters()
        if ended:
            raise NotReady("; ".join(ended))
        try:
            return (await client.get(f"{url}/readyz")).is_success
        except httpx.TransportError:
            return False

    def deserters(self) -> list[str]:
        """The processes that have ended by themselves, in words."""
        return [
            f"{each.name} ended by itself with exit code {each.exit_code}; see {each.log}"
            for each in self.processes.values()
            if each.exit_code is not None
        ]


def three_services(prefix: str) -> list[Service]:
    """Orchestrator, order and payment on free ports, with databases whose names begin with `prefix`."""
    modules = {"orchestrator": "orchestrator", "order": "services.order", "payment": "services.payment"}
    ports = free_ports(len(modules))
    return [
        Service(name, module, port, f"{prefix}_{name}")
        for (name, module), port in zip(modules.items(), ports, strict=True)
    ]


def three_processes(found: Backends, wanted: Sequence[Service], environment: Mapping[str, str], logs: Path) -> System:
    """The services as three processes; orchestrator and payment are the ones to be killed."""
    processes = []
    for service in wanted:
        own = {
            "AMQP_URL": found.amqp_url,
            "DATABASE_URL": found.database_urls[service.name],
            "HOST": HOST,
            "PORT": str(service.port),
            "AMENDS_MIGRATE_ON_START": "true",
        }
        command = [sys.executable, "-m", service.module]
        processes.append(Victim(service.name, command, {**environment, **own}, logs / f"{service.name}.log"))
    urls = {service.name: service.address for service in wanted}
    return System(processes, urls, found.database_urls, ["orchestrator", "payment"])


def embedded(environment: Mapping[str, str], data: Path) -> System:
    """All three services in one process, the one to be killed; its SQLite files and its log lie in `data`."""
    first = free_ports(3, in_a_row=True)[0]
    command = [sys.executable, "-m", "deploy", "run", "--data", str(data), "--port", str(first)]
    names = ("orchestrator", "order", "payment")
    return System(
        [Victim("embedded", command, environment, data / "embedded.log")],
        {name: f"http://{HOST}:{first + place}" for place, name in enumerate(names)},
        {name: f"sqlite:///{data / name}.db" for name in names},
        ["embedded"],
    )


@dataclass(frozen=True, slots=True)
class Kill:
    """`victim` dies when this share of the work is done, and is started again after `down` seconds."""

    victim: str
    at: float
    down: float


def kills_of(victims: Sequence[str], times: int, seed: int) -> list[Kill]:
    """Each victim so many times, spread over the work, at moments that `seed` decides."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    return [
        Kill(victim, (number + chance.uniform(0.05, 0.95)) / times, chance.uniform(0, LONGEST_DOWN))
        for victim in victims
        for number in range(times)
    ]


async def kill_all(
    system: System,
    kills: Sequence[Kill],
    progress: Callable[[], Awaitable[float]],
    say: Callable[[str], None],
) -> None:
    """Carry the kills out as the work goes on; `progress` says what share of it is done.

    Cancelled, it leaves no victim dead.
    """
    async with asyncio.TaskGroup() as group:
        for victim in dict.fromkeys(kill.victim for kill in kills):
            mine = sorted((kill for kill in kills if kill.victim == victim), key=lambda kill: kill.at)
            group.create_task(_kill(system.processes[victim], mine, progress, say))


async def _kill(
    victim: Victim,
    kills: Sequence[Kill],
    progress: Callable[[], Awaitable[float]],
    say: Callable[[str], None],
) -> None:
    for kill in kills:
        while (done := await progress()) < kill.at:  # noqa: ASYNC110 - other processes make it
            await asyncio.sleep(0.05)
        victim.kill()
        say(f"{done:6.1%} done: kill -9 {victim.name}, to be started again after {kill.down:.1f} s")
        try:
            await asyncio.sleep(kill.down)
        finally:
            victim.start()
