"""deploy/Dockerfile and deploy/compose.yaml, as far as they can be judged without an engine."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.containers import images
from deploy.containers.stack import SERVICES
from tests.acceptance.pages import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
TARGETS = ("orchestrator", "order", "payment", "migrate")
PORTS = {"orchestrator": 8000, "order": 8001, "payment": 8002}


def _stages() -> dict[str, list[str]]:
    """The instructions of each stage, continued lines put together."""
    content = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\s*\\\n\s*", " ", content).splitlines():
        if (start := re.fullmatch(r"FROM (\S+) AS (\S+)", line)) is not None:
            instructions = found[start[2]] = [line]
        elif line.strip():
            instructions.append(line)
    return found


@pytest.fixture(scope="module")
def compose() -> Any:
    """deploy/compose.yaml, its variables as they are written."""
    return yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))


def test_the_linter_has_nothing_to_say() -> None:
    """hadolint, with all of its rules."""
    program = Path(sys.executable).with_name("hadolint")
    files = [DOCKERFILE]
    ended = subprocess.run([program, *map(str, files)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")


def test_every_service_has_a_target_of_the_same_kind() -> None:
    """A port, an entry point and a health check that need no shell; all on one base, as a user with a number."""
    stages = _stages()
    assert stages["runtime"][0] == "FROM base AS runtime"
    assert "USER 10001:10001" in stages["runtime"]
    assert "STOPSIGNAL SIGTERM" in stages["runtime"]
    for target in TARGETS:
        first, *rest = stages[target]
        assert first == f"FROM runtime AS {target}"
        words = {each.split(" ", 1)[0]: each.split(" ", 1)[1] for each in rest}
        assert isinstance(json.loads(words["ENTRYPOINT"]), list)
        assert "org.opencontainers.image.title" in words["LABEL"]
        if target == "migrate":
            assert words["HEALTHCHECK"] == "NONE"
            continue
        assert json.loads(words["CMD"]) == ["run"]
        assert words["EXPOSE"] == str(PORTS[target])
        assert words["ENV"] == f"PORT={PORTS[target]}"
        assert json.loads(words["HEALTHCHECK"].partition(" CMD ")[2]) == ["python", "-m", "messaging.probe"]


def test_the_lock_comes_before_the_sources() -> None:
    """What takes long to install is a layer that no change of the sources makes anew."""
    stages = _stages()
    copied = [each for each in stages["packages"] if each.startswith("COPY")]
    assert copied == ["COPY requirements-image.lock /build/"]
    (installed,) = [each for each in stages["packages"] if " install " in each]
    assert "--require-hashes" in installed
    assert stages["runtime"].index("COPY --from=packages /opt/amends /opt/amends") < stages["runtime"].index(
        "COPY --from=own /own/ /"
    )


def test_what_images_are_made_of_is_what_is_tested() -> None:
    """Every package in the images' locks is in the lock that the tests run with, in the same version."""

    def pinned(name: str) -> set[str]:
        content = (ROOT / name).read_text(encoding="utf-8")
        assert "--hash=sha256:" in content
        assert "://" not in content
        return set(re.findall(r"^([a-z0-9._-]+==[^ ]+)", content, re.MULTILINE))

    tested = pinned("requirements-dev.lock")
    assert pinned("requirements.lock") - tested == set()
    assert pinned("requirements-image.lock") - tested == set()
    assert pinned("requirements-build.lock") - tested == set()
    assert any(each.startswith("opentelemetry-sdk==") for each in pinned("requirements-image.lock"))


def test_the_context_holds_the_sources_and_nothing_else() -> None:
    """`.dockerignore` begins with everything; secrets below deploy/ stay out."""
    lines = [
        line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and not line.startswith("#")
    ]
    assert lines[0] == "*"
    taken = {line[1:] for line in lines if line.startswith("!")}
    assert taken == {
        "pyproject.toml", "README.md", "LICENSE", "requirements-build.lock", "requirements-image.lock",
        "contracts", "messaging", "orchestrator", "services",
        "deploy", "deploy/*.py", "deploy/py.typed", "deploy/servers",
    }  # fmt: skip
    assert lines.index("deploy/*") > lines.index("!deploy")


def test_every_container_is_guarded(compose: Any) -> None:
    """Nothing writes to its own image, has a capability or gains a privilege; ports lead in from this machine only."""
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert "privileged" not in service, name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), (name, port)


