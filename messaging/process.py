"""A service as an operating-system process: signals, the HTTP server, exit codes.

0 ended well · 69 a dependency is unavailable · 78 bad configuration · 130 interrupted. SIGTERM and the first
SIGINT drain; a second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, Self, TypeVar

import structlog
import uvicorn
from pydantic import ValidationError
from starlette.types import ASGIApp

from messaging import https, loading, logging
from messaging.bus import Bus, BusUnavailable, TopologyMismatch
from messaging.environment import misspelled
from messaging.keys import UnusableKey
from messaging.memory_broker import MemoryBroker
from messaging.migrate import MigrationsPending
from messaging.privileges import NotGranted
from messaging.reached import DatabaseUnavailable, WrongDatabase
from messaging.service import Service
from messaging.settings import MEMORY, ServiceSettings
from messaging.telemetry.configuring import CannotTrace, exporting

EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_CONFIG = 78
EX_INTERRUPTED = 130

S = TypeVar("S", bound=ServiceSettings)


class BadConfiguration(Exception):
    """A setting that cannot work; says which, and how to mend it."""


_MISTAKES = (
    *(BadConfiguration, CannotTrace, UnusableKey, WrongDatabase),
    *(MigrationsPending, NotGranted, TopologyMismatch),
)
"""What a person has to mend before the same start can succeed."""


def load(settings: type[S], **given: object) -> S:
    """Read the settings; ends the process with 78 and one line a problem where they are wrong."""
    try:
        return settings(**given)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            said = each["msg"].removeprefix("Value error, ")
            # What is wrong with several together has no place of its own.
            place = ".".join(map(str, each["loc"]))
            print(f"configuration: {place}: {said}" if place else f"configuration: {said}", file=sys.stderr)
    except ValueError as error:
        print(f"configuration: {error}", file=sys.stderr)
    raise SystemExit(EX_CONFIG)


def bus_of(settings: ServiceSettings, service: str, broker: MemoryBroker | None = None) -> Bus:
    """The adapter that AMQP_URL asks for; `broker` is the one in this process, for memory://."""
    url = settings.amqp_url.get_secret_value()
    if url == MEMORY:
        if broker is None:
            raise BadConfiguration(
                "AMQP_URL=memory:// works only where all services share one process (make run); "
                "give this process a broker: amqp://user:password@host:5672/"
            )
        from messaging.memory import MemoryBus

        return _signing(MemoryBus(broker, service=service), settings)
    from messaging.rabbitmq import RabbitBus

    try:
        bus = RabbitBus(
            url,
            service=service,
            connect_timeout=settings.start_timeout,
            passive=settings.passive_topology,
        )
    except ValueError as error:
        raise BadConfiguration(f"AMQP_URL: {error}") from error
    return _signing(bus, settings)


def _signing(bus: Bus, settings: ServiceSettings) -> Bus:
    """The bus, behind one that signs where AMENDS_SIGNING says so."""
    key = settings.own_key
    if key is None:
        return bus
    # Where nobody signs, nobody loads what it takes.
    from messaging.signing import Signer, SigningBus

    try:
        return SigningBus(bus, Signer(key))
    except UnusableKey as error:
        raise BadConfiguration(f"AMENDS_SIGNING_KEY: {error}") from error


