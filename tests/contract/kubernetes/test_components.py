"""The components that production leaves out for others to add: signatures, and the keys of persons."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.contract.kubernetes.manifests import (
    KUBERNETES,
    MIGRATIONS,
    PLATFORM,
    PRODUCTION,
    SERVICES,
    Pod,
    Resource,
    may_speak,
    named,
    of_kind,
    overlaid,
    rendered,
)
from tests.contract.kubernetes.test_manifests import SETTINGS
from tests.contract.kubernetes.validation import problems


def _with(folder: Path, overlay: str, *components: str) -> list[Resource]:
    resources = overlaid(folder, overlay, *components)
    assert [found for each in resources for found in problems(each)] == []
    return resources


def _added(before: Resource, after: Resource) -> tuple[Resource, Resource]:
    """The variables of a pod's container that are new, and what is mounted where."""
    one, other = (each["spec"]["template"]["spec"] for each in (before, after))
    (old,), (new,) = one["containers"], other["containers"]
    variables = {each["name"]: each["value"] for each in new["env"] if each not in old["env"]}
    sources = {each["name"]: each for each in other["volumes"] if each not in one["volumes"]}
    mounts = {}
    for mount in new["volumeMounts"]:
        if mount not in old["volumeMounts"]:
            assert mount["readOnly"] is True
            source = sources.pop(mount["name"])
            mounts[mount["mountPath"]] = {kind: said for kind, said in source.items() if kind != "name"}
    assert sources == {}
    assert [each for each in old["env"] if each not in new["env"]] == []
    return variables, mounts


def _secret(name: str, *keys: str) -> dict[str, object]:
    said: dict[str, object] = {"secretName": name, "defaultMode": 0o440}
    return {"secret": said | ({"items": [{"key": key, "path": key} for key in keys]} if keys else {})}


def test_each_service_signs_with_a_key_of_its_own(tmp_path: Path) -> None:
    """A secret each, and one config map with everybody's public half."""
    resources = _with(tmp_path, PRODUCTION, "components/signing")
    for name in SERVICES:
        before, after = (named(each, "Deployment", name) for each in (rendered(PRODUCTION), resources))
        assert _added(before, after) == (
            {
                "AMENDS_SIGNING": "require",
                "AMENDS_SIGNING_KEY_FILE": "/run/secrets/signing/key.json",
                "AMENDS_PUBLIC_KEYS": "/etc/amends/public-keys",
            },
            {
                "/run/secrets/signing": _secret(f"{name}-signing", "key.json"),
                "/etc/amends/public-keys": {"configMap": {"name": "public-keys"}},
            },
        )
    assert len(resources) == len(rendered(PRODUCTION))


def test_services_that_trace_say_where_to_and_may_go_there(tmp_path: Path) -> None:
    """Without the component nobody leaves the namespace for a collector."""
    resources = _with(tmp_path, PRODUCTION, "components/tracing")
    collector = Pod({"app": "collector"}, "monitoring", {})
    before = of_kind([*rendered(PLATFORM), *rendered(PRODUCTION)], "NetworkPolicy")
    after = of_kind([*rendered(PLATFORM), *resources], "NetworkPolicy")
    for name in SERVICES:
        plain, traced = (named(each, "Deployment", name) for each in (rendered(PRODUCTION), resources))
        assert _added(plain, traced) == ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.monitoring:4318"}, {})
        pod = Pod.of(traced["spec"]["template"], "amends")
        assert [may_speak(each, pod, collector, 4318) for each in (before, after)] == [False, True]
        assert not may_speak(after, pod, collector, 9090)


