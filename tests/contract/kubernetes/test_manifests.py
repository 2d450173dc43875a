"""Every overlay is rendered as a user would render it, and read as Kubernetes and the operators would."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.engine import make_url
from yarl import URL

from deploy import alert_resource
from messaging import database_tls
from messaging.rabbitmq_tls import Tls
from messaging.settings import ServiceSettings
from orchestrator.settings import OrchestratorSettings
from services.order.settings import OrderSettings
from services.payment.settings import PaymentSettings
from tests.acceptance.pages import ROOT
from tests.certificates import Authority
from tests.contract.kubernetes.manifests import (
    DEV,
    EVERYWHERE,
    KUBERNETES,
    MIGRATIONS,
    PLATFORM,
    PRODUCTION,
    SERVICES,
    Resource,
    named,
    of_kind,
    rendered,
    selects,
    templates,
)
from tests.contract.kubernetes.validation import problems

SETTINGS: dict[str, type[ServiceSettings]] = {
    "orchestrator": OrchestratorSettings,
    "order": OrderSettings,
    "payment": PaymentSettings,
}
OURS = ("service", "migration", "pruning")
"""What `app.kubernetes.io/component` says of the pods that are ours."""
AUTHORITIES = "/run/secrets/authorities"
MADE_BY_OPERATORS = {"postgresql-ca", "rabbitmq-tls"}
HTTP_SECONDS = 5
"""How long requests that are under way at the end may take."""


def _names(settings: type[ServiceSettings]) -> set[str]:
    return {str(field.validation_alias) for field in settings.model_fields.values()}


def _containers(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    for name, template in templates(resources):
        for container in template["spec"]["containers"]:
            yield name, container


# -- what they are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", EVERYWHERE)
def test_every_resource_of_an_overlay_is_valid(overlay: str) -> None:
    """Each has a schema, and only fields that it knows."""
    resources = rendered(overlay)
    wrong = {f"{each['kind']} {each['metadata']['name']}": problems(each) for each in resources}
    assert {name: found for name, found in wrong.items() if found} == {}
    assert len(wrong) == len(resources) >= 3


def test_the_component_that_production_leaves_out_is_valid(tmp_path: Path) -> None:
    """With monitoring a monitor finds every pod of ours, and the alerts are those that Prometheus itself reads."""
    relative = [os.path.relpath(KUBERNETES / part, tmp_path) for part in (PLATFORM, "components/monitoring")]
    kustomization = {"resources": relative[:1], "components": relative[1:], "namespace": "amends"}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    resources = rendered(tmp_path)
    (monitor,) = of_kind(resources, "PodMonitor")
    selector = monitor["spec"]["selector"]
    made = dict(templates(rendered(PRODUCTION)))
    assert {name for name, each in made.items() if selects(selector, each["metadata"]["labels"])} == {*SERVICES}
    assert alert_resource.FILE.read_text(encoding="utf-8") == alert_resource.content()
    (alerts,) = of_kind(resources, "PrometheusRule")
    assert alerts["spec"] == yaml.safe_load(alert_resource.RULES.read_text(encoding="utf-8"))
    assert [found for each in resources for found in problems(each)] == []


def _change(resource: Resource, path: str, value: Any) -> Resource:
    changed = copy.deepcopy(resource)
    place: Any = changed
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        place = place[part]
    place[last] = value
    return changed


@pytest.mark.parametrize(
    ("overlay", "kind", "name", "path", "value"),
    [
        (PRODUCTION, "Deployment", "order", "spec.replica", 2),
        (PRODUCTION, "Deployment", "order", "spec.template.spec.containers.0.image", 7),
        (PRODUCTION, "ScaledObject", "order", "spec.minReplicas", 1),
        (PRODUCTION, "ScaledObject", "order", "spec.triggers.0.metadata.value", 1000),
        (PRODUCTION, "ScaledObject", "order", "spec.triggers.0.metadata.excludeUnacknowledged", "true"),
        (PLATFORM, "Queue", "order-commands", "spec.exclusive", True),
        (PLATFORM, "Queue", "order-commands", "metadata.name", "order.commands"),
        (PLATFORM, "RabbitmqCluster", "rabbitmq", "spec.replicas", 2),
        (PLATFORM, "Cluster", "postgresql", "spec.managed.roles.0.password", "secret"),
        (PLATFORM, "Database", "order", "spec.cluster.namespace", "amends"),
        (PLATFORM, "Database", "order", "kind", "Databse"),
    ],
)
def test_a_mistake_is_found_out(overlay: str, kind: str, name: str, path: str, value: object) -> None:
    """A field that is misspelled, not there, or of another type makes the resource invalid."""
    right = named(rendered(overlay), kind, name)
    assert problems(right) == []
    assert problems(_change(right, path, value)) != []


def test_images_are_of_this_version() -> None:
    """Every image of ours has the version of the package."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {container["image"] for part in EVERYWHERE for _, container in _containers(rendered(part))}
    ours = {image for image in images if image.startswith("amends/")}
    assert ours == {f"amends/{name}:{version}" for name in (*SERVICES, "migrate")}
    jobs = {each["metadata"]["name"] for each in of_kind(rendered(MIGRATIONS), "Job")}
    assert jobs == {f"migrate-{name}-{version.replace('.', '-')}" for name in SERVICES}


