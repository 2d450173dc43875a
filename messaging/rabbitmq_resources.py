"""What services need of the broker as resources of RabbitMQ's Messaging Topology Operator, for Kubernetes.

Made from the same definitions that `rabbitmqctl import_definitions` would take. Passwords are in none of them: a user's
name and password are read by the operator from a secret called like it, `payment-broker`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from messaging.senders import OPERATOR

Value: TypeAlias = "str | int | bool | Mapping[str, Value] | Sequence[Value]"
Resource: TypeAlias = Mapping[str, Value]

_NO_TEXTS = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
"""What YAML, or some readers of it, take for something else than a text."""


def resources(definitions: Mapping[str, Any], cluster: str, only: str | None = None) -> list[Resource]:
    """All that is defined, in the RabbitmqCluster `cluster`; of one service only what is its own.

    The user `operator` is left out: who owns the broker there is the cluster's own administrator.
    """
    made = _Resources(cluster)
    found = [] if only is not None else [*made.of_all(definitions)]
    for kind in ("queues", "bindings", "users", "permissions", "topic_permissions"):
        for each in definitions[kind]:
            owner = each.get("user") or each.get("destination") or each["name"]
            mine = only is None or owner == only or owner.startswith(f"{only}.")
            if mine and owner != OPERATOR:
                found.append(made.of(kind, each))
    return found


class _Resources:
    def __init__(self, cluster: str) -> None:
        self._cluster = cluster

    def of_all(self, definitions: Mapping[str, Any]) -> Iterator[Resource]:
        """What is no service's own: the virtual host, a policy, exchanges."""
        for vhost in definitions["vhosts"]:
            name = vhost["name"]
            yield self._resource(
                "Vhost", name, {"name": name, "defaultQueueType": "quorum", "deletionPolicy": "retain"}
            )
            policy: Resource = {
                "vhost": name,
                "name": "leaders-on-all-nodes",
                "pattern": ".*",
                "applyTo": "quorum_queues",
                "definition": {"queue-leader-locator": "balanced"},
            }
            yield self._resource("Policy", "leaders-on-all-nodes", policy)
        for each in definitions["exchanges"]:
            how = {"vhost": each["vhost"], "name": each["name"], "type": each["type"], "durable": each["durable"]}
            arguments = {"arguments": each["arguments"]} if each["arguments"] else {}
            yield self._resource("Exchange", each["name"], how | arguments)

    def of(self, kind: str, each: Mapping[str, Any]) -> Resource:
        match kind:
            case "queues":
                return self._queue(each)
            case "bindings":
                return self._binding(each)
            case "users":
                return self._user(each)
            case "permissions":
                granted = {name: each[name] for name in ("configure", "write", "read")}
                return self._grant("Permission", each["user"], each, granted)
            case _:
                granted = {name: each[name] for name in ("exchange", "write", "read")}
                return self._grant("TopicPermission", f"{each['user']} {each['exchange']}", each, granted)

    def _queue(self, each: Mapping[str, Any]) -> Resource:
        arguments = dict(each["arguments"])
        # Deleting the resource deletes no queue: messages may lie in it.
        spec: Resource = {
            "vhost": each["vhost"],
            "name": each["name"],
            "type": arguments.pop("x-queue-type"),
            "durable": each["durable"],
            "deletionPolicy": "retain",
            "arguments": arguments,
        }
        return self._resource("Queue", each["name"], spec)

    def _binding(self, each: Mapping[str, Any]) -> Resource:
        key = each["routing_key"]
        spec: Resource = {
            "vhost": each["vhost"],
            "source": each["source"],
            "destination": each["destination"],
            "destinationType": each["destination_type"],
            "routingKey": key,
        }
        name = f"{each['destination']} {each['source']} {key.replace('#', 'all')}"
        return self._resource("Binding", name, spec)

    def _user(self, each: Mapping[str, Any]) -> Resource:
        tags = {"tags": each["tags"]} if each["tags"] else {}
        spec = tags | {"importCredentialsSecret": {"name": _name(f"{each['name']} broker")}}
        return self._resource("User", each["name"], spec)

    def _grant(self, kind: str, name: str, each: Mapping[str, Any], granted: Resource) -> Resource:
        return self._resource(kind, name, {"vhost": each["vhost"], "user": each["user"], "permissions": granted})

    def _resource(self, kind: str, name: str, spec: Mapping[str, Any]) -> Resource:
        return {
            "apiVersion": "rabbitmq.com/v1beta1",
            "kind": kind,
            "metadata": {"name": _name(name), "labels": {"app.kubernetes.io/part-of": "amends"}},
            "spec": {**spec, "rabbitmqClusterReference": {"name": self._cluster}},
        }


def _name(text: str) -> str:
    """Kubernetes has no dots and underscores in names like these."""
    return re.sub(r"[^a-z0-9]+", "-", text)


def as_yaml(found: Sequence[Resource]) -> str:
    """A file for kubectl."""
    return "---\n".join("".join(_lines(each)) for each in found)


def _lines(value: Mapping[str, Value], indent: str = "") -> Iterator[str]:
    """YAML of nested mappings with scalars and lists in them; these in JSON, which is YAML, too."""
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield f"{indent}{name}:\n"
            yield from _lines(each, indent + "  ")
        else:
            plain = isinstance(each, str) and re.fullmatch(r"[A-Za-z][\w./-]*", each) and each not in _NO_TEXTS
            yield f"{indent}{name}: {each if plain else json.dumps(each)}\n"
