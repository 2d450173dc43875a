"""Who may speak to whom in the cluster: every pair that could matter, by the network policies of each overlay."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.kubernetes.manifests import (
    DEV,
    MIGRATIONS,
    PLATFORM,
    PRODUCTION,
    SERVICES,
    Pod,
    Resource,
    may_speak,
    named,
    of_kind,
    rendered,
)

DATABASE, PLAIN_BROKER, BROKER = 5432, 5672, 5671
DNS = Pod({"k8s-app": "kube-dns"}, "kube-system", {})
INGRESS = Pod({"app.kubernetes.io/name": "ingress-nginx"}, "ingress-nginx", {})
STRANGER = Pod({"app": "strange"}, "default", {})
TOPOLOGY_OPERATOR = Pod({"app.kubernetes.io/name": "messaging-topology-operator"}, "rabbitmq-system", {})
DATABASE_OPERATOR = Pod({"app.kubernetes.io/name": "cloudnative-pg"}, "cnpg-system", {})
KEDA = Pod({"app.kubernetes.io/name": "keda-operator"}, "keda", {})


def _production() -> tuple[list[Resource], dict[str, Pod]]:
    resources = [*rendered(PLATFORM), *rendered(MIGRATIONS), *rendered(PRODUCTION)]
    pods = {name: Pod.of(named(resources, "Deployment", name)["spec"]["template"], "amends") for name in SERVICES}
    job = named(resources, "Job", "migrate-order-0-1-0")
    pods["migration"] = Pod.of(job["spec"]["template"], "amends")
    nightly = named(resources, "CronJob", "prune-order")["spec"]["jobTemplate"]["spec"]
    pods["pruning"] = Pod.of(nightly["template"], "amends")
    # As the operators label their pods: RabbitMQ's only so, CloudNativePG's also as its cluster says.
    rabbitmq = {"name": "rabbitmq", "component": "rabbitmq", "part-of": "rabbitmq"}
    pods["broker"] = Pod({f"app.kubernetes.io/{key}": value for key, value in rabbitmq.items()}, "amends", {})
    databases = named(resources, "Cluster", "postgresql")["spec"]["inheritedMetadata"]["labels"]
    pods["database"] = Pod({"cnpg.io/cluster": "postgresql", **databases}, "amends", {})
    return of_kind(resources, "NetworkPolicy"), pods


def _dev() -> tuple[list[Resource], dict[str, Pod]]:
    resources = rendered(DEV)
    made = {name: named(resources, "Deployment", name) for name in SERVICES}
    made |= {"broker": named(resources, "StatefulSet", "rabbitmq")}
    made |= {"database": named(resources, "StatefulSet", "postgresql")}
    pods = {name: Pod.of(each["spec"]["template"], "amends-dev") for name, each in made.items()}
    return of_kind(resources, "NetworkPolicy"), pods


@pytest.mark.parametrize("overlay", [_dev, _production], ids=["dev", "production"])
def test_services_reach_the_broker_and_the_database_and_not_each_other(
    overlay: Callable[[], tuple[list[Resource], dict[str, Pod]]],
) -> None:
    """Of all pairs of pods, at all ports that anybody listens on, only these may connect."""
    policies, pods = overlay()
    ports = {"orchestrator": 8000, "order": 8001, "payment": 8002, "broker": BROKER, "database": DATABASE}
    spoken = {
        (one, other)
        for one, source in pods.items()
        for other, target in pods.items()
        if one != other and other in ports and may_speak(policies, source, target, ports[other])
    }
    expected = {(name, target) for name in SERVICES for target in ("broker", "database")}
    if "migration" in pods:
        expected |= {("migration", "database"), ("pruning", "database")}
    assert spoken == expected
    for name, pod in pods.items():
        assert may_speak(policies, pod, DNS, 53, "UDP"), name
        assert not may_speak(policies, STRANGER, pod, ports.get(name, 8000)), name
        if name in SERVICES:
            assert not may_speak(policies, pod, STRANGER, 443), name


def test_nobody_speaks_to_the_broker_without_tls_in_production() -> None:
    """Whatever an URL says; where one tries things on, there are no certificates."""
    policies, pods = _production()
    for pod in (*(pods[name] for name in SERVICES), KEDA):
        assert may_speak(policies, pod, pods["broker"], BROKER)
        assert not may_speak(policies, pod, pods["broker"], PLAIN_BROKER)
    policies, pods = _dev()
    assert may_speak(policies, pods["order"], pods["broker"], PLAIN_BROKER)


def test_orders_come_in_from_outside_and_from_who_says_so() -> None:
    """The ingress controller and labeled pods reach the order service; nobody reaches the others from there."""
    policies, pods = _production()
    shop = Pod({"amends/places-orders": "true"}, "amends", {})
    assert may_speak(policies, INGRESS, pods["order"], 8001)
    assert not may_speak(policies, INGRESS, pods["payment"], 8002)
    assert not may_speak(policies, INGRESS, pods["orchestrator"], 8000)
    # Whether it may speak at all is for whoever deploys it to say.
    leave = {
        "metadata": {"namespace": "amends"},
        "spec": {
            "podSelector": {"matchLabels": {"amends/places-orders": "true"}},
            "policyTypes": ["Egress"],
            "egress": [{"ports": [{"protocol": "TCP", "port": 8001}]}],
        },
    }
    assert not may_speak(policies, shop, pods["order"], 8001)
    assert may_speak([*policies, leave], shop, pods["order"], 8001)
    assert not may_speak(policies, INGRESS, pods["broker"], BROKER)


def test_operators_reach_what_they_look_after() -> None:
    """Nodes of a cluster reach each other, operators and KEDA reach them, and nobody else their control ports."""
    policies, pods = _production()
    broker, database = pods["broker"], pods["database"]
    for port in (4369, 25672):
        assert may_speak(policies, broker, broker, port)
        assert not may_speak(policies, pods["order"], broker, port)
    assert may_speak(policies, database, database, DATABASE)
    assert may_speak(policies, TOPOLOGY_OPERATOR, broker, 15671)
    assert not may_speak(policies, pods["order"], broker, 15671)
    assert may_speak(policies, KEDA, broker, BROKER)
    for port in (DATABASE, 8000):
        assert may_speak(policies, DATABASE_OPERATOR, database, port)
    assert not may_speak(policies, KEDA, database, DATABASE)
