"""The servers that tests and benchmarks run on: they keep their data when killed, and never stay behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import psutil
import pytest

from deploy.servers import PostgresServer, RabbitServer, ServerUnavailable, free_ports

BOUND = 120.0

# Tells where the servers are and waits; ends by itself if nobody ends it.
REPORT_AND_WAIT = (
    "import os, time; print(os.environ['TEST_AMQP_URL'], os.environ['TEST_DATABASE_URL'], flush=True); "
    f"time.sleep({BOUND})"
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of its own for what servers write, through which other accounts may pass.

    pytest's own directories are closed to them, and PostgreSQL runs as another account when we are root.
    """
    with TemporaryDirectory(prefix="amends-test-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@pytest.fixture
def bare_environment(place: Path) -> dict[str, str]:
    """An environment that names no server."""
    named = ("TEST_AMQP_URL", "TEST_DATABASE_URL", "TEST_RABBITMQCTL")
    kept = {name: value for name, value in os.environ.items() if name not in named}
    return kept | {"TMPDIR": str(place)}


Wrapped = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def wrapped(bare_environment: dict[str, str]) -> Iterator[Wrapped]:
    """Run a Python program inside `python -m deploy.servers`, with these words before the `--`."""
    started: list[subprocess.Popen[str]] = []

    def run(program: str, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.servers", *words, "--", sys.executable, "-c", program],
            env=bare_environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=BOUND)


def _eventually(holds: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + BOUND
    while not holds():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


def _left_in(directory: Path) -> list[str]:
    """Files of servers in the directory, and processes that mention it."""
    files = [str(path) for path in directory.iterdir()]
    processes = [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if any(str(directory) in word for word in process.info["cmdline"] or ())
    ]
    return files + processes


def test_exit_code_is_the_commands(wrapped: Wrapped, place: Path) -> None:
    """The wrapper exits as its command did, and both servers are gone with their data."""
    program = (
        "import os, socket, sys; from urllib.parse import urlsplit\n"
        "for name in ('TEST_AMQP_URL', 'TEST_DATABASE_URL'):\n"
        "    url = urlsplit(os.environ[name])\n"
        "    socket.create_connection((url.hostname, url.port)).close()\n"
        "    print(url.hostname)\n"
        "sys.exit(7)"
    )
    wrapper = wrapped(program)
    output, complaints = wrapper.communicate(timeout=BOUND)
    assert wrapper.returncode == 7, complaints
    assert output == "127.0.0.1\n127.0.0.1\n"
    assert _left_in(place) == []


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)],
    ids=str,
)
def test_nothing_stays_behind(
    bare_environment: dict[str, str], wrapped: Wrapped, place: Path, number: signal.Signals, code: int
) -> None:
    """A wrapper that is ended by a signal, even SIGKILL, leaves no server and no file."""
    if number is not signal.SIGKILL:
        # It goes the way of a command that ends by itself; a broker, which takes seconds to start, has shown that one.
        bare_environment["TEST_AMQP_URL"] = "amqp://elsewhere/"
    wrapper = wrapped(REPORT_AND_WAIT)
    assert wrapper.stdout is not None
    addresses = wrapper.stdout.readline().split()
    assert [urlsplit(url).scheme for url in addresses] == ["amqp", "postgresql"], wrapper.communicate()
    (command,) = [child for child in psutil.Process(wrapper.pid).children() if child.cmdline()[0] == sys.executable]
    wrapper.send_signal(number)
    assert wrapper.wait(BOUND) == code
    if number is signal.SIGKILL:
        command.kill()
    wrapper.communicate()
    assert _eventually(lambda: _left_in(place) == []), _left_in(place)


def test_servers_named_already_are_used(bare_environment: dict[str, str], wrapped: Wrapped, place: Path) -> None:
    """Where the environment names both servers, none is started and the names reach the command unchanged."""
    given = {"TEST_AMQP_URL": "amqp://elsewhere/", "TEST_DATABASE_URL": "postgresql://elsewhere/db"}
    program = "import os; print(os.environ['TEST_AMQP_URL'], os.environ['TEST_DATABASE_URL'])"
    bare_environment |= given
    wrapper = wrapped(program)
    output, complaints = wrapper.communicate(timeout=BOUND)
    assert (wrapper.returncode, output) == (0, "amqp://elsewhere/ postgresql://elsewhere/db\n"), complaints
    assert _left_in(place) == []


