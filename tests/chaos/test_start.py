"""Broker or database away at start: each process waits, says for what, and gives up with 69 when it takes too long."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from deploy.killing import System, three_processes, three_services
from deploy.up import Backends
from tests.chaos.waiting import eventually
from tests.contract.proxy import Proxy

SERVICES = ("orchestrator", "order", "payment")

Starts = Callable[[str, dict[str, str], dict[str, str]], System]


@pytest.fixture
def starts(tmp_path: Path) -> Iterator[Starts]:
    """Start the three processes on a broker and, by the services' names, a database each."""
    with ExitStack() as stack:

        def start(amqp_url: str, databases: dict[str, str], settings: dict[str, str]) -> System:
            environment = os.environ | {"AMENDS_LOG_FORMAT": "json"} | settings
            system = three_processes(Backends(amqp_url, databases), three_services("unused"), environment, tmp_path)
            stack.callback(system.stop)
            system.start()
            return system

        yield start


def _told(system: System, service: str, event: str) -> list[dict[str, Any]]:
    # Without the last piece: a line that is just being written has no end yet.
    lines = system.processes[service].log.read_text(encoding="utf-8").split("\n")[:-1]
    return [told for told in map(json.loads, lines) if told["event"] == event]


async def _all_end(system: System) -> dict[str, int | None]:
    async def ended() -> bool:
        return all(each.exit_code is not None for each in system.processes.values())

    assert await eventually(ended)
    return {each.name: each.exit_code for each in system.processes.values()}


@pytest.mark.parametrize("missing", ["broker", "database"])
async def test_what_stays_away_ends_the_process_with_69(
    starts: Starts, tmp_path: Path, deaf_port: int, missing: str
) -> None:
    """Without a broker or a database each process tries again until AMENDS_START_TIMEOUT and ends with exit code 69,
    having named the address, never the password.
    """
    amqp_url = f"amqp://amends:secret@127.0.0.1:{deaf_port}/"
    place = f"postgresql://amends:secret@127.0.0.1:{deaf_port}" if missing == "database" else f"sqlite:///{tmp_path}"
    began = time.monotonic()
    system = starts(amqp_url, {name: f"{place}/{name}" for name in SERVICES}, {"AMENDS_START_TIMEOUT": "8"})
    assert await _all_end(system) == {"orchestrator": 69, "order": 69, "payment": 69}
    assert time.monotonic() - began >= 8
    for service in SERVICES:
        waits = _told(system, service, f"waiting_for_{missing}")
        assert len(waits) >= 2
        assert all(f"127.0.0.1:{deaf_port}" in each[missing] for each in waits)
        (last,) = _told(system, service, "dependency_unavailable")
        assert f"127.0.0.1:{deaf_port}" in last["error"]
        assert "secret" not in system.processes[service].log.read_text(encoding="utf-8")


async def test_what_comes_late_is_waited_for(starts: Starts, amqp_url: str, fresh_postgres: Callable[[], str]) -> None:
    """Processes started before their database and their broker are not ready, say what they wait for, and get ready by
    themselves once both are there.
    """
    urls = {name: fresh_postgres() for name in SERVICES}
    async with Proxy(amqp_url) as broker, Proxy(urls["order"]) as database:
        await broker.refuse()
        await database.refuse()
        through = {name: str(URL(database.url).with_path(URL(url).path)) for name, url in urls.items()}
        system = starts(broker.url, through, {"AMENDS_START_TIMEOUT": "90"})

        async def all_wait_for(what: str) -> bool:
            return all(_told(system, service, f"waiting_for_{what}") for service in SERVICES)

        assert await eventually(partial(all_wait_for, "database"))
        await database.listen()
        assert await eventually(partial(all_wait_for, "broker"))
        await broker.listen()
        await system.ready()
    assert system.deserters() == []
