"""python -m deploy.up: the three services as three processes, on RabbitMQ and PostgreSQL.

AMQP_URL and DATABASE_URL name a broker and a PostgreSQL server (each service gets a database of its own there,
made when it is missing); what they do not name is started for as long as this runs, with throw-away data. Everything
else in the environment reaches the services as it is. Ctrl-C drains and ends them; a service that ends by itself
takes the others with it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass

import asyncpg
import httpx
import typer
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from deploy.servers import PostgresServer, RabbitServer, ServerUnavailable, free_ports
from messaging.commandline import without_password
from messaging.environment import from_file

HOST = "127.0.0.1"
READY_SECONDS = 90.0
STOP_SECONDS = 30.0
"""Longer than a service takes to drain (AMENDS_DRAIN_TIMEOUT)."""
LONGEST_LINE = 1 << 24

app = typer.Typer(help="The three services as three processes.", add_completion=False, rich_markup_mode=None)

_COLORS = {"orchestrator": "36", "order": "32", "payment": "35"}
_ORDER = '{"customer_id": "ada", "currency": "USD", "lines": [{"sku": "CD", "quantity": 1, "amount": 1499}]}'


class CannotStart(Exception):
    """The services cannot be brought up; says why and what to do. `code` is the exit code."""

    def __init__(self, reason: str, code: int = 69) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Service:
    """One of the processes: `python -m module`, with its HTTP port and its database."""

    name: str
    module: str
    port: int
    database: str

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True, slots=True)
class Backends:
    """Where the broker is, and the database of each service by its name."""

    amqp_url: str
    database_urls: Mapping[str, str]


def services() -> tuple[Service, ...]:
    """The three, on their usual ports, or on free ones where those are taken."""
    return (
        Service("orchestrator", "orchestrator", _port(8000), "amends_orchestrator"),
        Service("order", "services.order", _port(8001), "amends_order"),
        Service("payment", "services.payment", _port(8002), "amends_payment"),
    )


def _port(usual: int) -> int:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, usual))
        except OSError:
            return free_ports(1)[0]
        return usual


def backends(stack: ExitStack, environment: Mapping[str, str], wanted: Sequence[Service]) -> Backends:
    """The broker and the databases the environment names; servers of our own, in `stack`, for the rest.

    Raises CannotStart or ServerUnavailable.
    """
    rabbit = None if environment.get("AMQP_URL") else stack.enter_context(RabbitServer())
    postgres = None if environment.get("DATABASE_URL") else stack.enter_context(PostgresServer())
    own = [server for server in (rabbit, postgres) if server is not None]
    if own:
        print("Starting a broker and a database with throw-away data …", flush=True)
    for server in own:
        server.launch()
    for server in own:
        server.wait()
    amqp_url = environment["AMQP_URL"] if rabbit is None else rabbit.url
    if postgres is not None:
        return Backends(amqp_url, {each.name: postgres.create_database(each.database) for each in wanted})
    given = _postgres_url(environment["DATABASE_URL"])
    asyncio.run(_create_missing(given, [each.database for each in wanted]))
    return Backends(
        amqp_url,
        {each.name: given.set(database=each.database).render_as_string(False) for each in wanted},
    )


def _postgres_url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise CannotStart("DATABASE_URL is no URL; write postgresql://user:password@host/name", 78) from error
    if url.get_backend_name() != "postgresql":
        raise CannotStart(
            f"DATABASE_URL names {url.get_backend_name()}; three processes need PostgreSQL. "
            "On SQLite all three run in one process: make run",
            78,
        )
    return url.set(drivername="postgresql")


async def _create_missing(server: URL, names: Sequence[str]) -> None:
    where = server.render_as_string(hide_password=True)
    try:
        connection = await asyncpg.connect(server.render_as_string(hide_password=False), timeout=30)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise CannotStart(f"{where} (DATABASE_URL) cannot be reached: {error}") from error
    try:
        for name in names:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
    except asyncpg.InsufficientPrivilegeError as error:
        raise CannotStart(
            f"{where} does not let us make the databases {', '.join(names)}; make them, or grant CREATEDB"
        ) from error
    finally:
        await connection.close()


class Fleet:
    """The running services, their lines of log under each other, each with its name in front."""

    def __init__(self, wanted: Sequence[Service]) -> None:
        self.services = wanted
        self._processes: dict[str, Process] = {}
        self._printers: list[asyncio.Task[None]] = []
        self._color = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    async def start(self, found: Backends, environment: Mapping[str, str]) -> None:
        """Start all; `ready` waits until they are of use."""
        for service in self.services:
            # A session of its own: Ctrl-C at the terminal reaches us only, and one signal means drain, two mean now.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", service.module),
                env={**environment, **self._settings(service, found)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                limit=LONGEST_LINE,
                start_new_session=True,
            )
            self._processes[service.name] = process
            self._printers.append(asyncio.create_task(self._print(service.name, process)))

    async def ready(self) -> None:
        """Return when every service says it is ready.

        Raises CannotStart naming the one that is not after READY_SECONDS.
        """
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            for service in self.services:
                await self._ready(client, service)

    async def first_to_end(self) -> tuple[str, int]:
        """Wait for a service to end by itself; its name and exit code."""
        waiting = {asyncio.create_task(process.wait()): name for name, process in self._processes.items()}
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            ended = done.pop()
            return waiting[ended], ended.result()
        finally:
            for task in waiting:
                task.cancel()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every service that runs."""
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(number)

    async def stop(self) -> None:
        """SIGTERM, wait until they have drained, and kill what has not ended by then."""
        self.signal(signal.SIGTERM)
        endings = [asyncio.create_task(process.wait()) for process in self._processes.values()]
        if endings:
            _, late = await asyncio.wait(endings, timeout=STOP_SECONDS)
            if late:
                self.signal(signal.SIGKILL)
                await asyncio.wait(late)
        await asyncio.gather(*self._printers)

    def _settings(self, service: Service, found: Backends) -> dict[str, str]:
        settings = {
            "AMQP_URL": found.amqp_url,
            "DATABASE_URL": found.database_urls[service.name],
            "HOST": HOST,
            "PORT": str(service.port),
            "PYTHONUNBUFFERED": "1",
        }
        defaults = {"AMENDS_MIGRATE_ON_START": "true"}
        if sys.stdout.isatty():
            # The service sees our pipe, not the person behind it.
            defaults["AMENDS_LOG_FORMAT"] = "console"
        return {name: os.environ.get(name, value) for name, value in defaults.items()} | settings

    async def _ready(self, client: httpx.AsyncClient, service: Service) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await _answers(client, f"{service.address}/readyz"):  # noqa: ASYNC110 - it is another process
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise CannotStart(
                f"{service.name} was not ready after {READY_SECONDS:g} s; its log above says why"
            ) from error

    async def _print(self, name: str, process: Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it was started with a pipe
        prefix = f"{name:<12} | "
        if self._color:
            prefix = f"\033[{_COLORS[name]}m{prefix}\033[0m"
        async for line in process.stdout:
            sys.stdout.write(prefix + line.decode(errors="replace"))
            sys.stdout.flush()


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).is_success
    except httpx.TransportError:
        return False


