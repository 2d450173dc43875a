"""A service as an operating-system process: signals, the HTTP server, exit codes.

0 ended well · 69 a dependency is unavailable · 78 bad configuration · 130 interrupted. SIGTERM and the first SIGINT drain;
a second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import structlog
import uvicorn
from pydantic import ValidationError
from sqlalchemy.exc import ArgumentError

from messaging import logging
from messaging.bus import Bus, BusUnavailable, TopologyMismatch
from messaging.memory_broker import MemoryBroker
from messaging.migrate import MigrationsPending
from messaging.service import DatabaseUnavailable, Service
from messaging.settings import MEMORY, ServiceSettings

EX_UNAVAILABLE = 69
EX_CONFIG = 78
EX_INTERRUPTED = 130

S = TypeVar("S", bound=ServiceSettings)


class BadConfiguration(Exception):
    """A setting that cannot work; says which, and how to mend it."""


def load(settings: type[S], **given: object) -> S:
    """Read the settings; ends the process with 78 and one line a problem where they are wrong."""
    try:
        return settings(**given)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            print(f"configuration: {'.'.join(map(str, each['loc']))}: {each['msg']}", file=sys.stderr)
    except (ValueError, ArgumentError) as error:
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

        return MemoryBus(broker, service=service)
    from messaging.rabbitmq import RabbitBus

    try:
        return RabbitBus(
            url,
            service=service,
            connect_timeout=settings.start_timeout,
            passive=settings.passive_topology,
        )
    except ValueError as error:
        raise BadConfiguration(f"AMQP_URL: {error}") from error


class HttpServer(uvicorn.Server):
    """uvicorn without its own signal handling: the process's belongs to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_server(service: Service) -> HttpServer:
    """The HTTP server of one service."""
    config = uvicorn.Config(
        service.http,
        host=service.settings.host,
        port=service.settings.port,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=5,
    )
    return HttpServer(config)


def main(settings: ServiceSettings, name: str, make: Callable[[], Sequence[Service]]) -> int:
    """Run services until a signal; returns the exit code. One clear line for what a user can mend."""
    logging.configure(name, settings.log_level, settings.log_format)
    log = structlog.get_logger()
    try:
        return asyncio.run(serve(make))
    except (BusUnavailable, DatabaseUnavailable) as error:
        log.error("dependency_unavailable", error=str(error))
        return EX_UNAVAILABLE
    except (BadConfiguration, MigrationsPending, TopologyMismatch) as error:
        log.error("bad_configuration", error=str(error))
        return EX_CONFIG
    except KeyboardInterrupt:
        return EX_INTERRUPTED


async def serve(make: Callable[[], Sequence[Service]]) -> int:
    """Start services, serve their HTTP, drain on the first signal."""
    services = make()
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
    servers = [http_server(service) for service in services]
    serving: list[asyncio.Task[None]] = []
    try:
        # Health answers before the dependencies do: a process that waits for its broker is alive, not ready.
        serving = [asyncio.create_task(server.serve(), name="http") for server in servers]
        starting = asyncio.create_task(_start_all(services))
        stopping = asyncio.create_task(stop.wait())
        await _first(starting, stopping, *serving)
        if not stop.is_set():
            failing = [asyncio.create_task(service.failed()) for service in services]
            await _first(stopping, *failing, *serving)
        else:
            starting.cancel()
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*(service.drain() for service in services))
        await asyncio.gather(*serving, return_exceptions=True)
    return EX_INTERRUPTED if signal.SIGINT in seen else 0


async def _start_all(services: Sequence[Service]) -> None:
    for service in services:
        await service.start()


async def _first(*tasks: asyncio.Task[None] | asyncio.Task[bool]) -> None:
    """Wait for the first to end, and raise what it died of."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
