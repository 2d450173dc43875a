"""Images: those of others, pulled or stood in for by Debian's packages, and ours, built as a user builds them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.containers.engine import BUILD_SECONDS, PLUGIN, CommandFailed, Engine
from deploy.servers.process import ServerUnavailable

ROOT = Path(__file__).parents[2]
STANDINS = Path(__file__).with_name("standins")
SUITE = "trixie"
DEBIAN = "amends-standin/debian"
COMPOSE = "amends-standin/compose"
TARGETS = ("orchestrator", "order", "payment", "migrate")
PULL_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Provided:
    """An image of somebody else's, and how we came by it: `pulled`, `there`, or a `stand-in` of Debian's packages."""

    name: str
    how: str


def provide(engine: Engine, names: Sequence[str]) -> list[Provided]:
    """See to it that these are there.

    Raises ServerUnavailable where one can neither be pulled nor be stood in for.
    """
    return [_provided(engine, name) for name in names]


def provide_if_possible(engine: Engine, name: str) -> Provided | None:
    """The same for one that can be done without; None where it is not to be had."""
    if _file_of(name) is None and not engine.has_image(name) and not _pulled(engine, name):
        return None
    return _provided(engine, name)


def _provided(engine: Engine, name: str) -> Provided:
    if engine.has_image(name):
        made = _made_of(engine, name)
        if made is None:
            return Provided(name, "there")
        if made == _digest():
            return Provided(name, "stand-in")
    elif _pulled(engine, name):
        return Provided(name, "pulled")
    _stand_in(engine, name)
    return Provided(name, "stand-in")


def provide_compose(engine: Engine) -> None:
    """See to it that the engine's command line has Compose 2. Raises ServerUnavailable, or CommandFailed."""
    if engine.composes:
        return
    _stand_in(engine, COMPOSE)
    plugins = engine.config / "cli-plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    container = engine.says("create", COMPOSE, "true")
    try:
        engine.run("cp", f"{container}:{PLUGIN}", str(plugins / PLUGIN.name))
    finally:
        engine.run("rm", container)
    if not engine.composes:
        raise ServerUnavailable(f"{plugins / PLUGIN.name} does not run here; install Docker's compose plugin")


def build_override(directory: Path) -> Path:
    """A compose file that lets builds reach packages the way this machine does: its network, its pip.conf."""
    lines = ["services:"]
    secrets = _pip_secrets(directory)
    for target in TARGETS:
        lines += [f"  {target}:", "    build:", "      network: host"]
        lines += [f"      secrets: [{', '.join(secrets)}]"] if secrets else []
    if secrets:
        lines += ["secrets:", *(f"  {name}: {{file: {path}}}" for name, path in secrets.items())]
    file = directory / "compose.build.yaml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def megabytes(engine: Engine, image: str) -> float:
    """How large an image is, all its layers, unpacked."""
    return float(engine.inspected(image)["Size"]) / 1e6


def _pulled(engine: Engine, name: str) -> bool:
    try:
        return engine.run("pull", "--quiet", name, seconds=PULL_SECONDS, check=False).returncode == 0
    except CommandFailed:
        return False


def _made_of(engine: Engine, name: str) -> str | None:
    """What a stand-in was made of; None where it is the image itself."""
    labels: dict[str, str] = engine.inspected(name)["Config"].get("Labels") or {}
    return labels.get("amends.standin")


def _digest() -> str:
    """Of what stand-ins are made of now: one of an earlier checkout is made anew."""
    files = sorted(path for path in STANDINS.iterdir() if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _file_of(image: str) -> Path | None:
    """What a stand-in is made by; None where there is none."""
    file = STANDINS / f"{image.rpartition('/')[2].partition(':')[0]}.Dockerfile"
    return file if file.exists() else None


def _stand_in(engine: Engine, name: str) -> None:
    file = _file_of(name)
    if file is None:
        raise ServerUnavailable(f"the image {name} cannot be pulled, and there is no stand-in for it")
    if not engine.has_image(DEBIAN):
        _import_debian(engine)
    engine.run(
        *("build", "--network", "host", "--label", f"amends.standin={_digest()}"),
        *("--file", str(file), "--tag", name, str(STANDINS)),
        seconds=BUILD_SECONDS,
        # The builder that every version has; there is nothing here that the newer one does better.
        environment={"DOCKER_BUILDKIT": "0"},
    )


def _import_debian(engine: Engine) -> None:
    """A minimal Debian as an image, made where no image can be pulled. Raises ServerUnavailable."""
    program = shutil.which("debootstrap")
    if program is None or os.geteuid() != 0:
        raise ServerUnavailable("images cannot be pulled, and debootstrap is not here: sh deploy/setup.sh containers")
    with tempfile.TemporaryDirectory(prefix="amends-debian-") as folder:
        command = [program, "--variant=minbase", SUITE, folder, *_mirror()]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise ServerUnavailable(f"debootstrap failed:\n{made.stdout[-1500:]}{made.stderr[-500:]}")
        shutil.rmtree(Path(folder) / "var/cache/apt/archives", ignore_errors=True)
        with subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE) as archive:
            assert archive.stdout is not None  # noqa: S101 - it was started with a pipe
            engine.load(archive.stdout, DEBIAN)
        if archive.returncode != 0:
            raise ServerUnavailable(f"tar failed with {archive.returncode} on {folder}")


def _mirror() -> list[str]:
    """Where this machine gets Debian's packages, when it is a Debian; debootstrap knows another place."""
    for file in (*Path("/etc/apt/sources.list.d").glob("*.sources"), Path("/etc/apt/sources.list")):
        if file.exists():
            content = file.read_text(encoding="utf-8")
            found = re.search(r"^(?:URIs:|deb(?: \[[^\]]*\])?) *(\S+/debian)/?\b", content, re.MULTILINE)
            if found is not None:
                return [found[1]]
    return []


def _pip_secrets(directory: Path) -> Mapping[str, Path]:
    """This machine's pip settings as the secrets that deploy/Dockerfile takes; empty where it has none of its own."""
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    wanted: dict[str, str] = {}
    for line in said.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        # What names files of this machine means nothing inside.
        if key in ("index-url", "trusted-host", "proxy", "timeout") and "file:" not in value:
            wanted[key] = value.strip("'\"")
        if key == "cert":
            wanted[key] = value.strip("'\"")
    secrets = {}
    if certificate := wanted.get("cert"):
        wanted["cert"] = "/run/secrets/ca.pem"
        secrets["ca.pem"] = Path(certificate)
    if wanted:
        file = directory / "pip.conf"
        file.touch(mode=0o600)
        file.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in wanted.items()), "utf-8")
        secrets["pip.conf"] = file
    return secrets


_NEXT = """FROM {image}
USER 0
COPY next.py /tmp/next.py
RUN ["python", "/tmp/next.py"]
USER 10001:10001
"""


def make_next(engine: Engine, images: Sequence[str]) -> None:
    """Give these images a migration more, and take every shell out of them, so that whatever needs one fails."""
    for image in images:
        engine.run(
            *("build", "--network", "none", "--tag", image, "--file", "-", str(STANDINS)),
            stdin=_NEXT.format(image=image).encode(),
            environment={"DOCKER_BUILDKIT": "0"},
        )
        left = engine.run("run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", "true", check=False)
        if left.returncode == 0:
            raise ServerUnavailable(f"{image} still has a shell")
