"""What services need of the broker as RabbitMQ's own definitions: for `rabbitmqctl import_definitions`,
`load_definitions` in rabbitmq.conf, and the management API.

The topology belongs to the operator who imports them. An import adds and changes; it takes nothing away.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from messaging.grants import EVERYTHING, NOTHING, Permission, permission, topic_permissions
from messaging.needs import Needs
from messaging.rabbitmq_topology import CONSISTENT_HASH, SPREAD_BY, arguments_of
from messaging.senders import OPERATOR
from messaging.topology import Binding, Queue, Spread, Topology

MONITOR = "monitor"
"""Who may look at figures, and read and write nothing."""


def definitions(needs: Sequence[Needs], vhost: str, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Exchanges, queues, bindings, users and permissions; `hashes` are passwords as `hashed` makes them.

    A user without one cannot log in with a password.

    Raises ValueError where two services have one name, or one queue is needed in two ways.
    """
    topology = _together(needs)
    granted = [
        *(permission(each) for each in needs),
        Permission(OPERATOR, EVERYTHING, EVERYTHING, EVERYTHING),
        Permission(MONITOR, NOTHING, NOTHING, NOTHING),
    ]
    topics = [topic for each in needs for topic in topic_permissions(each, topology.exchanges)]
    return {
        "users": [_user(name, tags, hashes.get(name, "")) for name, tags in _users(needs)],
        "vhosts": [{"name": vhost}],
        "permissions": [asdict(each) | {"vhost": vhost} for each in granted],
        "topic_permissions": [asdict(each) | {"vhost": vhost} for each in topics],
        "exchanges": [
            *(_exchange(name, vhost, "topic", {}) for name in topology.exchanges),
            *(_exchange(each.name, vhost, CONSISTENT_HASH, SPREAD_BY) for each in topology.spreads),
        ],
        "queues": [_queue(each, vhost) for each in topology.queues],
        "bindings": [
            *(_binding(each, binding, "queue", vhost) for each in topology.queues for binding in each.bindings),
            *(_binding(each, binding, "exchange", vhost) for each in topology.spreads for binding in each.bindings),
        ],
    }


def users(needs: Sequence[Needs]) -> tuple[str, ...]:
    """Everybody for whom there is a password to be had."""
    return tuple(name for name, _ in _users(needs))


def senders(needs: Sequence[Needs]) -> tuple[str, ...]:
    """What AMENDS_SENDERS has to say: who publishes events that are not called after their user.

    An entry stands in the place of whatever would hold without it, so it names all who may say this.
    """
    types = {pattern.removesuffix(".#") for each in needs for pattern in each.foreign}
    return tuple(
        sorted(f"{wire_type}={each.service}" for wire_type in types for each in needs if each.may_say(wire_type))
    )


def hashed(password: str, salt: bytes | None = None) -> str:
    """As RabbitMQ keeps it: four random bytes, and the SHA-256 of these and the password, in base64."""
    salt = secrets.token_bytes(4) if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def _together(needs: Sequence[Needs]) -> Topology:
    names = [each.service for each in needs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two of these are called {name!r}; name each service once")
    topology = Topology(exchanges=())
    for each in needs:
        topology = topology.with_all(each.topology)
    known: dict[str, Queue] = {}
    for queue in topology.queues:
        if known.setdefault(queue.name, queue) != queue:
            raise ValueError(
                f"the queue {queue.name!r} is needed in two ways; let all services say what they need with the same "
                "AMENDS_QUEUE_TYPE"
            )
    return topology


def _users(needs: Iterable[Needs]) -> list[tuple[str, list[str]]]:
    return [*((each.service, []) for each in needs), (OPERATOR, ["administrator"]), (MONITOR, ["monitoring"])]


def _user(name: str, tags: list[str], password_hash: str) -> dict[str, Any]:
    return {
        "name": name,
        "password_hash": password_hash,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
    }


def _exchange(name: str, vhost: str, kind: str, arguments: Mapping[str, str]) -> dict[str, Any]:
    rest = {"durable": True, "auto_delete": False, "internal": False, "arguments": dict(arguments)}
    return {"name": name, "vhost": vhost, "type": kind, **rest}


def _queue(queue: Queue, vhost: str) -> dict[str, Any]:
    return {
        "name": queue.name,
        "vhost": vhost,
        "durable": True,
        "auto_delete": False,
        "arguments": arguments_of(queue),
    }


def _binding(bound: Queue | Spread, binding: Binding, kind: str, vhost: str) -> dict[str, Any]:
    return {
        "source": binding.exchange,
        "vhost": vhost,
        "destination": bound.name,
        "destination_type": kind,
        "routing_key": binding.pattern,
        "arguments": {},
    }