def test_services_wait_for_what_they_need(compose: Any) -> None:
    """Tables at head, a broker and a database that answer; and they are given longer to end than they take."""
    for name in SERVICES:
        service = compose["services"][name]
        assert service["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "postgres": {"condition": "service_healthy"},
            "rabbitmq": {"condition": "service_healthy"},
        }
        assert service["stop_grace_period"] == "35s"
        assert service["build"]["target"] == name
        assert service["image"].startswith("${IMAGES:-amends}/" + name + ":")
        assert service["ports"] == [f"127.0.0.1:${{PORT_{name.upper()}:-{PORTS[name]}}}:{PORTS[name]}"]


def test_secrets_are_files(compose: Any) -> None:
    """No password stands in the file; each service is given its own and no other's."""
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|URL", variable):
                assert variable.endswith("_FILE"), (name, variable)
                assert value.removeprefix("/run/secrets/") in service["secrets"], (name, variable)
    for name in SERVICES:
        assert all(each.startswith(f"{name}_") for each in compose["services"][name]["secrets"])


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """What deploy/secrets.sh writes beside itself."""
    deploy = tmp_path / "deploy"
    (deploy / "rabbitmq").mkdir(parents=True)
    for name in ("secrets.sh", "rabbitmq/definitions.json"):
        shutil.copy(ROOT / "deploy" / name, deploy / name)
    subprocess.run(["sh", str(deploy / "secrets.sh")], check=True, capture_output=True)
    return deploy / "secrets"


def test_the_script_writes_every_secret_that_compose_mounts(secrets: Path, compose: Any) -> None:
    """Into a folder that nobody else may open, as files that a container's user may read."""
    wanted = {Path(each["file"]).name for each in compose["secrets"].values()}
    assert wanted <= {each.name for each in secrets.iterdir()}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in secrets.iterdir()} == {0o644}
    passwords = [each.read_text() for each in secrets.iterdir() if "_url" not in each.name and not each.suffix]
    assert len(set(passwords)) == len(passwords) == 16
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in passwords)
    order, owner = (secrets / "postgres_order").read_text(), (secrets / "postgres_order_owner").read_text()
    assert (secrets / "order_database_url").read_text() == f"postgresql://order:{order}@postgres:5432/order"
    assert (secrets / "order_owner_database_url").read_text() == (
        f"postgresql://order_owner:{owner}@postgres:5432/order"
    )
    broker = (secrets / "rabbitmq_order").read_text()
    assert (secrets / "order_amqp_url").read_text() == f"amqp://order:{broker}@rabbitmq:5672/amends"


def test_the_broker_is_given_hashes_as_it_makes_them_itself(secrets: Path) -> None:
    """Salt, and the SHA-256 of salt and password behind it."""
    definitions = json.loads((secrets / "rabbitmq_definitions.json").read_text())
    template = json.loads((ROOT / "deploy" / "rabbitmq" / "definitions.json").read_text())
    users = definitions.pop("users")
    assert [each["name"] for each in users] == [each["name"] for each in template.pop("users")]
    assert definitions == template
    for user in users:
        hashed = base64.b64decode(user["password_hash"], validate=True)
        password = (secrets / f"rabbitmq_{user['name']}").read_bytes()
        assert hashed[4:] == hashlib.sha256(hashed[:4] + password).digest()


def test_secrets_that_are_there_stay(secrets: Path) -> None:
    """The databases know the old ones."""
    before = {each.name: each.read_text() for each in secrets.iterdir()}
    (secrets / "grafana_password").unlink()
    subprocess.run(["sh", str(secrets.with_name("secrets.sh"))], check=True, capture_output=True)
    after = {each.name: each.read_text() for each in secrets.iterdir()}
    assert before.pop("grafana_password") != after.pop("grafana_password")
    assert before == after


def test_the_collector_is_where_services_are_told_to_send_traces() -> None:
    """At the page's address it listens, and each pipeline is made of what is defined."""
    config = yaml.safe_load((ROOT / "deploy" / "otel" / "collector.yaml").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    (port,) = set(re.findall(r"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:(\d+)$", page, re.MULTILINE))
    assert config["receivers"] == {"otlp": {"protocols": {"http": {"endpoint": f"0.0.0.0:{port}"}}}}
    assert config["service"]["pipelines"].keys() == {"traces"}
    for kind in ("receivers", "processors", "exporters"):
        assert config["service"]["pipelines"]["traces"][kind] == [*config[kind]], kind


def test_the_trial_knows_the_images_that_compose_names(compose: Any) -> None:
    """What it provides for and builds is what the file has."""
    named = {each["image"] for each in compose["services"].values()}
    ours = {"${IMAGES:-amends}/" + f"{name}:${{TAG_{name.upper()}:-${{TAG:-0.1.0}}}}" for name in images.TARGETS}
    assert ours <= named
    assert {"${POSTGRES_IMAGE:-postgres:17}", "${RABBITMQ_IMAGE:-rabbitmq:4.2}"} <= named
