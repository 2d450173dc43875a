"""python -m benchmarks.starting: how long a process takes until it is ready, and what it costs until then.

Each service is started by itself on servers that know it already (tables at head, queues declared), as after a deploy
of the same version; then some commands of `amends`, which end by themselves.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import exits, goals, machine
from benchmarks.system import READY_SECONDS, NotMeasurable, System, open_system

SERVICES = {
    "orchestrator": "orchestrator.cli.running",
    "order": "services.order.assembly",
    "payment": "services.payment.assembly",
}
"""Each with the module that brings all others."""
LOOK_SECONDS = 0.01
"""How often a process is asked whether it is ready: what the wall clock is rounded up to."""

LOADED = "from messaging import loading\nwith loading.uncollected():\n    import messaging.commandline, "
AMENDS = "from orchestrator.cli import script; script()"
COMMANDS = (("--help",), ("list",))
"""Of `amends`, each with the orchestrator's database."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds on the clock and seconds of CPU until ready (or ended), resident bytes then."""

    wall: float
    cpu: float
    rss: int


def main(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Starts of each; the table shows the median.")] = 5,
    output: Annotated[Path, typer.Option("--json", help="Where the figures are written.")] = goals.RECORDS
    / "starting.json",
) -> None:
    """Measure starts: from exec to the first 200 of /readyz, and of commands from exec to their end.

    Exit codes: 0 measured, 1 a process did not start, 69 no server to be had.
    """
    began, described = machine.now(), machine.described()
    with exits.told(), ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-starting-")))
        system, _ = open_system(stack, os.environ, logs)
        stack.callback(system.stop)
        measured = _measure(system, rounds)
    found = {name: _median(starts) for name, starts in measured.items()}
    _draw(found, rounds)
    slowest = max(SERVICES, key=lambda name: found[name].wall)
    document = {
        "program": "starting",
        "at": began,
        "machine": described,
        "goals": goals.as_json({"start": goals.Reached(found[slowest].wall, slowest)}),
        "figures": {name: asdict(each) for name, each in found.items()},
    }
    goals.write(output, document)


def _measure(system: System, rounds: int) -> Mapping[str, Sequence[Start]]:
    # The first start makes the queues, and compiles what has no bytecode yet.
    system.start()
    asyncio.run(system.ready())
    system.stop()
    measured: dict[str, list[Start]] = defaultdict(list)
    for _ in range(rounds):
        for name in SERVICES:
            measured[name].append(_service(system, name))
        for name, module in SERVICES.items():
            measured[f"{name}: its modules"].append(_ended(LOADED + module))
        for words in COMMANDS:
            measured[f"amends {' '.join(words)}"].append(
                _ended(AMENDS, *words, DATABASE_URL=system.databases["orchestrator"])
            )
    return measured


def _service(system: System, name: str) -> Start:
    before = time.monotonic()
    system.start(name)
    try:
        url = urlsplit(system.address(name))
        while not _ready(url.netloc):
            system.check()
            if time.monotonic() - before > READY_SECONDS:
                raise NotMeasurable(f"{name} was not ready after {READY_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)
        wall = time.monotonic() - before
        usage = system.watched(name).usage()
        return Start(wall, usage.cpu[name], usage.rss[name])
    finally:
        system.stop()


def _ready(address: str) -> bool:
    asking = http.client.HTTPConnection(address, timeout=5)
    try:
        asking.request("GET", "/readyz")
        return asking.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        asking.close()


def _ended(program: str, *words: str, **environment: str) -> Start:
    before, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        [sys.executable, "-c", program, *words], env={**os.environ, **environment}, capture_output=True, check=False
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise NotMeasurable(f"{program!r} {' '.join(words)} ended with {ended.returncode}: {ended.stderr.decode()}")
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return Start(time.monotonic() - before, cpu, 0)


def _median(starts: Sequence[Start]) -> Start:
    return Start(
        round(median(each.wall for each in starts), 3),
        round(median(each.cpu for each in starts), 3),
        round(median(each.rss for each in starts)),
    )


def _draw(found: Mapping[str, Start], rounds: int) -> None:
    table = Table(title=f"until ready, or ended (medians of {rounds})", title_justify="left")
    for name in ("", "seconds", "of CPU", "MiB"):
        table.add_column(name, justify="left" if not name else "right")
    for name, start in found.items():
        resident = f"{start.rss / 2**20:.0f}" if start.rss else ""
        table.add_row(name, f"{start.wall:.2f}", f"{start.cpu:.2f}", resident)
    Console(soft_wrap=True).print(table)


if __name__ == "__main__":
    typer.run(main)