@pytest.mark.parametrize(("words", "fsync"), [((), "on"), (("--no-fsync",), "off")])
def test_postgres_is_durable_unless_told_otherwise(
    bare_environment: dict[str, str], wrapped: Wrapped, words: tuple[str, ...], fsync: str
) -> None:
    """Only with --no-fsync does PostgreSQL not wait for the disk."""
    bare_environment["TEST_AMQP_URL"] = "amqp://elsewhere/"
    program = (
        "import os, psycopg\n"
        "with psycopg.connect(os.environ['TEST_DATABASE_URL']) as connection:\n"
        "    print(*connection.execute('SHOW fsync').fetchone())"
    )
    output, complaints = wrapped(program, *words).communicate(timeout=BOUND)
    assert output == f"{fsync}\n", complaints


@pytest.mark.parametrize("arguments", [(), ("--",), ("--no-fsync",), ("--no-fsync", "--"), ("--fsync", "--", "true")])
def test_words_that_start_nothing_are_refused(arguments: tuple[str, ...]) -> None:
    """Without a command, or with a word it does not know, the wrapper says how it is used, and ends with 2."""
    ended = subprocess.run(
        [sys.executable, "-m", "deploy.servers", *arguments], capture_output=True, text=True, timeout=BOUND, check=False
    )
    usage = "usage: python -m deploy.servers [--no-fsync] -- COMMAND [ARGUMENT ...]\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", usage)


@pytest.mark.parametrize("durable", [True, False])
async def test_postgres_keeps_what_it_committed_when_killed(durable: bool) -> None:
    """A row committed before kill -9 is there after the next start, at the same address, whoever waits for the disk."""
    with PostgresServer(durable=durable) as server:
        server.start()
        url = server.create_database("kept")
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TABLE kept (number int); INSERT INTO kept VALUES (42)")
        server.kill()
        connection.terminate()
        with pytest.raises(ServerUnavailable, match="PostgreSQL is not running"):
            _ = server.pid
        server.start()
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT number FROM kept") == 42
        await connection.close()


async def test_rabbitmq_keeps_what_it_confirmed_when_killed() -> None:
    """A persistent message confirmed before kill -9 is in its queue after the next start."""
    with RabbitServer() as server:
        server.start()
        async with await aio_pika.connect(server.url) as connection:
            channel = await connection.channel()
            # Not a quorum queue: one that is only seconds old finds no leader again (RabbitMQ 3.10 and 4.0).
            await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "classic"})
            message = aio_pika.Message(b"42", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, routing_key="kept")
        # RabbitMQ 3.10 answers a declaration before it is on the disk; what is confirmed is there.
        server.ctl("eval", "mnesia:sync_log().")
        server.kill()
        server.start()
        async with await aio_pika.connect(server.url) as connection:
            queue = await (await connection.channel()).get_queue("kept")
            received = await queue.get(timeout=BOUND)
            assert received.body == b"42"
            await received.ack()
        assert "kept\t0" in server.ctl("-q", "list_queues", "name", "messages")


async def test_rabbitmq_nodes_beside_each_other_are_a_cluster() -> None:
    """Once they have joined: what is published through the one is fetched through the other, as the same user."""
    with RabbitServer() as first, RabbitServer(beside=first) as second:
        first.start()
        second.start()
        second.join()
        async with await aio_pika.connect(first.url) as connection:
            channel = await connection.channel()
            await channel.declare_queue("shared", durable=True, arguments={"x-queue-type": "quorum"})
            await channel.default_exchange.publish(aio_pika.Message(b"42"), routing_key="shared")
        members = second.ctl("-q", "list_queues", "name", "members")
        assert first.node in members
        assert second.node in members
        async with await aio_pika.connect(second.url) as connection:
            queue = await (await connection.channel()).get_queue("shared")
            received = await queue.get(timeout=BOUND)
            assert received.body == b"42"
            await received.ack()
        with pytest.raises(ServerUnavailable, match="no RabbitMQ node beside"):
            first.join()


def test_a_port_that_was_given_away_is_not_given_to_anybody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether somebody listens there or not: who has it may be down for a moment."""
    first, second, third = free_ports(3, in_a_row=True)
    assert (second, third) == (first + 1, first + 2)
    drawn = iter((second, third, *range(third + 1, 32_000)))
    monkeypatch.setattr("random.randrange", lambda *_: next(drawn))
    assert free_ports(1)[0] > third


async def test_a_rabbitmq_that_cannot_start_says_why() -> None:
    """A node that ends while starting raises at once, with the end of its log."""
    with RabbitServer() as server:
        (server.control.parent / "rabbitmq.conf").write_text("no_such_setting = 1\n", encoding="utf-8")
        with pytest.raises(ServerUnavailable, match="no_such_setting"):
            server.start()