# -- pods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", EVERYWHERE)
def test_pods_may_do_nothing_that_they_need_not(overlay: str) -> None:
    """No pod runs as root, may become it, has capabilities, or a token of the cluster's; ours cannot write, either."""
    for name, template in templates(rendered(overlay)):
        pod = template["spec"]
        ours = template["metadata"]["labels"].get("app.kubernetes.io/component") in OURS
        assert pod["automountServiceAccountToken"] is False, name
        # Otherwise a service called payment gives every pod a PAYMENT_PORT that is no port.
        assert pod["enableServiceLinks"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] == (10001 if ours else 999), name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["allowPrivilegeEscalation"] is False, name
            assert rights["capabilities"] == {"drop": ["ALL"]}, name
            assert rights.get("readOnlyRootFilesystem") is (True if ours else None), name
            assert "memory" in container["resources"]["limits"], name
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name


def _mebibytes(amount: str) -> int:
    found = re.fullmatch(r"(\d+)(Mi|Gi)", amount)
    assert found, amount
    return int(found[1]) * (1024 if found[2] == "Gi" else 1)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_gets_what_it_was_measured_to_need(service: str) -> None:
    """Memory is asked for by docs/scaling.md, and there is room for the bodies of what it has in hand."""
    container = named(rendered(PRODUCTION), "Deployment", service)["spec"]["template"]["spec"]["containers"][0]
    measured, in_hand = 141, 64
    assert _mebibytes(container["resources"]["requests"]["memory"]) > measured
    assert _mebibytes(container["resources"]["limits"]["memory"]) > measured + 4 * in_hand
    # It would be throttled in the middle of a batch.
    assert "cpu" not in container["resources"]["limits"]


