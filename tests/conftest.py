"""Where tests find a broker and a database: `make test` starts both and says so in the environment.

TEST_AMQP_URL, TEST_DATABASE_URL  running servers; tests make and drop databases of their own in the latter
TEST_RABBITMQCTL                  a `rabbitmqctl` for the broker; with it every test gets a vhost of its own,
                                  without it Amends' exchanges and queues in the given vhost are deleted
                                  before each test
"""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import aio_pika
import pytest
import structlog
import yarl
from sqlalchemy.engine import make_url

from messaging.topology import COLLECTED_QUEUE, COMMANDS, DEAD_LETTER_QUEUE, DEAD_LETTERS, EVENTS
from tests.databases import Databases
from tests.sharing import pytest_collection_modifyitems, pytest_xdist_auto_num_workers, pytest_xdist_make_scheduler

__all__ = ["pytest_collection_modifyitems", "pytest_xdist_auto_num_workers", "pytest_xdist_make_scheduler"]

_IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
_VHOSTS_AT_ONCE = 20

# Erlang, because rabbitmqctl takes half a second a call and each vhost needs two.
_ADD_VHOSTS = """
lists:foreach(fun(Name) ->
    ok = rabbit_vhost:add(Name, <<"tests">>),
    ok = rabbit_auth_backend_internal:set_permissions(
        <<"{user}">>, Name, <<".*">>, <<".*">>, <<".*">>, <<"tests">>)
end, [{names}]).
"""


def pytest_report_header() -> list[str]:
    """Say at the top which servers the tests have."""
    consequence = "tests that need it fail" if _IN_CI else "tests that need it are SKIPPED; `make test` starts one"
    return [
        f"{what}: {'given' if os.environ.get(variable) else f'none, {consequence}'} ({variable})"
        for what, variable in (("broker", "TEST_AMQP_URL"), ("database", "TEST_DATABASE_URL"))
    ]


def _given(variable: str, what: str) -> str:
    value = os.environ.get(variable)
    if value:
        return value
    reason = f"needs {what}: run it with `make test`, or let {variable} name one"
    if _IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_configure() -> None:
    """Tables are as wide as each test says, whatever the terminal's width is that a shell has exported."""
    os.environ.pop("COLUMNS", None)


def pytest_collection_finish() -> None:
    """Modules and collected tests stay to the end: to look for garbage among them again and again takes long.

    A test that counts what is left behind collects three times for each of its measurements.
    """
    gc.collect()
    gc.freeze()
    # Hypothesis draws from what it finds written in the modules that are loaded: what `derandomize` promises to repeat
    # would depend on which other tests a process has collected. No setting, profile or database of its says otherwise
    # (6.170): only this name does, and a version without it ends every run here.
    providers = sys.modules.get("hypothesis.internal.conjecture.providers")
    if providers is not None:
        nothing = providers.Constants()
        assert callable(providers._get_local_constants)
        providers._get_local_constants = lambda: nothing  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that a test runs in this process sets up its logging, on an output that is closed after the test."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A loopback port at which nobody listens, and which nobody else is given while the test runs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


@pytest.fixture(scope="session")
def broker_url() -> str:
    """The broker all tests share; most want `amqp_url` instead."""
    return _given("TEST_AMQP_URL", "a RabbitMQ broker")


@pytest.fixture(scope="session")
def fresh_vhost(broker_url: str) -> Callable[[], str] | None:
    """The URL of another empty vhost at each call; None where the broker's control is not ours."""
    control = os.environ.get("TEST_RABBITMQCTL")
    if not control:
        return None
    url = yarl.URL(broker_url)
    run = uuid4().hex[:8]
    ready: list[str] = []
    made = 0

    def take() -> str:
        nonlocal made
        if not ready:
            names = [f"{run}-{number}" for number in range(made, made + _VHOSTS_AT_ONCE)]
            quoted = ", ".join(f'<<"{name}">>' for name in names)
            script = _ADD_VHOSTS.format(user=url.user, names=quoted)
            subprocess.run([control, "eval", script], check=True, capture_output=True, timeout=180)
            made += len(names)
            ready.extend(reversed(names))
        return str(url.with_path("/" + quote(ready.pop(), safe=""), encoded=True))

    return take


@pytest.fixture
async def amqp_url(broker_url: str, fresh_vhost: Callable[[], str] | None) -> AsyncIterator[str]:
    """A broker on which Amends has not declared anything yet."""
    if fresh_vhost is not None:
        yield fresh_vhost()
        return
    await _forget_amends(broker_url)
    yield broker_url


async def _forget_amends(url: str) -> None:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        queues = [
            f"{service}.{kind}" for service in ("order", "payment", "orchestrator") for kind in ("commands", "events")
        ]
        for queue in (*queues, DEAD_LETTER_QUEUE, COLLECTED_QUEUE):
            await channel.queue_delete(queue)
        for exchange in (EVENTS, COMMANDS, DEAD_LETTERS):
            await channel.exchange_delete(exchange)


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Those that tests on PostgreSQL are lent; all dropped at the end."""
    server = make_url(_given("TEST_DATABASE_URL", "a PostgreSQL database")).set(drivername="postgresql")
    made = Databases(server)
    yield made
    made.drop()


@pytest.fixture
def fresh_postgres(databases: Databases) -> Iterator[Callable[[], str]]:
    """Another empty PostgreSQL database at each call, for tests that need several."""
    taken: list[str] = []

    def take() -> str:
        taken.append(databases.take())
        return databases.at(taken[-1]).render_as_string(hide_password=False)

    yield take
    for name in taken:
        databases.give_back(name)


@pytest.fixture
def postgres_url(fresh_postgres: Callable[[], str]) -> str:
    """An empty PostgreSQL database of the test's own."""
    return fresh_postgres()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite database of the test's own: a file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'amends.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of the test's own: the test runs on SQLite and on PostgreSQL."""
    # Asked for by name, so that the SQLite half needs no PostgreSQL.
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url
