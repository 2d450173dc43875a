"""What the operator makes on the broker is what the services would declare, and all that they need."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import aio_pika
import httpx
import pytest
import yaml
import yarl
from aiormq.exceptions import ChannelAccessRefused

from deploy import broker_resources
from deploy.broker_definitions import needs
from deploy.servers import free_ports
from messaging import keys
from messaging.needs import Needs
from messaging.rabbitmq import RabbitBus
from messaging.rabbitmq_definitions import definitions
from messaging.rabbitmq_resources import as_yaml, resources
from messaging.subjects import master
from messaging.topology import Binding, Queue, Spread, Topology
from tests.acceptance.programs import AMENDS, answers, eventually, finished, running
from tests.contract.kubernetes.manifests import PLATFORM, PRODUCTION, SERVICES, named, of_kind, overlaid, rendered
from tests.contract.kubernetes.operator import allow, make
from tests.contract.kubernetes.validation import problems


def test_the_manifest_is_current() -> None:
    """deploy/kubernetes/components/rabbitmq/topology.yaml is what the services say that they need."""
    assert broker_resources.FILE.read_text(encoding="utf-8") == broker_resources.content()


def test_what_the_manifest_says() -> None:
    """Three exchanges, five queues, and each message type bound where it is read."""
    resources = rendered(PLATFORM)
    assert {each["spec"]["name"] for each in of_kind(resources, "Exchange")} == {
        "amends.events",
        "amends.commands",
        "amends.dead-letters",
    }
    assert named(resources, "Queue", "payment-commands")["spec"] == {
        "name": "payment.commands",
        "vhost": "amends",
        "type": "quorum",
        "durable": True,
        "deletionPolicy": "retain",
        "arguments": {
            "x-dead-letter-exchange": "amends.dead-letters",
            "x-dead-letter-strategy": "at-least-once",
            "x-delivery-limit": 20,
            "x-overflow": "reject-publish",
        },
        "rabbitmqClusterReference": {"name": "rabbitmq"},
    }
    bound = [each["spec"] for each in of_kind(resources, "Binding")]
    assert sorted(each["routingKey"] for each in bound if each["destination"] == "order.events") == [
        "fulfillment.completed",
        "fulfillment.failed",
    ]
    assert len(bound) == 19


def test_a_topology_with_partitions_becomes_resources_too() -> None:
    """An exchange that spreads has its type, what flows into it, and the queues behind it with their weight."""
    spread = Spread("orchestrator.partitions", (Binding("amends.events", "order.created"),))
    queue = Queue("orchestrator.events.0", (Binding("orchestrator.partitions", "1"),), single_active=True)
    needs = Needs("orchestrator", Topology(exchanges=(), queues=(queue,), spreads=(spread,)), ())
    text = as_yaml(resources(definitions([needs], "amends", {}), "rabbitmq"))
    made = list(yaml.safe_load_all(text))
    assert [problems(each) for each in made] == [[]] * len(made)
    specs = {each["metadata"]["name"]: each["spec"] for each in made}
    exchange = specs["orchestrator-partitions"]
    assert (exchange["type"], exchange["arguments"]) == ("x-consistent-hash", {"hash-property": "correlation_id"})
    into = specs["orchestrator-partitions-amends-events-order-created"]
    assert (into["destination"], into["destinationType"]) == ("orchestrator.partitions", "exchange")
    assert specs["orchestrator-events-0"]["arguments"]["x-single-active-consumer"] is True
    assert specs["orchestrator-events-0-orchestrator-partitions-1"]["routingKey"] == "1"


async def test_services_that_declare_find_nothing_different(amqp_url: str) -> None:
    """On a broker where the operator has made everything, a service that declares it itself has nothing to object."""
    await make(amqp_url, rendered(PLATFORM))
    bus = RabbitBus(amqp_url, service="order")
    await bus.start()
    try:
        for each in needs():
            await bus.declare(each.topology)
    finally:
        await bus.close()


COMPONENTS = ("components/signing", "components/subject-keys/services")


@contextmanager
def _pods(amqp_url: str, databases: dict[str, str], place: Path, ports: dict[str, int]) -> Iterator[None]:
    """The production overlay's deployments, signed and sealed, each as one process: its variables, its user, and its
    secrets as files.
    """
    control = os.environ.get("TEST_RABBITMQCTL")
    urls = {name: allow(amqp_url, rendered(PLATFORM), name, control) for name in SERVICES}
    users = {name: str(yarl.URL(url).user) for name, url in urls.items()}
    senders = ",".join(f"{name}={user}" for name, user in users.items())
    signing = {name: keys.new(user) for name, user in users.items()}
    public = {f"{each.id}.json": keys.as_json(each.public_half) for each in signing.values()}
    masters = {"1.json": master.as_json(master.new("1"))}
    ended = finished(
        (sys.executable, "-m", "deploy.migrate", "subjects"), place, AMENDS_SUBJECT_KEYS=databases["subjects"]
    )
    assert ended.returncode == 0, ended.stderr
    (place / "overlay").mkdir()
    deployed = overlaid(place / "overlay", PRODUCTION, *COMPONENTS)
    with ExitStack() as stack:
        for name in SERVICES:
            (container,) = named(deployed, "Deployment", name)["spec"]["template"]["spec"]["containers"]
            given = {each["name"]: each["value"] for each in container["env"]}
            for variable, content in (
                ("DATABASE_URL_FILE", databases[name]),
                ("AMQP_URL_FILE", urls[name]),
                ("AMENDS_SIGNING_KEY_FILE", keys.as_json(signing[name])),
                ("AMENDS_PUBLIC_KEYS", public),
                ("AMENDS_SUBJECT_KEYS_FILE", databases["subjects"]),
                ("AMENDS_MASTER_KEYS", masters),
            ):
                if variable in given:
                    given[variable] = str(_mounted(place / name / given[variable].removeprefix("/"), content))
            assert ("AMENDS_MASTER_KEYS" in given) is (name != "orchestrator")
            given |= {"HOST": "127.0.0.1", "PORT": str(ports[name]), "AMENDS_SENDERS": senders}
            assert given["AMENDS_CHECK_SENDERS"] == given["AMENDS_TOPOLOGY_PASSIVE"] == "true"
            assert given["AMENDS_SIGNING"] == "require"
            # As the images' entry points say it.
            program = AMENDS if name == "orchestrator" else (sys.executable, "-m", f"services.{name}")
            migration = {"DATABASE_URL_FILE": given["DATABASE_URL_FILE"]}
            ended = finished((*program, "migrate"), place, **migration)
            assert ended.returncode == 0, ended.stderr
            stack.enter_context(running((*program, "run"), place, place / f"{name}.log", given))
        yield


def _mounted(path: Path, content: str | dict[str, str]) -> Path:
    """A secret's file, or the folder of a whole secret or config map."""
    files = {path: content} if isinstance(content, str) else {path / name: text for name, text in content.items()}
    for each, text in files.items():
        each.parent.mkdir(parents=True, exist_ok=True)
        each.write_text(text + "\n")
    return path


