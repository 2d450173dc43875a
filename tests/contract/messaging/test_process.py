"""A service as a process of its own: exit codes, secrets, health, signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import aio_pika
import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url

from messaging import migrate, schema
from messaging.bus import Outgoing, Receipt
from messaging.database import Database
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from messaging.rabbitmq import RabbitBus
from tests.contract.messaging.bench import NOON
from tests.contract.messaging.parcels import Pack

ROOT = Path(__file__).parents[3]
SECRET = "s3cr3t-w0rd"
PATIENCE = 60.0
NOBODY = "127.0.0.1:9"
"""The discard port: nobody listens there."""

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


class Program:
    """A Python program with nothing in its environment but what is given."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self.log = directory / "stderr.txt"
        self._out = directory / "stdout.txt"
        with self.log.open("wb") as err, self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "AMENDS_START_TIMEOUT": "1"} | environment,
                cwd=directory,
                stdout=out,
                stderr=err,
            )

    def end(self) -> tuple[int, str]:
        """The exit code, and everything it has said."""
        code = self.process.wait(PATIENCE)
        return code, self.said

    @property
    def said(self) -> str:
        return self._out.read_text() + self.log.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it has logged, one JSON object a line; not one that is just being written and has no end yet."""
        return [json.loads(line) for line in self.log.read_text().split("\n")[:-1] if line.startswith("{")]

    def wait_for(self, what: Callable[[], Any]) -> Any:
        """Wait until it has said so; fails at once when it has ended instead."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = what()
            if found:
                return found
            assert self.process.poll() is None, self.said
            time.sleep(0.02)
        raise AssertionError(self.said)

    def logged(self, event: str) -> dict[str, Any] | None:
        """The first line of this event, if it has come."""
        return next((each for each in self.events if each["event"] == event), None)

    def close(self) -> None:
        """Whatever it was doing."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Start programs; all are gone afterwards."""
    started: list[Program] = []

    def go(*arguments: str, **environment: str) -> Program:
        directory = tmp_path / str(len(started))
        directory.mkdir()
        started.append(Program(directory, *arguments, **environment))
        return started[-1]

    yield go
    for each in started:
        each.close()


_CASES: list[tuple[str, dict[str, str], int, str]] = [
    ("orchestrator", {"DATABASE_URL": f"postgresql://u:{SECRET}@{NOBODY}/d"}, 69, "does not answer"),
    ("services.order", {"DATABASE_URL": "sqlite:////proc/x.db"}, 69, "sqlite:////proc/x.db cannot be used: unable to"),
    ("services.order", {"AMQP_URL": f"http://u:{SECRET}@h/"}, 78, "AMQP_URL: this is no AMQP URL; write amqp://user:"),
    ("services.payment", {"AMQP_URL": f"amqp://u:{SECRET}@{NOBODY}/"}, 69, "dependency_unavailable"),
    ("services.order", {"AMQP_URL": f"amqps://u:{SECRET}@h/?cafile=/none"}, 78, "AMQP_URL: cafile /none is not there;"),
    ("services.payment", {"AMENDS_HTTP_KEY": "/none"}, 78, "AMENDS_HTTP_KEY is set and AMENDS_HTTP_CERTIFICATE is not"),
    ("services.order", {"AMQP_URL": "memory://"}, 78, "works only where all services share one process"),
    ("services.order", {"AMQP_URL_FILE": "no/such"}, 78, "AMQP_URL_FILE=no/such cannot be read: No such file or dir"),
    ("services.order", {"DATABASE_URL_FILE": "/dev/null"}, 78, "DATABASE_URL_FILE=/dev/null is empty; write"),
    ("services.payment", {"PORT": "70000"}, 78, "configuration: PORT: Input should be less than or equal to 65535"),
    ("orchestrator", {"AMENDS_LOG_LEVEL": "loud"}, 78, "configuration: AMENDS_LOG_LEVEL"),
    ("services.order", {"HOST": "192.0.2.1"}, 78, "cannot listen on 192.0.2.1"),
]


@pytest.mark.parametrize(("module", "environment", "code", "words"), _CASES)
def test_a_process_that_cannot_run_says_why_in_one_line(
    start: Start, module: str, environment: dict[str, str], code: int, words: str
) -> None:
    """The exit code tells a missing dependency from a mistake; the line tells how to mend it, and no secret."""
    ended, said = start(module, **({"PORT": "0"} | environment)).end()

    assert (ended, words in said) == (code, True), said
    assert SECRET not in said
    assert "Traceback" not in said