def test_services_that_seal_get_the_keys_of_persons_and_the_orchestrator_none(tmp_path: Path) -> None:
    """With signatures beside them."""
    resources = _with(tmp_path, PRODUCTION, "components/signing", "components/subject-keys/services")
    for name in ("order", "payment"):
        variables, mounts = _added(
            named(rendered(PRODUCTION), "Deployment", name), named(resources, "Deployment", name)
        )
        assert {each.removesuffix("_FILE") for each in variables} <= {
            str(field.validation_alias) for field in SETTINGS[name].model_fields.values()
        }
        assert variables["AMENDS_SUBJECT_KEYS_FILE"] == "/run/secrets/subjects/database-url"
        assert variables["AMENDS_MASTER_KEYS"] == "/run/secrets/master-keys"
        assert mounts["/run/secrets/subjects"] == _secret("subjects-database", "database-url")
        # Whole: another master key needs no other manifest.
        assert mounts["/run/secrets/master-keys"] == _secret("subjects-master")
    orchestrator = named(resources, "Deployment", "orchestrator")
    assert "SUBJECT" not in yaml.safe_dump(orchestrator)
    assert "subjects" not in yaml.safe_dump(orchestrator)


def test_the_table_of_keys_has_a_job_of_its_own(tmp_path: Path) -> None:
    """As the owner, with the version in its name, like the others; it says who opens keys, and who erases."""
    job = named(_with(tmp_path, MIGRATIONS, "components/subject-keys/migrations"), "Job", "migrate-subjects-0-1-0")
    other = named(rendered(MIGRATIONS), "Job", "migrate-order-0-1-0")
    (container,), (like,) = (each["spec"]["template"]["spec"]["containers"] for each in (job, other))
    assert container.pop("args") == ["subjects"]
    assert {each["name"]: each["value"] for each in container.pop("env")} == {
        "AMENDS_SUBJECT_KEYS_FILE": "/run/secrets/database/database-url",
        "AMENDS_APP_ROLE": "subjects",
        "AMENDS_ERASE_ROLE": "subjects_erase",
    }
    assert container == {key: value for key, value in like.items() if key not in ("args", "env")}
    volumes = {each["name"]: each for each in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["database"] == {"name": "database", **_secret("subjects-database-owner", "database-url")}


def test_the_database_of_keys_lets_in_who_needs_it(tmp_path: Path) -> None:
    """Its owner, the role that services share, and the one that erases; nobody else."""
    resources = _with(tmp_path, PLATFORM, "components/subject-keys/databases")
    cluster = named(resources, "Cluster", "postgresql")["spec"]
    roles = {each["name"]: each["passwordSecret"]["name"] for each in cluster["managed"]["roles"]}
    assert {name: secret for name, secret in roles.items() if name.startswith("subjects")} == {
        "subjects": "subjects-database",
        "subjects_owner": "subjects-database-owner",
        "subjects_erase": "subjects-database-erase",
    }
    first, *_, last = cluster["postgresql"]["pg_hba"]
    assert (first, last) == ("hostssl sameuser all all scram-sha-256", "host all all all reject")
    added = [each for each in cluster["postgresql"]["pg_hba"] if each.split()[1] == "subjects"]
    assert added == ["hostssl subjects subjects_owner,subjects_erase all scram-sha-256"]
    database = named(resources, "Database", "subjects")["spec"]
    assert (database["name"], database["owner"]) == ("subjects", "subjects_owner")


@pytest.mark.parametrize(("words", "databases", "brokers"), [((), 9, 4), (("subjects",), 3, 0), (("warehouse",), 3, 1)])
def test_the_script_prints_secrets_for_what_is_named(words: tuple[str, ...], databases: int, brokers: int) -> None:
    """Each valid, with a password of its own; no broker knows the keys of persons."""
    script = KUBERNETES / "secrets.sh"
    ended = subprocess.run(["sh", script, *words], capture_output=True, text=True, timeout=180, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    made = list(yaml.safe_load_all(ended.stdout))
    assert [found for each in made for found in problems(each)] == []
    names = [each["metadata"]["name"] for each in made]
    assert len(of_kind(made, "Secret")) == len(set(names)) == databases + brokers
    assert sum(name.endswith("-broker") for name in names) == brokers
    assert len({each["stringData"]["password"] for each in made}) == len(made)
    for each in made:
        said = each["stringData"]
        url = said.get("database-url") or said["amqp-url"]
        assert f"://{said['username']}:{said['password']}@" in url
    if words == ("subjects",):
        assert all(each["stringData"]["database-url"].partition("?")[0].endswith(":5432/subjects") for each in made)