@pytest.mark.parametrize("overlay", [DEV, PRODUCTION])
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_asked_how_it_is_and_has_time_to_end(overlay: str, service: str) -> None:
    """Probes ask the port that it listens on, and it is not killed before it has drained."""
    pod = named(rendered(overlay), "Deployment", service)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = {each["name"]: each.get("value") for each in container["env"]}
    asked = {probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {
        "startupProbe": {"path": "/healthz", "port": "http"},
        "livenessProbe": {"path": "/healthz", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
    }
    assert container["ports"] == [{"name": "http", "containerPort": int(settings["PORT"] or 0)}]
    drain: timedelta = ServiceSettings.model_fields["drain_timeout"].default
    sleeps = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > sleeps + drain.total_seconds() + HTTP_SECONDS


@pytest.mark.parametrize("overlay", [DEV, PRODUCTION])
@pytest.mark.parametrize("service", SERVICES)
def test_every_setting_is_one_and_secrets_are_files(overlay: str, service: str) -> None:
    """A variable is a setting of the service or names a file with one; these files lie where secrets are mounted."""
    pod = named(rendered(overlay), "Deployment", service)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    known = _names(SETTINGS[service])
    mounted = {mount["name"]: mount for mount in container["volumeMounts"]}
    keys = {
        f"{mounted[each['name']]['mountPath']}/{item['path']}"
        for each in pod["volumes"]
        if "secret" in each
        for item in each["secret"]["items"]
    }
    files = set()
    for each in container["env"]:
        assert each["name"].removesuffix("_FILE") in known, each
        assert isinstance(each["value"], str), each
        if each["name"].endswith("_FILE"):
            files.add(each["value"])
    assert files == keys == {"/run/secrets/database/database-url", "/run/secrets/broker/amqp-url"}


def test_migrations_run_as_the_owner_of_the_tables_and_without_the_broker() -> None:
    """Each job reads one secret, and says whom to grant what the service needs."""
    for name in SERVICES:
        pod = named(rendered(MIGRATIONS), "Job", f"migrate-{name}-0-1-0")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["args"] == [name]
        assert pod["restartPolicy"] == "Never"
        assert [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each] == [
            f"{name}-database-owner"
        ]
        given = {each["name"]: each["value"] for each in container["env"]}
        assert (given["AMENDS_APP_ROLE"], given["AMENDS_PRUNE_ROLE"]) == (name, f"{name}_prune")


def test_what_is_old_is_removed_at_night_by_a_role_of_its_own() -> None:
    """One job for each service, in its own image, never two at a time; it reads one secret, and not the broker's."""
    services = rendered(PRODUCTION)
    assert {each["metadata"]["name"] for each in of_kind(services, "CronJob")} == {f"prune-{name}" for name in SERVICES}
    for name in SERVICES:
        job = named(services, "CronJob", f"prune-{name}")["spec"]
        pod = job["jobTemplate"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        age = "30d" if name == "orchestrator" else "90d"
        assert (container["args"], container["image"]) == (
            ["prune", "--older-than", age, "--yes"],
            named(services, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]["image"],
        )
        assert (job["concurrencyPolicy"], pod["restartPolicy"]) == ("Forbid", "Never")
        assert [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each] == [
            f"{name}-database-prune"
        ]
        assert {each["name"].removesuffix("_FILE") for each in container["env"]} <= _names(SETTINGS[name])


def test_databases_belong_to_who_migrates_them() -> None:
    """Beside the user of its service each has an owner and one who prunes; the cluster makes all three, lets them in
    with TLS, and nobody else.
    """
    platform = rendered(PLATFORM)
    cluster = named(platform, "Cluster", "postgresql")["spec"]
    roles = {each["name"]: each["passwordSecret"]["name"] for each in cluster["managed"]["roles"]}
    assert roles == {
        **{name: f"{name}-database" for name in SERVICES},
        **{f"{name}_{role}": f"{name}-database-{role}" for name in SERVICES for role in ("owner", "prune")},
    }
    assert cluster["postgresql"]["pg_hba"] == [
        "hostssl sameuser all all scram-sha-256",
        *(f"hostssl {name} {name}_owner,{name}_prune all scram-sha-256" for name in SERVICES),
        "host all all all reject",
    ]
    databases = {each["spec"]["name"]: each["spec"]["owner"] for each in of_kind(platform, "Database")}
    assert databases == {name: f"{name}_owner" for name in SERVICES}


# -- several of them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_a_roll_out_and_a_drained_node_leave_enough_of_them(service: str) -> None:
    """A new pod is ready before an old one goes; at most one is taken for other reasons; they are spread out."""
    resources = rendered(PRODUCTION)
    deployment = named(resources, "Deployment", service)["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }
    budget = named(resources, "PodDisruptionBudget", service)["spec"]
    assert budget["maxUnavailable"] == 1
    spread = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for selector in (deployment["selector"], budget["selector"], *(each["labelSelector"] for each in spread)):
        assert selects(selector, labels)
        # And nobody else.
        assert selector["matchLabels"]["app.kubernetes.io/name"] == service


def test_a_drained_node_takes_one_of_the_brokers_nodes_at_most() -> None:
    """Its operator makes no budget for them; the databases' makes one."""
    budget = named(rendered(PLATFORM), "PodDisruptionBudget", "rabbitmq")["spec"]
    assert budget["maxUnavailable"] == 1
    # As the Cluster Operator labels them.
    labels = {f"app.kubernetes.io/{key}": "rabbitmq" for key in ("name", "component", "part-of")}
    assert selects(budget["selector"], labels)


@pytest.mark.parametrize(("service", "port"), [("order", 8001), ("payment", 8002)])
def test_a_service_with_an_api_has_an_address(service: str, port: int) -> None:
    """Its name leads to the port of its pods."""
    for overlay in (DEV, PRODUCTION):
        resources = rendered(overlay)
        found = named(resources, "Service", service)["spec"]
        template = named(resources, "Deployment", service)["spec"]["template"]
        assert found["ports"] == [{"name": "http", "port": port, "targetPort": "http"}]
        assert selects({"matchLabels": found["selector"]}, template["metadata"]["labels"])
        assert template["spec"]["containers"][0]["ports"] == [{"name": "http", "containerPort": port}]


def test_keda_scales_by_queues_that_are_there_and_never_to_none() -> None:
    """Every service has at least two processes, scaled by what waits on its own queues; nobody else says how many."""
    services, platform = rendered(PRODUCTION), rendered(PLATFORM)
    there = {each["spec"]["name"] for each in of_kind(platform, "Queue")}
    asked = {}
    for each in of_kind(services, "ScaledObject"):
        name = each["spec"]["scaleTargetRef"]["name"]
        assert each["spec"]["minReplicaCount"] == 2, name
        assert each["spec"]["maxReplicaCount"] > 2, name
        assert "idleReplicaCount" not in each["spec"], name
        assert "replicas" not in named(services, "Deployment", name)["spec"]
        asked[name] = [trigger["metadata"]["queueName"] for trigger in each["spec"]["triggers"]]
    assert asked == {
        "orchestrator": ["orchestrator.events"],
        "order": ["order.commands", "order.events"],
        "payment": ["payment.commands"],
    }
    assert {queue for queues in asked.values() for queue in queues} <= there
    (authentication,) = of_kind(services, "TriggerAuthentication")
    assert authentication["spec"]["secretTargetRef"] == [
        {"parameter": "host", "name": "monitor-broker", "key": "amqp-url"},
        {"parameter": "tls", "name": "monitor-broker", "key": "tls"},
        {"parameter": "ca", "name": "rabbitmq-tls", "key": "ca.crt"},
    ]


# -- secrets -------------------------------------------------------------------------------------------------


def _wanted(resources: list[Resource]) -> dict[str, set[str]]:
    """The secrets that these need, with the keys."""
    found: dict[str, set[str]] = {}
    for name, key in (*_of_pods(resources), *_of_operators(resources)):
        if name not in MADE_BY_OPERATORS:
            found.setdefault(name, set()).add(key)
    return found


def _of_pods(resources: list[Resource]) -> Iterator[tuple[str, str]]:
    for _, template in templates(resources):
        for volume in template["spec"].get("volumes", ()):
            secret = volume.get("secret", {})
            for item in secret.get("items", [{"key": "password"}] if secret else ()):
                yield secret["secretName"], item["key"]
        for container in template["spec"]["containers"]:
            for each in container.get("env", ()):
                reference = each.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    yield reference["name"], reference["key"]


def _of_operators(resources: list[Resource]) -> Iterator[tuple[str, str]]:
    for each in of_kind(resources, "TriggerAuthentication"):
        yield from ((item["name"], item["key"]) for item in each["spec"]["secretTargetRef"])
    users = [each["spec"]["importCredentialsSecret"]["name"] for each in of_kind(resources, "User")]
    roles = [role for each in of_kind(resources, "Cluster") for role in each["spec"]["managed"]["roles"]]
    for name in (*users, *(role["passwordSecret"]["name"] for role in roles)):
        yield from ((name, "username"), (name, "password"))


def test_the_script_makes_every_secret_that_production_needs() -> None:
    """Each has all keys that are read, a password of its own, and the same one in its URL."""
    ended = subprocess.run([KUBERNETES / "secrets.sh"], capture_output=True, text=True, timeout=30, check=True)
    made = list(yaml.safe_load_all(ended.stdout))
    wanted = _wanted([*rendered(PLATFORM), *rendered(MIGRATIONS), *rendered(PRODUCTION)])
    assert {each["metadata"]["name"]: problems(each) for each in made} == {name: [] for name in wanted}
    passwords = set()
    for each in made:
        content = each["stringData"]
        assert wanted[each["metadata"]["name"]] <= content.keys()
        (url,) = [value for key, value in content.items() if key.endswith("-url")]
        assert f"//{content['username']}:{content['password']}@" in url
        passwords.add(content["password"])
    assert len(passwords) == len(made) == 13
    assert min(map(len, passwords)) == 48


def _made(**environment: str) -> dict[str, str]:
    """The URL in each secret that the script makes."""
    ended = subprocess.run(
        [KUBERNETES / "secrets.sh"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    made = {each["metadata"]["name"]: each["stringData"] for each in yaml.safe_load_all(ended.stdout)}
    return {name: next(value for key, value in each.items() if key.endswith("-url")) for name, each in made.items()}


def _trusted(pod: Resource) -> dict[str, tuple[str, str]]:
    """The files that a pod has of whom it trusts, each with the secret and the key that it is made of."""
    (container,) = pod["containers"]
    assert {"name": "authorities", "mountPath": AUTHORITIES, "readOnly": True} in container["volumeMounts"]
    (volume,) = [each["projected"]["sources"] for each in pod["volumes"] if each["name"] == "authorities"]
    sources = [each["secret"] for each in volume]
    return {f"{AUTHORITIES}/{item['path']}": (each["name"], item["key"]) for each in sources for item in each["items"]}


def test_whoever_connects_has_the_file_that_its_url_trusts(tmp_path: Path) -> None:
    """Every URL asks for TLS in a way that our drivers know, and names a file that each pod with that secret mounts."""
    urls = _made()
    authority = Authority(tmp_path, "ours").certificate
    for name in ("database.pem", "broker.pem"):
        (tmp_path / name).write_bytes(authority.read_bytes())
    database, broker = f"{AUTHORITIES}/database.pem", f"{AUTHORITIES}/broker.pem"
    pods = dict(templates([*rendered(MIGRATIONS), *rendered(PRODUCTION)]))
    assert len(pods) == 9
    for name, template in pods.items():
        trusted = _trusted(template["spec"])
        read = [urls[each["secret"]["secretName"]] for each in template["spec"]["volumes"] if "secret" in each]
        assert all(any(file in url for file in trusted) for url in read), name
        assert trusted[database] == ("postgresql-ca", "ca.crt")
        assert (trusted.get(broker) == ("rabbitmq-tls", "ca.crt")) is (name in SERVICES)
    for name, url in urls.items():
        here = url.replace(AUTHORITIES, str(tmp_path))
        if url.startswith("postgresql://"):
            assert f"?sslmode=verify-full&sslrootcert={database}" in url
            database_tls.check(make_url(here))
        elif name == "monitor-broker":
            assert re.fullmatch(r"amqps://monitor:\w+@rabbitmq\.amends\.svc:5671/amends", url)
        else:
            assert url.endswith(f"@rabbitmq:5671/amends?cafile={broker}")
            assert Tls(URL(here)).verified


def test_the_broker_proves_who_it_is_by_every_name_that_it_is_called() -> None:
    """Its certificate has the names in the URLs; it speaks to nobody without TLS."""
    platform = rendered(PLATFORM)
    certificate = named(platform, "Certificate", "rabbitmq")["spec"]
    tls = named(platform, "RabbitmqCluster", "rabbitmq")["spec"]["tls"]
    assert tls == {"secretName": certificate["secretName"], "disableNonTLSListeners": True}
    hosts = {URL(url).host for name, url in _made().items() if name.endswith("-broker")}
    assert hosts == {"rabbitmq", "rabbitmq.amends.svc"}
    assert hosts <= set(certificate["dnsNames"])
    issuer = named(platform, "Issuer", certificate["issuerRef"]["name"])["spec"]
    assert issuer == {"ca": {"secretName": named(platform, "Certificate", "broker-authority")["spec"]["secretName"]}}


def test_without_tls_no_url_asks_for_it() -> None:
    """Where the component is left out."""
    assert [url for url in _made(TLS="no").values() if "tls" in url or "amqps" in url or "?" in url] == []


def test_the_dev_overlay_brings_its_secrets_along() -> None:
    """All that its pods read is in it, with every key."""
    resources = rendered(DEV)
    there = {each["metadata"]["name"]: set(each["data"]) for each in of_kind(resources, "Secret")}
    wanted = _wanted(resources)
    assert wanted.keys() == there.keys()
    assert [name for name, keys in wanted.items() if not keys <= there[name]] == []
    init = {each["metadata"]["name"] for each in of_kind(resources, "ConfigMap")}
    volumes = named(resources, "StatefulSet", "postgresql")["spec"]["template"]["spec"]["volumes"]
    assert {each["configMap"]["name"] for each in volumes if "configMap" in each} == init
