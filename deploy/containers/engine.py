"""A Docker engine, found or started, and its command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from deploy.servers.process import ServerUnavailable

START_SECONDS = 60.0
STOP_SECONDS = 60.0
BUILD_SECONDS = 1200.0
PLUGIN = Path("/usr/libexec/docker/cli-plugins/docker-compose")


class CommandFailed(Exception):
    """A command of Docker ended with something else than 0; says which, and the end of what it printed."""


class Engine:
    """Docker's command line for one engine.

    `config` is its configuration directory, where the compose plugin may lie.
    """

    def __init__(self, program: str, host: str | None, config: Path) -> None:
        self._program = program
        self._environment = dict(os.environ) | {"COMPOSE_PROGRESS": "plain", "COMPOSE_ANSI": "never"}
        if host is not None:
            self._environment |= {"DOCKER_HOST": host, "DOCKER_CONFIG": str(config)}
        self.config = config

    @property
    def environment(self) -> Mapping[str, str]:
        """With which `docker` speaks to this engine, and has Compose."""
        return self._environment

    def run(
        self,
        *arguments: str,
        seconds: float = 120.0,
        environment: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker ARGUMENTS`. Raises CommandFailed when it fails and `check` is set, or takes too long."""
        command = [self._program, *arguments]
        try:
            ended = subprocess.run(
                command,
                env=self._environment | dict(environment or {}),
                input=stdin if stdin is not None else b"",
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"`{' '.join(command)}` took longer than {seconds:g} s") from error
        out, complaint = ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace")
        if check and ended.returncode != 0:
            end = "\n".join(f"{out}\n{complaint}".strip().splitlines()[-25:])
            raise CommandFailed(f"`{' '.join(command)}` ended with {ended.returncode}:\n{end}")
        return subprocess.CompletedProcess(command, ended.returncode, out, complaint)

    def says(self, *arguments: str, seconds: float = 120.0) -> str:
        """What `docker ARGUMENTS` prints. Raises CommandFailed."""
        return self.run(*arguments, seconds=seconds).stdout.strip()

    def inspected(self, what: str) -> dict[str, Any]:
        """What `docker inspect` says of a container or an image. Raises CommandFailed where there is none."""
        found: list[dict[str, Any]] = json.loads(self.says("inspect", what))
        return found[0]

    def load(self, archive: IO[bytes], name: str) -> None:
        """Make an image of a root file system's archive. Raises CommandFailed."""
        ended = subprocess.run(
            [self._program, "import", "-", name], env=self._environment, stdin=archive, capture_output=True, check=False
        )
        if ended.returncode != 0:
            raise CommandFailed(f"`docker import` ended with {ended.returncode}: {ended.stderr.decode()}")

    def has_image(self, name: str) -> bool:
        return self.run("image", "inspect", name, check=False).returncode == 0

    @property
    def answers(self) -> bool:
        with suppress(CommandFailed, OSError):
            return self.run("version", "--format", "{{.Server.Version}}", seconds=15, check=False).returncode == 0
        return False

    @property
    def composes(self) -> bool:
        """Whether it has Compose 2."""
        with suppress(CommandFailed):
            version = self.run("compose", "version", "--short", check=False).stdout.strip().lstrip("v")
            return version[:1].isdigit() and int(version.partition(".")[0]) >= 2
        return False


# Blocks until our end of the pipe closes, which the kernel does however we die; dockerd then ends its containers.
_WATCHDOG = 'read -r _; kill -TERM "$1" 2>/dev/null'


class OwnEngine:
    """A Docker engine of one's own: data and socket lie in `directory`; it ends when we do, and its containers with it.

    Started without a bridge of its own, and without turning the machine into a router: each stack brings its network,
    and builds use the machine's.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self._directory / 'docker.sock'}"

    def start(self, engine: Engine) -> None:
        """Start it and wait until it answers. Raises ServerUnavailable with the end of its log."""
        program = shutil.which("dockerd") or "/usr/sbin/dockerd"
        if os.geteuid() != 0 or not Path(program).exists():
            raise ServerUnavailable(
                "no Docker engine answers, and none can be started (that takes root and dockerd); start one, or as "
                "root: sh deploy/setup.sh containers"
            )
        self._directory.mkdir(parents=True, exist_ok=True)
        command = [
            program,
            *("--host", self.host),
            *("--data-root", str(self._directory / "data")),
            *("--exec-root", str(self._directory / "exec")),
            *("--pidfile", str(self._directory / "docker.pid")),
            "--bridge=none",
            "--ip-forward=false",
        ]
        with self.log.open("wb") as log:
            # A session of its own: a Ctrl-C at the terminal reaches us, and we say when it goes.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "watchdog", str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        give_up = time.monotonic() + START_SECONDS
        while not engine.answers:
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise ServerUnavailable(f"dockerd did not come up; its log ends so:\n{self._last_words()}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Ask it to end, and wait; its images stay for the next time."""
        process, watchdog = self._process, self._watchdog
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait(STOP_SECONDS)
        if watchdog is not None and watchdog.stdin is not None:
            watchdog.kill()
            watchdog.wait()
            watchdog.stdin.close()
        self._process = self._watchdog = None
        self._unmount()

    def _unmount(self) -> None:
        """Let go of the name of its network, which dockerd leaves mounted: nobody could remove the folder."""
        below = f"{self._directory / 'exec'}/"
        mounts = [line.split()[1].replace("\\040", " ") for line in Path("/proc/self/mounts").read_text().splitlines()]
        for place in mounts:
            if place.startswith(below):
                subprocess.run(["umount", place], check=True)

    def _last_words(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def command_line(candidates: Sequence[str] = ("/usr/bin/docker", "docker")) -> str:
    """Docker's program. Raises ServerUnavailable where there is none."""
    for each in candidates:
        if (found := shutil.which(each)) is not None:
            return found
    raise ServerUnavailable("Docker is not installed; install it, or as root: sh deploy/setup.sh containers")