async def test_an_order_is_paid_by_what_the_manifests_say(
    amqp_url: str, fresh_postgres: Callable[[], str], tmp_path: Path
) -> None:
    """With the broker as the operator makes it, the tables as the jobs leave them, and the deployments' settings, with
    signatures and keys of persons, the probes succeed and an order comes to its end.
    """
    await make(amqp_url, rendered(PLATFORM))
    ports = dict(zip(SERVICES, free_ports(3), strict=True))
    databases = {name: fresh_postgres() for name in (*SERVICES, "subjects")}

    await asyncio.to_thread(_order, amqp_url, databases, tmp_path, ports)


def _order(amqp_url: str, databases: dict[str, str], place: Path, ports: dict[str, int]) -> None:
    with _pods(amqp_url, databases, place, ports), httpx.Client(trust_env=False, timeout=30) as http:
        for name in SERVICES:
            ready = f"http://127.0.0.1:{ports[name]}/readyz"
            assert eventually(partial(answers, ready)), (place / f"{name}.log").read_text()
        line = {"sku": "CD", "quantity": 1, "amount": 1499}
        orders = f"http://127.0.0.1:{ports['order']}/orders"
        placed = http.post(orders, json={"customer_id": "ada", "currency": "USD", "lines": [line]})
        placed.raise_for_status()
        address = f"{orders}/{placed.json()['id']}"
        assert eventually(lambda: http.get(address).json()["captured"] is not None), http.get(address).text
        assert http.get(address).json()["captured"] == 1499


async def test_the_monitor_may_ask_how_long_a_queue_is_and_nothing_else(amqp_url: str) -> None:
    """KEDA asks for a queue passively, as this user, and may not read from it."""
    await make(amqp_url, rendered(PLATFORM))
    url = allow(amqp_url, rendered(PLATFORM), "monitor", os.environ.get("TEST_RABBITMQCTL"))
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("payment.commands", passive=True)
        assert queue.declaration_result.message_count == 0
        if url != amqp_url:
            with pytest.raises(ChannelAccessRefused):
                await queue.get(no_ack=True, fail=False)
