"""What `amends new service` writes, as its own page says to run it: built, brought up, asked, ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from deploy.containers.engine import BUILD_SECONDS, CommandFailed, Engine
from deploy.servers import free_ports
from deploy.servers.process import HOST
from orchestrator.scaffolding.naming import Naming
from orchestrator.scaffolding.project import service, write

NAME = "newcomer"
OTHERS = ("rabbitmq:4.2-management",)
"""Images of others that its compose file names, and ours does not."""
UP_SECONDS = 300.0
# An engine of our own has no bridge; nothing in this build needs a network.
_OVERRIDE = f"services: {{migrate: {{build: {{network: host}}}}, {NAME}: {{build: {{network: host}}}}}}\n"


def try_newcomer(engine: Engine) -> str:
    """Write a project, build its image on ours, and run it with its own compose file. Raises CommandFailed."""
    with _written() as place:
        port, broker = free_ports(2)
        files = os.pathsep.join(str(place / name) for name in ("compose.yaml", "override.yaml"))
        environment = {
            "COMPOSE_FILE": files,
            "COMPOSE_PROJECT_NAME": f"amends-trial-{NAME}",
            f"PORT_{NAME.upper()}": str(port),
            "PORT_RABBITMQ": str(broker),
        }
        try:
            engine.run("compose", "up", "--build", "--wait", seconds=BUILD_SECONDS, environment=environment)
            with httpx.Client(timeout=10, trust_env=False) as http:
                http.get(f"http://{HOST}:{port}/readyz").raise_for_status()
            (container,) = engine.run("compose", "ps", "--quiet", NAME, environment=environment).stdout.split()
            user = engine.says("exec", container, "python", "-c", "import os; print(os.getuid())")
            engine.run("compose", "stop", NAME, seconds=UP_SECONDS, environment=environment)
            code = engine.inspected(container)["State"]["ExitCode"]
        except CommandFailed as error:
            said = engine.run("compose", "logs", "--tail", "15", environment=environment, check=False).stdout
            raise CommandFailed(f"{error}\n{said}") from error
        finally:
            with suppress(CommandFailed):
                engine.run("compose", "down", "--volumes", "--rmi", "local", "--timeout", "5", environment=environment)
                engine.run("rmi", f"{NAME}:0.1.0", check=False)
    if (user, code) != ("10001", 0):
        raise CommandFailed(f"it ran as {user} and ended with {code}")
    return "its image built on ours, its tables migrated, ready on a broker and a database of its own; ended with 0"


@contextmanager
def _written() -> Iterator[Path]:
    with TemporaryDirectory(prefix="amends-newcomer-") as folder:
        place = Path(folder)
        write(service(Naming(NAME), port=8010, version=version("amends")), place)
        (place / "override.yaml").write_text(_OVERRIDE, encoding="utf-8")
        yield place
