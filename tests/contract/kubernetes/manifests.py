"""The manifests under deploy/kubernetes, rendered by kubectl, and how Kubernetes reads what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from tests.acceptance.pages import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
SERVICES = ("orchestrator", "order", "payment")
DEV = "overlays/dev"
PLATFORM, MIGRATIONS, PRODUCTION = (f"overlays/production/{part}" for part in ("platform", "migrations", "services"))
EVERYWHERE = (DEV, PLATFORM, MIGRATIONS, PRODUCTION)

Resource: TypeAlias = dict[str, Any]


@cache
def _rendered(folder: Path) -> list[Resource]:
    # A wheel of the development environment's, so that it is there, and the same, everywhere.
    kubectl = Path(sys.prefix) / "bin" / "kubectl"
    ended = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return list(yaml.load_all(ended.stdout, yaml.CSafeLoader))


def rendered(folder: str | Path) -> list[Resource]:
    """What a folder of deploy/kubernetes, or any other, comes to; not to be changed."""
    return _rendered(KUBERNETES / folder)


def overlaid(folder: Path, overlay: str, *components: str) -> list[Resource]:
    """What a copy of an overlay comes to that adds these components, as docs/kubernetes.md wants it."""
    ours = KUBERNETES / overlay
    said = yaml.safe_load((ours / "kustomization.yaml").read_text(encoding="utf-8"))
    files = [each for each in said["resources"] if (ours / each).is_file()]
    for each in files:
        shutil.copy(ours / each, folder)
    for kind in ("resources", "components"):
        named_there = said.get(kind, ())
        said[kind] = [each if each in files else os.path.relpath(ours / each, folder) for each in named_there]
    # In front of that which gives everybody certificates, also what they add.
    there = said["components"]
    last = next((index for index, each in enumerate(there) if each.endswith("/tls")), len(there))
    there[last:last] = [os.path.relpath(KUBERNETES / each, folder) for each in components]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(said))
    return rendered(folder)


def of_kind(resources: Sequence[Resource], *kinds: str) -> list[Resource]:
    """Those of these kinds."""
    return [each for each in resources if each["kind"] in kinds]


def named(resources: Sequence[Resource], kind: str, name: str) -> Resource:
    """The one of this kind and name."""
    (found,) = [each for each in of_kind(resources, kind) if each["metadata"]["name"] == name]
    return found


def templates(resources: Sequence[Resource]) -> Iterator[tuple[str, Resource]]:
    """The template of a pod in everything that makes pods, with that one's name."""
    for each in of_kind(resources, "Deployment", "StatefulSet", "Job", "CronJob"):
        spec = each["spec"]["jobTemplate"]["spec"] if each["kind"] == "CronJob" else each["spec"]
        yield each["metadata"]["name"], spec["template"]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes something with these labels."""
    wanted = selector.get("matchLabels", {})
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    for each in selector.get("matchExpressions", ()):
        assert each["operator"] == "In", each
        if labels.get(each["key"]) not in each["values"]:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Pod:
    """Somebody who speaks or listens: a pod's labels, the namespace it is in, its ports by their names."""

    labels: Mapping[str, str]
    namespace: str
    ports: Mapping[str, int]

    @classmethod
    def of(cls, template: Resource, namespace: str) -> Pod:
        listed = [port for each in template["spec"]["containers"] for port in each.get("ports", ())]
        return cls(template["metadata"]["labels"], namespace, {each["name"]: each["containerPort"] for each in listed})


def may_speak(policies: Sequence[Resource], source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
    """Whether network policies let a pod open a connection to another's port: both sides have to."""
    leaves = _allowed(policies, "Egress", source, target, target, port, protocol)
    return leaves and _allowed(policies, "Ingress", target, source, target, port, protocol)


def _allowed(
    policies: Sequence[Resource], way: str, subject: Pod, other: Pod, target: Pod, port: int, protocol: str
) -> bool:
    mine = [
        each["spec"]
        for each in policies
        if each["metadata"]["namespace"] == subject.namespace
        if way in each["spec"]["policyTypes"] and selects(each["spec"]["podSelector"], subject.labels)
    ]
    if not mine:
        # Whom no policy selects may do as they like.
        return True
    peers, rules = ("to", "egress") if way == "Egress" else ("from", "ingress")
    return any(
        _about(rule.get(peers), other, subject.namespace) and _through(rule["ports"], target, port, protocol)
        for spec in mine
        for rule in spec.get(rules, ())
    )


def _about(peers: Sequence[Resource] | None, other: Pod, namespace: str) -> bool:
    if peers is None:
        return True
    for peer in peers:
        pods = selects(peer.get("podSelector", {}), other.labels)
        there = {"kubernetes.io/metadata.name": other.namespace}
        if "namespaceSelector" in peer:
            here = selects(peer["namespaceSelector"], there)
        else:
            here = other.namespace == namespace
        if pods and here:
            return True
    return False


def _through(ports: Sequence[Resource], target: Pod, port: int, protocol: str) -> bool:
    return any(
        each["protocol"] == protocol and (target.ports.get(each["port"], each["port"]) == port) for each in ports
    )