async def run(found: Backends, wanted: Sequence[Service], environment: Mapping[str, str]) -> int:
    """Run the services until a signal comes or one of them ends; the exit code."""
    fleet = Fleet(wanted)
    asked = asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            # A second one: the services exit at once when they get theirs twice.
            fleet.signal(signal.SIGTERM)
        asked.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ask)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(fleet.stop)
        await fleet.start(found, environment)
        return await _watch(fleet, asked, _welcome(wanted, commands(found, wanted, environment)))


async def _watch(fleet: Fleet, asked: asyncio.Event, welcome: str) -> int:
    stopping = asyncio.create_task(asked.wait())
    ending = asyncio.create_task(fleet.first_to_end())
    getting_ready = asyncio.create_task(fleet.ready())
    tasks = (stopping, ending, getting_ready)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if getting_ready.done():
            getting_ready.result()
            print(welcome, flush=True)
            await asyncio.wait((stopping, ending), return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            print("Stopping: finishing what was begun …", flush=True)
            return 0
        name, code = ending.result()
        how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
        print(f"amends: {name} ended {how}; its log above may say why; stopping the others", file=sys.stderr)
        return code if code > 0 else 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def commands(found: Backends, wanted: Sequence[Service], environment: Mapping[str, str]) -> str:
    """Lines for another terminal. The passwords of servers that are thrown away may be read here; nobody else's."""
    (order,) = (each.address for each in wanted if each.name == "order")
    database, broker = found.database_urls["orchestrator"], found.amqp_url
    if environment.get("DATABASE_URL"):
        database = without_password(database)
    if environment.get("AMQP_URL"):
        broker = without_password(broker)
    yours = "  # with your password for ***\n"
    return (
        f"  export DATABASE_URL={database}\n{yours if '***' in database else ''}"
        f"  export AMQP_URL={broker}\n{yours if '***' in broker else ''}"
        "  .venv/bin/amends list\n"
        f"  ORDER_URL={order} .venv/bin/python -m services.order place orders.csv\n\n"
    )


def _welcome(wanted: Sequence[Service], commands: str) -> str:
    addresses = {each.name: each.address for each in wanted}
    return (
        f"\n  orchestrator {addresses['orchestrator']}/readyz\n"
        f"  orders       {addresses['order']}/docs\n"
        f"  payments     {addresses['payment']}/audit\n\n"
        f"  curl -i {addresses['order']}/orders -H 'Content-Type: application/json' \\\n"
        f"       -d '{_ORDER}'\n\n"
        "  From another terminal:\n"
        f"{commands}"
        "  Ctrl-C stops everything.\n"
    )


@app.command()
def up() -> None:
    """Run orchestrator, order and payment on RabbitMQ and PostgreSQL until Ctrl-C, or until one of them ends.

    AMQP_URL and DATABASE_URL name the servers, or AMQP_URL_FILE and DATABASE_URL_FILE files that do; what they do not
    name is started, with throw-away data. Exit codes: 0 when stopped, 69 when a server or a service is not to be had,
    78 when a setting cannot work.

    Example: AMQP_URL=amqp://guest:guest@127.0.0.1/ python -m deploy.up
    """
    raise typer.Exit(_up(services()))


def environment() -> dict[str, str]:
    """Ours, where AMQP_URL_FILE and DATABASE_URL_FILE stand for what their files say. Raises CannotStart."""
    found = dict(os.environ)
    for name in ("AMQP_URL", "DATABASE_URL"):
        try:
            content = None if found.get(name) else from_file(name)
        except ValueError as error:
            raise CannotStart(str(error), 78) from error
        if content:
            found[name] = content
    return found


def _up(wanted: Sequence[Service]) -> int:
    try:
        with ExitStack() as stack:
            given = environment()
            found = backends(stack, given, wanted)
            return asyncio.run(run(found, wanted, given))
    except ServerUnavailable as error:
        print(f"amends: {error}", file=sys.stderr)
        return 69
    except CannotStart as error:
        print(f"amends: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    app(prog_name="python -m deploy.up")
