"""The other engines: where their programs are, how each is started, and what it said."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import floor
from benchmarks.system import NotMeasurable

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = ROOT / ".venv-peers"
_SERVERS = ENVIRONMENT / "node_modules" / "@restatedev"


@dataclass(frozen=True, slots=True)
class Measured:
    """One round of one engine: sagas a second, CPU milliseconds a saga by process, and how it was set."""

    sagas_per_second: float
    cpu_ms: Mapping[str, float]
    settings: Mapping[str, str]


class Absent(Exception):
    """An engine is not installed; says what is missing."""


@dataclass(frozen=True, slots=True)
class Engine:
    """One of them, and what the figure has to be read with."""

    key: str
    name: str
    shape: str
    concurrency: int

    def command(self, database_url: str, count: int) -> list[str]:
        """How one round of it is run. Raises Absent."""
        python = ENVIRONMENT / "bin" / "python"
        if not python.exists():
            raise Absent(f"{python} is not there; make bench-peers installs it")
        first = database_url if self.key == "dbos" else str(_restate_server())
        module = f"benchmarks.peers.{self.key}_saga"
        return ["env", f"PYTHONPATH={ROOT}", str(python), "-m", module, first, str(count), str(self.concurrency)]


def engines(dbos: int, restate: int) -> tuple[Engine, ...]:
    """All of them, with how many sagas each has at a time."""
    return (
        Engine("dbos", "DBOS Transact", "one process; PostgreSQL", dbos),
        Engine("restate", "Restate", "one server, one process of handlers", restate),
    )


async def run(engine: Engine, amqp_url: str, database_url: str, count: int) -> Measured:
    """One round. Raises Absent; NotMeasurable where it fails or a saga did not end as it had to."""
    output = await floor.output_of(shlex.join(engine.command(database_url, count)), amqp_url, database_url)
    try:
        said = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise NotMeasurable(f"{engine.name} printed no figures, but {output[-300:]!r}") from error
    if said["findings"]:
        raise NotMeasurable(f"{engine.name} did not do the work right: {'; '.join(said['findings'])}")
    cpu = {name: seconds / count * 1000 for name, seconds in said["cpu_s"].items()}
    return Measured(float(said["sagas_per_second"]), cpu, said["settings"])


def _restate_server() -> Path:
    found = sorted(_SERVERS.glob("restate-server-*/bin/restate-server"))
    if not found:
        raise Absent(f"no restate-server in {_SERVERS}; make bench-peers installs it, and needs npm")
    return found[0]
