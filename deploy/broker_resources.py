"""python -m deploy.broker_resources: what lies on the broker, for RabbitMQ's Messaging Topology Operator.

Writes deploy/kubernetes/components/rabbitmq/topology.yaml. Exchanges, queues and bindings are those that the services
would declare themselves; with AMENDS_TOPOLOGY_PASSIVE they only check them. AMENDS_SAGAS, AMENDS_PARTITIONS and
AMENDS_QUEUE_TYPE are heeded, so that a team with sagas of its own has the same: `--stdout` prints instead of writing.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from messaging.memory import MemoryBus
from messaging.memory_broker import MemoryBroker
from messaging.process import load
from messaging.rabbitmq_topology import CONSISTENT_HASH, arguments_of
from messaging.topology import Queue, Spread, Topology
from orchestrator.assembly import orchestrator
from orchestrator.catalog import load as load_catalog
from orchestrator.settings import OrchestratorSettings
from services.order.assembly import order_service
from services.order.settings import OrderSettings
from services.payment.assembly import payment_service
from services.payment.settings import PaymentSettings

PAGE = Path(__file__).parent / "kubernetes" / "components" / "rabbitmq" / "topology.yaml"
CLUSTER = "rabbitmq"
VHOST = "amends"

Value: TypeAlias = "str | int | bool | Mapping[str, Value] | Sequence[Value]"
Resource: TypeAlias = Mapping[str, Value]

_NO_TEXTS = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
"""What YAML, or some readers of it, take for something else."""
_HEAD = """\
# Written by `python -m deploy.broker_resources` from what the services would declare themselves; do not edit it here.
"""


def shop() -> Topology:
    """What the three services need on the broker, by the settings in the environment."""
    bus = MemoryBus(MemoryBroker(), service="nobody")
    settings = load(OrchestratorSettings)
    found = orchestrator(settings, load_catalog(settings.sagas), bus).topology
    for service in (order_service(load(OrderSettings), bus), payment_service(load(PaymentSettings), bus)):
        found = found.with_all(service.topology)
    return found


def resources(topology: Topology) -> Iterator[Resource]:
    """The virtual host and everything in it, each a resource of the Messaging Topology Operator."""
    yield _resource("Vhost", VHOST, {"name": VHOST, "defaultQueueType": "quorum", "deletionPolicy": "retain"})
    yield _in_vhost(
        "Policy",
        "leaders-on-all-nodes",
        {
            "name": "leaders-on-all-nodes",
            "pattern": ".*",
            "applyTo": "quorum_queues",
            "definition": {"queue-leader-locator": "balanced"},
        },
    )
    for exchange in topology.exchanges:
        yield _in_vhost("Exchange", exchange, {"name": exchange, "type": "topic", "durable": True})
    for spread in topology.spreads:
        how: Resource = {
            "name": spread.name,
            "type": CONSISTENT_HASH,
            "durable": True,
            "arguments": {"hash-property": "correlation_id"},
        }
        yield _in_vhost("Exchange", spread.name, how)
    for queue in topology.queues:
        yield _in_vhost("Queue", queue.name, _queue(queue))
    targets: list[Queue | Spread] = [*topology.queues, *topology.spreads]
    for target in targets:
        yield from _bindings(target)


def _queue(queue: Queue) -> Resource:
    arguments = {name: value for name, value in arguments_of(queue).items() if name != "x-queue-type"}
    # Deleting the resource deletes no queue: messages may lie in it.
    return {
        "name": queue.name,
        "type": queue.type.value,
        "durable": True,
        "deletionPolicy": "retain",
        "arguments": json.loads(json.dumps(arguments)),
    }


def _bindings(target: Queue | Spread) -> Iterator[Resource]:
    kind = "queue" if isinstance(target, Queue) else "exchange"
    for binding in target.bindings:
        yield _in_vhost(
            "Binding",
            f"{target.name} {binding.exchange} {binding.pattern.replace('#', 'all')}",
            {
                "source": binding.exchange,
                "destination": target.name,
                "destinationType": kind,
                "routingKey": binding.pattern,
            },
        )


def _in_vhost(kind: str, name: str, spec: Resource) -> Resource:
    return _resource(kind, name, {"vhost": VHOST, **spec})


def _resource(kind: str, name: str, spec: Resource) -> Resource:
    return {
        "apiVersion": "rabbitmq.com/v1beta1",
        "kind": kind,
        "metadata": {
            # Kubernetes has no dots and underscores in names like these.
            "name": re.sub(r"[^a-z0-9]+", "-", name),
            "labels": {"app.kubernetes.io/part-of": "amends"},
        },
        "spec": {**spec, "rabbitmqClusterReference": {"name": CLUSTER}},
    }


def page(topology: Topology) -> str:
    """All of it as a file for kubectl."""
    return _HEAD + "---\n".join("".join(_yaml(each)) for each in resources(topology))


def _yaml(value: Mapping[str, Value], indent: str = "") -> Iterator[str]:
    """YAML of nested mappings with scalars and lists in them; these in JSON, which is YAML, too."""
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield f"{indent}{name}:\n"
            yield from _yaml(each, indent + "  ")
        else:
            plain = isinstance(each, str) and re.fullmatch(r"[A-Za-z][\w./-]*", each) and each not in _NO_TEXTS
            yield f"{indent}{name}: {each if plain else json.dumps(each)}\n"


def main(words: Sequence[str]) -> None:
    """Write the file, or print it."""
    text = page(shop())
    if "--stdout" in words:
        sys.stdout.write(text)
        return
    PAGE.write_text(text, encoding="utf-8")
    print(f"written: {PAGE}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
