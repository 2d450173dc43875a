"""docs/deploy.md, followed word by word."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from deploy.containers.engine import CommandFailed
from deploy.containers.images import ROOT
from deploy.containers.stack import SERVICES

PAGE = ROOT / "docs" / "deploy.md"
PAGE_SECONDS = 900.0
PROFILE = "--profile observability"
_PORTS = {"8000": "orchestrator", "8001": "order", "8002": "payment", "9090": "prometheus"}


def commands(*, grafana: bool) -> list[str]:
    """The page's `sh` blocks in order; what is told of the profile without Grafana where that is not to be had."""
    found: list[str] = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    named = " ".join(("prometheus", "collector", *SERVICES))
    return [
        block if grafana else block.replace(f"{PROFILE} up --wait", f"{PROFILE} up --wait {named}") for block in found
    ]


def follow(environment: Mapping[str, str], ports: Mapping[str, int], override: Path, *, grafana: bool) -> str:
    """Run the page's commands in one shell; what they printed.

    Ports are others than the page's, which somebody may be using, and builds reach packages as this machine does.
    Raises CommandFailed with the end of what was printed.
    """
    script = "\n".join(commands(grafana=grafana))
    script = script.replace("COMPOSE_FILE=deploy/compose.yaml", f"COMPOSE_FILE=deploy/compose.yaml:{override}")
    for port, name in _PORTS.items():
        script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ports[name]}")
    ended = subprocess.run(
        ["sh", "-eux", "-c", script],
        cwd=ROOT,
        env=dict(environment) | {f"PORT_{name.upper()}": str(port) for name, port in ports.items()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=PAGE_SECONDS,
        check=False,
    )
    if ended.returncode != 0:
        end = "\n".join(ended.stdout.splitlines()[-40:])
        raise CommandFailed(f"the commands of {PAGE.relative_to(ROOT)} ended with {ended.returncode}:\n{end}")
    return ended.stdout