def test_a_port_that_is_taken_is_bad_configuration(start: Start) -> None:
    """The line names the address and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended, said = start("services.order", PORT=port, AMQP_URL=f"amqp://g:g@{NOBODY}/").end()

    assert ended == 78
    assert f"order cannot listen on 127.0.0.1:{port}: Address already in use; set HOST and PORT" in said


@pytest.mark.parametrize("command", [("services.order",), ("services.order", "migrate")])
def test_a_file_that_is_no_database_is_bad_configuration(
    start: Start, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """It may be read and written well enough: the line says that it is another kind of file."""
    file = tmp_path / "orders.csv"
    file.write_text("order_ref,customer_id,quantity,amount\n" * 50, encoding="utf-8")

    ended, said = start(*command, PORT="0", DATABASE_URL=f"sqlite:///{file}").end()

    assert ended == 78
    assert f"sqlite:///{file} is no SQLite database; set DATABASE_URL to one" in said


def test_a_misspelled_variable_is_said_at_start(start: Start) -> None:
    """Once, with the name that was meant, by a service and by the command that shows its settings."""
    _, said = start("services.order", PORT="0", AMQP_URL=f"amqp://g:g@{NOBODY}/", AMENDS_BATCHSIZE="1").end()
    assert said.count("AMENDS_BATCHSIZE") == 1
    assert '"did_you_mean": "AMENDS_BATCH_SIZE"' in said
    ended, said = start("services.order", "config", AMENDS_BATCHSIZE="1").end()
    assert ended == 0
    assert "AMENDS_BATCHSIZE is no setting; did you mean AMENDS_BATCH_SIZE?\n" in said


def test_tables_that_are_not_at_head_are_bad_configuration(start: Start, postgres_url: str) -> None:
    """On PostgreSQL nobody migrates by the way; the line says which command does."""
    ended, said = start("services.order", PORT="0", DATABASE_URL=postgres_url).end()

    assert ended == 78
    assert "messaging is at none, services.order is at none" in said
    assert "run `python -m services.order migrate` first" in said
    assert "Database(" not in said


def test_a_wrong_password_and_a_missing_database_are_unavailable(start: Start, postgres_url: str) -> None:
    """The server's own words reach the reader, and what to mend; the password does not."""
    url = make_url(postgres_url)
    for wrong, words in (
        (url.set(password=SECRET), f"refuses user {url.username!r}: password authentication failed"),
        (url.set(database="nowhere"), "does not exist; make it, or set DATABASE_URL to one that is"),
    ):
        given = wrong.render_as_string(hide_password=False)
        ended, said = start("services.order", PORT="0", DATABASE_URL=given).end()
        assert (ended, words in said) == (69, True), said
        assert SECRET not in said
        assert "sqlalche.me" not in said
        ended, said = start("services.order", "migrate", DATABASE_URL=given).end()
        assert (ended, words in said) == (69, True), said
        assert SECRET not in said


def test_migrate_says_what_it_did_and_may_be_repeated(start: Start, postgres_url: str) -> None:
    """One line each time, on stdout."""
    for _ in range(2):
        ended, said = start("services.payment", "migrate", DATABASE_URL=postgres_url).end()
        assert (ended, said.splitlines()[0].endswith(": messaging, services.payment at head")) == (0, True), said
    ended, said = start("messaging", "migrate", DATABASE_URL=postgres_url).end()
    assert (ended, said.splitlines()[0].endswith(": messaging at head")) == (0, True), said


def test_config_shows_every_setting_and_no_secret(start: Start, tmp_path: Path) -> None:
    """A secret may come from a file; what is shown of it is where it leads, not what it is."""
    secret = tmp_path / "secret"
    secret.write_text(f"postgresql://shop:{SECRET}@db.example/shop\n")
    ended, said = start(
        "services.order",
        "config",
        DATABASE_URL_FILE=str(secret),
        AMQP_URL=f"amqp://shop:{SECRET}@broker.example/",
        AMENDS_BATCH_SIZE="50",
        AMENDS_OUTBOX_GRACE="2.5",
    ).end()

    assert ended == 0
    assert SECRET not in said
    for line in (
        "DATABASE_URL=postgresql://shop:***@db.example/shop",
        "AMQP_URL=amqp://shop:***@broker.example/",
        "AMENDS_BATCH_SIZE=50",
        "AMENDS_OUTBOX_GRACE=2.5",
    ):
        assert line in said.splitlines()


async def _http(program: Program, path: str) -> tuple[int, Any]:
    listening = await asyncio.to_thread(program.wait_for, lambda: program.logged("listening"))
    async with httpx.AsyncClient(base_url=listening["url"], timeout=PATIENCE, trust_env=False) as client:
        answer = await client.get(path)
        return answer.status_code, answer.json()


