"""deploy/compose.signing.yaml and compose.subjects.yaml, on top of compose.yaml: settings, files and rights."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.containers.stack import SERVICES
from messaging import keys
from messaging.settings import ServiceSettings
from messaging.subjects import master
from orchestrator.settings import OrchestratorSettings
from services.order.settings import OrderSettings
from services.payment.settings import PaymentSettings
from tests.acceptance.pages import ROOT

SETTINGS: dict[str, type[ServiceSettings]] = {
    "orchestrator": OrchestratorSettings,
    "order": OrderSettings,
    "payment": PaymentSettings,
}
OVERRIDES = ("signing", "subjects")


def _read(name: str) -> Any:
    return yaml.safe_load((ROOT / "deploy" / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What deploy/secrets.sh writes beside itself, twice; the program instead of the image that has it."""
    deploy = tmp_path_factory.mktemp("clone") / "deploy"
    (deploy / "rabbitmq").mkdir(parents=True)
    for name in ("secrets.sh", "rabbitmq/definitions.json"):
        shutil.copy(ROOT / "deploy" / name, deploy / name)
    found = []
    for _ in range(2):
        ended = subprocess.run(
            ["sh", "deploy/secrets.sh", *OVERRIDES],
            cwd=deploy.parent,
            env={"PATH": "/usr/bin:/bin", "AMENDS": str(Path(sys.executable).with_name("amends"))},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        found.append({path: path.read_text() for path in (deploy / "secrets").rglob("*") if path.is_file()})
    assert found[0] == found[1]
    return deploy / "secrets"


def test_the_script_makes_keys_that_services_take(secrets: Path) -> None:
    """A signing key for each, whose public half everybody has; a master key; readable in a container only."""
    public = keys.public_keys(secrets / "public_keys")
    assert sorted(public) == ["orchestrator-1", "order-1", "payment-1"]
    for name in SERVICES:
        own = keys.private_key((secrets / f"signing_key_{name}.json").read_text())
        assert own.service == name
        assert public[f"{name}-1"] == own.public_half
    assert master.read(secrets / "master_keys", None).current == "master-1"
    assert (secrets / "subjects_erase_database_url").read_text() == (
        f"postgresql://subjects_erase:{(secrets / 'postgres_subjects_erase').read_text()}@postgres:5432/subjects"
    )
    for path in secrets.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700


def test_the_script_knows_what_it_can_make() -> None:
    """Anything else is a mistake, and makes nothing."""
    ended = subprocess.run(
        ["sh", ROOT / "deploy" / "secrets.sh", "signatures"], capture_output=True, text=True, timeout=180, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "secrets.sh: signatures is neither signing nor subjects\n"


@pytest.mark.parametrize("name", OVERRIDES)
def test_every_setting_is_one_and_every_file_is_there(name: str, secrets: Path) -> None:
    """Variables are settings or name a secret that is mounted; what is mounted the script has made."""
    override = _read(f"compose.{name}.yaml")
    for secret in override["secrets"].values():
        assert (secrets.parent / secret["file"]).is_file(), secret
    for service, said in override["services"].items():
        known = {
            str(field.validation_alias) for field in SETTINGS.get(service, OrchestratorSettings).model_fields.values()
        }
        mounts = {}
        for volume in said.get("volumes", ()):
            source, target, mode = volume.split(":")
            assert (secrets.parent / source).is_dir()
            assert mode == "ro"
            mounts[target] = source
        for variable, value in said["environment"].items():
            if variable.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in said["secrets"], variable
            if service != "postgres":
                assert variable.removesuffix("_FILE") in known, variable
            if value.startswith("/etc/"):
                assert value in mounts, variable
        assert set(said["secrets"]) <= override["secrets"].keys()
    assert _read("compose.yaml")["secrets"].keys().isdisjoint(override["secrets"])


def test_everybody_signs_with_a_key_of_his_own() -> None:
    """And reads the same public keys."""
    services = _read("compose.signing.yaml")["services"]
    assert services.keys() == set(SERVICES)
    for name, said in services.items():
        assert said["secrets"] == [f"{name}_signing_key"]
        assert said["environment"] == {
            "AMENDS_SIGNING": "${SIGNING:-require}",
            "AMENDS_PUBLIC_KEYS": "/etc/amends/public-keys",
            "AMENDS_SIGNING_KEY_FILE": f"/run/secrets/{name}_signing_key",
        }


def test_the_orchestrator_gets_no_keys_of_persons() -> None:
    """Order and payment open them, `migrate` owns the table, a command for people erases."""
    services = _read("compose.subjects.yaml")["services"]
    given = {
        name: said["environment"]["AMENDS_SUBJECT_KEYS_FILE"].removeprefix("/run/secrets/")
        for name, said in services.items()
        if name != "postgres"
    }
    assert given == {
        "order": "subjects_database_url",
        "payment": "subjects_database_url",
        "migrate": "subjects_owner_database_url",
        "subjects": "subjects_erase_database_url",
    }
    assert "volumes" not in services["migrate"]
    tool = services["subjects"]
    assert (tool["read_only"], tool["cap_drop"], tool["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    assert services["postgres"]["environment"]["SERVICES"].split() == [*SERVICES, "subjects"]
