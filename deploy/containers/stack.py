"""deploy/compose.yaml as a running stack: brought up, looked at, and its services stopped, killed and replaced."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from deploy.containers.engine import BUILD_SECONDS, CommandFailed, Engine
from deploy.containers.images import ROOT
from deploy.servers.process import HOST

FILE = ROOT / "deploy" / "compose.yaml"
REPLACE = ROOT / "deploy" / "replace.sh"
SERVICES = ("orchestrator", "order", "payment")
UP_SECONDS = 300.0
HEALTHY_SECONDS = 120.0


class Stack:
    """A project of Compose with a name and ports of its own, so that it lies beside a user's."""

    def __init__(self, engine: Engine, ports: Mapping[str, int], overrides: Sequence[Path], name: str) -> None:
        self._engine = engine
        self._files = (FILE, *overrides)
        self._name = name
        self.ports = ports
        self.tags: dict[str, str] = {}
        self.variables: dict[str, str] = {}

    def url(self, service: str) -> str:
        return f"http://{HOST}:{self.ports[service]}"

    def compose(
        self, *arguments: str, seconds: float = UP_SECONDS, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker compose ARGUMENTS` for this stack. Raises CommandFailed."""
        return self._engine.run("compose", *arguments, seconds=seconds, environment=self._environment, check=check)

    @property
    def _environment(self) -> dict[str, str]:
        """The variables that a user exports."""
        return {
            "COMPOSE_PROJECT_NAME": self._name,
            "COMPOSE_FILE": os.pathsep.join(map(str, self._files)),
            **{f"PORT_{name.upper()}": str(port) for name, port in self.ports.items()},
            **self.variables,
            **{f"TAG_{name.upper()}" if name else "TAG": tag for name, tag in self.tags.items()},
        }

    def build(self) -> None:
        """Build all images of ours, as `up --build` does."""
        self.compose("build", seconds=BUILD_SECONDS)

    def up(self) -> None:
        """Everything up and healthy. Raises CommandFailed with what Compose and the containers said."""
        try:
            self.compose("up", "--wait", "--no-build")
        except CommandFailed as error:
            logs = self.compose("logs", "--tail", "15", "--no-color", check=False).stdout
            raise CommandFailed(f"{error}\n{logs}") from error

    def observe(self, *, grafana: bool) -> None:
        """The services again, with traces, and what looks at them: docker compose --profile observability up."""
        self.variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://collector:4318"
        services = ["prometheus", "collector", *SERVICES, *(["grafana"] if grafana else [])]
        self.compose("--profile", "observability", "up", "--detach", "--wait", "--no-build", "--no-deps", *services)

    def down(self) -> None:
        """Remove it with its volumes."""
        with suppress(CommandFailed):
            self.compose("--profile", "observability", "down", "--volumes", "--timeout", "5", "--remove-orphans")

    def replace(self, service: str, tag: str) -> None:
        """Give one service another version of its image, as deploy/replace.sh does. Raises CommandFailed."""
        self.tags[service] = tag
        ended = subprocess.run(
            ["sh", str(REPLACE), service],
            env={**self._engine.environment, **self._environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )
        if ended.returncode != 0:
            raise CommandFailed(f"{REPLACE.name} {service} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")

    def endings(self, service: str, since: float) -> list[tuple[float, float]]:
        """When its processes got SIGTERM, and when they had ended, of those that Docker has ended since then.

        Docker keeps its latest 256 events only, and each health check is three. Raises CommandFailed where one has
        ended of which no event says that it was told to.
        """
        words = [
            f"label=com.docker.compose.{key}={value}" for key, value in (("project", self._name), ("service", service))
        ]
        said = self._engine.says(
            *("events", "--since", f"{since:.3f}", "--until", f"{time.time():.3f}", "--format", "{{json .}}"),
            *(word for each in ("event=kill", "event=die", *words) for word in ("--filter", each)),
        )
        told: dict[str, float] = {}
        found: list[tuple[float, float]] = []
        for event in map(json.loads, said.splitlines()):
            at, container = event["timeNano"] / 1e9, event["Actor"]["ID"]
            if event["Action"] != "die":
                told.setdefault(container, at)
            elif container in told:
                found.append((told[container], at))
            else:
                raise CommandFailed(f"a process of {service} has ended, and nothing says that Docker told it to")
        return found

    def prune(self, service: str, *words: str) -> str:
        """What `prune` of a service says, as its role for pruning. Raises CommandFailed."""
        return self.compose("run", "--rm", "--no-deps", f"prune-{service}", "prune", *words).stdout.strip()

    def migrate(self, tag: str) -> None:
        """Run the migrations of that version."""
        self.tags["migrate"] = tag
        self.compose("run", "--rm", "--no-deps", "migrate")

    def container(self, service: str) -> str:
        """The id of its one container. Raises CommandFailed where there is none."""
        found = self.compose("--profile", "observability", "ps", "--all", "--quiet", service).stdout.split()
        if len(found) != 1:
            raise CommandFailed(f"{service} has {len(found)} containers, not one")
        return found[0]

    def stop(self, service: str) -> tuple[float, int]:
        """`docker compose stop`: how many seconds it took, and the exit code of the service."""
        container, began = self.container(service), time.monotonic()
        self.compose("stop", service)
        took = time.monotonic() - began
        return took, int(self._engine.inspected(container)["State"]["ExitCode"])

    def start(self, service: str) -> None:
        self.compose("start", service)
        self.healthy(service)

    def kill(self, service: str) -> None:
        """SIGKILL for its first process, as when the machine runs out of memory: Docker has not asked for it."""
        pid = int(self._engine.inspected(self.container(service))["State"]["Pid"])
        os.kill(pid, signal.SIGKILL)

    def restarts(self, service: str) -> int:
        return int(self._engine.inspected(self.container(service))["RestartCount"])

    def restarted(self, service: str, more_than: int) -> None:
        """Return when Docker has started it again by itself, and it is healthy. Raises CommandFailed."""
        self._until(lambda: self.restarts(service) > more_than, f"{service} was not started again by Docker")
        self.healthy(service)

    def healthy(self, service: str) -> None:
        """Return when its health check says so. Raises CommandFailed after a while."""
        container = self.container(service)

        def is_healthy() -> bool:
            state = self._engine.inspected(container)["State"]
            return bool(state["Running"]) and state["Health"]["Status"] == "healthy"

        self._until(is_healthy, f"{service} did not become healthy")

    def logs(self, service: str) -> str:
        said = self._engine.run("logs", self.container(service))
        return said.stdout + said.stderr

    def python(self, service: str, code: str) -> subprocess.CompletedProcess[str]:
        """Run a line of Python inside the running container."""
        return self._engine.run("exec", self.container(service), "python", "-c", code, check=False)

    def once(self, service: str, *words: str, seconds: float = UP_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run a module in a new container of that service, with its secrets, and remove it."""
        return self.compose(
            *("run", "--rm", "--no-deps", "--entrypoint", "python", service, *words), seconds=seconds, check=False
        )

    def inspected(self, service: str) -> dict[str, Any]:
        """What Docker says of its container."""
        return self._engine.inspected(self.container(service))

    def sql(self, database: str, query: str, **given: str) -> str:
        """The one value that a query gives; `:'name'` in it stands for what is given."""
        variables = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
        words = ["psql", "--no-psqlrc", "-Atq", "--username=postgres", f"--dbname={database}", *variables]
        ended = self._engine.run("exec", "--interactive", self.container("postgres"), *words, stdin=query.encode())
        return ended.stdout.strip()

    def status_of(self, service: str) -> Mapping[str, str]:
        """What the kernel says of its first process: /proc/PID/status."""
        pid = self._engine.inspected(self.container(service))["State"]["Pid"]
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        return {name: re.sub(r"\s+", " ", value).strip() for name, _, value in (line.partition(":") for line in lines)}

    def _until(self, holds: Callable[[], bool], otherwise: str) -> None:
        give_up = time.monotonic() + HEALTHY_SECONDS
        while not holds():
            if time.monotonic() > give_up:
                raise CommandFailed(otherwise)
            time.sleep(0.2)