async def test_health_answers_while_the_service_still_waits_for_its_broker(start: Start) -> None:
    """Alive and not ready are two things; SIGTERM ends the wait with 0."""
    program = start("services.order", PORT="0", AMQP_URL=f"amqp://g:g@{NOBODY}/", AMENDS_START_TIMEOUT="60")

    assert await _http(program, "/healthz") == (200, {"service": "order", "status": "ok"})
    status, body = await _http(program, "/readyz")
    assert (status, body["status"], body["waiting_for"]["starting"]) == (503, "not ready", "not started yet")

    program.process.send_signal(signal.SIGTERM)
    assert (await asyncio.to_thread(program.end))[0] == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_a_running_service_is_ready_and_ends_well(
    start: Start, amqp_url: str, number: signal.Signals, code: int
) -> None:
    """Ready once it consumes; then the signal, a drain, and the exit code that belongs to it."""
    program = start("services.payment", PORT="0", AMQP_URL=amqp_url, AMENDS_START_TIMEOUT="30")
    await asyncio.to_thread(program.wait_for, lambda: program.logged("started"))

    async with asyncio.timeout(PATIENCE):
        while (answer := await _http(program, "/readyz"))[0] != 200:  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.05)
    assert answer == (200, {"service": "payment", "status": "ready", "waiting_for": {}})
    program.process.send_signal(number)
    ended, said = await asyncio.to_thread(program.end)

    assert ended == code
    assert "Traceback" not in said
    assert [each["event"] for each in program.events][-3:] == ["draining", "worker_ended", "stopped"]
    assert all({"event", "level", "timestamp", "service"} <= each.keys() for each in program.events)


@pytest.fixture
async def slow(start: Start, amqp_url: str, sqlite_url: str) -> AsyncIterator[tuple[Program, RabbitBus, Database]]:
    """A participant whose handler ends when a file is there, and a bus to send it a command."""
    database = Database(sqlite_url)
    await migrate.upgrade(database, [migrate.MESSAGING])
    program = start(
        "messaging",
        "serve",
        "tests.contract.messaging.slow:slow",
        PORT="0",
        AMQP_URL=amqp_url,
        DATABASE_URL=sqlite_url,
        AMENDS_START_TIMEOUT="30",
    )
    await asyncio.to_thread(program.wait_for, lambda: program.logged("started"))
    bus = RabbitBus(amqp_url, service="tester")
    await bus.start()
    yield program, bus, database
    program.close()
    await bus.close()
    await database.close()
    # A command that was cut off lies there still, and the next test on this broker would find it.
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.queue_delete("slow_depot.commands")


async def _send(bus: RabbitBus, gate: Path) -> None:
    command = Pack(parcel="p1", note=str(gate))
    envelope = Envelope(UUID(int=7), command.wire_type, 1, "tester", NOON)
    message = Outgoing(
        exchange="amends.commands",
        routing_key=command.wire_type,
        message_id=str(envelope.id),
        body=encode(envelope, command).encode(),
        type=command.wire_type,
        timestamp=NOON,
        app_id="tester",
        content_type=CONTENT_TYPE,
    )
    assert list(await bus.publish([message])) == [Receipt.CONFIRMED]


async def test_sigterm_lets_the_batch_in_hand_finish(slow: tuple[Program, RabbitBus, Database], tmp_path: Path) -> None:
    """What was begun, and is not done when the drain begins, is committed, and the process ends with 0."""
    program, bus, database = slow
    await _send(bus, gate := tmp_path / "gate")
    await asyncio.to_thread(program.wait_for, lambda: "begun p1" in program.said)
    program.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(program.wait_for, lambda: program.logged("draining"))
    async with database.reading() as connection:
        assert (await connection.execute(select(schema.inbox))).all() == []
    gate.touch()
    ended, said = await asyncio.to_thread(program.end)

    assert ended == 0, said
    async with database.reading() as connection:
        (row,) = (await connection.execute(select(schema.inbox))).all()
    assert (row.message_id, row.status, row.answer_type) == (UUID(int=7), "done", "parcel.packed")


async def test_a_second_signal_ends_the_process_at_once(
    slow: tuple[Program, RabbitBus, Database], tmp_path: Path
) -> None:
    """Who insists is obeyed: no drain, 128 and the signal's number, nothing committed."""
    program, bus, database = slow
    await _send(bus, tmp_path / "never")
    await asyncio.to_thread(program.wait_for, lambda: "begun p1" in program.said)
    program.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(program.wait_for, lambda: program.logged("draining"))
    program.process.send_signal(signal.SIGTERM)
    # A drain would end with 0, and not before the handler does.
    ended, _ = await asyncio.to_thread(program.end)

    assert ended == 143
    async with database.reading() as connection:
        assert (await connection.execute(select(schema.inbox))).all() == []