class HttpServer(uvicorn.Server):
    """uvicorn without its own signal handling: the process's belongs to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_server(service: Service) -> HttpServer:
    """The HTTP server of one service, with TLS where it has a certificate. Raises BadConfiguration."""
    settings = service.settings
    try:
        config = _config(service.http, **https.options(settings))
        config.load()
    except (OSError, ValueError) as error:
        raise BadConfiguration(https.complaint(settings, error)) from error
    return HttpServer(config)


def health_server(service: Service) -> HttpServer:
    """The one beside it, without TLS, that serves health and nothing else."""
    return HttpServer(_config(service.health))


def _config(app: ASGIApp, **tls: Any) -> uvicorn.Config:
    return uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=5, **tls)


def main(settings: ServiceSettings, name: str, make: Callable[[], Sequence[Service]]) -> int:
    """Run services until a signal; returns the exit code. One clear line for what a user can mend."""
    logging.configure(name, settings.log_level, settings.log_format)
    log = structlog.get_logger()
    for variable, meant in misspelled(type(settings), os.environ).items():
        log.warning("unknown_setting", variable=variable, did_you_mean=meant)
    try:
        with exporting(name):
            return asyncio.run(serve(make))
    except (BusUnavailable, DatabaseUnavailable) as error:
        log.error("dependency_unavailable", error=str(error))
        return EX_UNAVAILABLE
    except _MISTAKES as error:
        log.error("bad_configuration", error=str(error))
        return EX_CONFIG
    except KeyboardInterrupt:
        return EX_INTERRUPTED


class Running:
    """Services that run with their HTTP servers: `urls` by service name, `health_urls` of those with such a port."""

    def __init__(self, services: Sequence[Service]) -> None:
        self.services = tuple(services)
        self.urls: dict[str, str] = {}
        self.health_urls: dict[str, str] = {}
        self._servers: list[HttpServer] = []
        self._serving: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        faces: list[tuple[HttpServer, socket.socket]] = []
        with ExitStack() as taken:
            for service in self.services:
                server, bound = http_server(service), taken.enter_context(listen(service))
                self.urls[service.name] = _url(service, bound)
                faces.append((server, bound))
                if service.settings.health_port is not None:
                    bound = taken.enter_context(listen(service, health=True))
                    self.health_urls[service.name] = _url(service, bound, health=True)
                    faces.append((health_server(service), bound))
            # All can be had: they are the servers' to close now.
            taken.pop_all()
        for server, bound in faces:
            self._servers.append(server)
            # Health answers before the dependencies do: a process that waits for its broker is alive, not ready.
            self._serving.append(asyncio.create_task(server.serve(sockets=[bound]), name="http"))
        return self

    async def start(self) -> None:
        """Start every service; see `Service.start` for what it raises."""
        for service in self.services:
            await service.start()

    async def failed(self) -> None:
        """Return when an HTTP server ends; raise what a service has died of."""
        failing = [asyncio.create_task(service.failed()) for service in self.services]
        try:
            await first_of(*failing, *self._serving)
        finally:
            for task in failing:
                task.cancel()

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        # HTTP goes on answering (`/readyz`: draining) until the work in hand is done, so that nobody is cut off.
        ended = await asyncio.gather(*(service.finish() for service in self.services), return_exceptions=True)
        ended += await asyncio.gather(*(service.flush() for service in self.services), return_exceptions=True)
        for server in self._servers:
            server.should_exit = True
        await asyncio.gather(*self._serving, return_exceptions=True)
        # Whoever was answered meanwhile has committed; otherwise his event would wait for a sweeper's patience.
        ended += await asyncio.gather(*(service.flush() for service in self.services), return_exceptions=True)
        ended += await asyncio.gather(*(service.close() for service in self.services), return_exceptions=True)
        for each in ended:
            if each is None or each is error:
                continue
            if error is None:
                raise each
            # What it ends with is told by whoever started it; this came of it, or came on top.
            structlog.get_logger().error("ended_badly", exc_info=each)


async def serve(make: Callable[[], Sequence[Service]], ready: Callable[[Running], None] | None = None) -> int:
    """Start services, serve their HTTP, call `ready`, drain on the first signal; returns the exit code."""
    stop = asyncio.Event()
    seen: list[int] = []

    def on_signal(number: int) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    with loading.uncollected():
        # The drivers of the database and the broker are loaded with the first that is opened.
        services = make()
    with loading.seldom_collected():
        async with Running(services) as running:
            stopping = asyncio.create_task(stop.wait())
            starting = asyncio.create_task(running.start())
            tasks: list[asyncio.Task[None] | asyncio.Task[Literal[True]]] = [stopping, starting]
            try:
                await first_of(starting, stopping)
                if not stop.is_set():
                    if ready is not None:
                        ready(running)
                    tasks.append(asyncio.create_task(running.failed()))
                    await first_of(tasks[-1], stopping)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    return EX_INTERRUPTED if signal.SIGINT in seen else 0


def _url(service: Service, bound: socket.socket, *, health: bool = False) -> str:
    host, port = bound.getsockname()[:2]
    scheme = "http" if health or service.settings.http_certificate is None else "https"
    return f"{scheme}://{host}:{port}"


def listen(service: Service, *, health: bool = False) -> socket.socket:
    """A bound socket for the service's HTTP, or for its health; raises BadConfiguration where the address is taken."""
    settings = service.settings
    port = settings.health_port or 0 if health else settings.port
    try:
        bound = socket.create_server((settings.host, port), backlog=1024)
    except OSError as error:
        mend = "set HOST and PORT to an address that is free (PORT=0 picks one)"
        if health:
            mend = "set AMENDS_HEALTH_PORT to a port that is free (0 picks one), another for each service"
        elif settings.in_memory:
            mend = "set HOST, and PORT to the first of three ports that are free (PORT=0 picks some)"
        raise BadConfiguration(
            f"{service.name} cannot listen on {settings.host}:{port}: {os.strerror(error.errno or 0)}; {mend}"
        ) from error
    said = "listening_for_probes" if health else "listening"
    structlog.get_logger().info(said, name=service.name, url=_url(service, bound, health=health))
    return bound


async def first_of(*tasks: asyncio.Task[None] | asyncio.Task[Literal[True]]) -> None:
    """Wait for the first to end, and raise what it died of."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
