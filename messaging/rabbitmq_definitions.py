"""What services need of the broker as RabbitMQ's own definitions: for `rabbitmqctl import_definitions`,
`load_definitions` in rabbitmq.conf, and the management API.

The topology belongs to the operator who imports them: services may configure nothing, read their own queues, and write
what they publish. An import adds and changes; it takes nothing away.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from messaging.needs import Needs
from messaging.rabbitmq_topology import CONSISTENT_HASH, SPREAD_BY, arguments_of
from messaging.topology import Binding, Queue, Spread, Topology

OPERATOR = "operator"
"""Who may do everything: imports definitions, looks into queues, sends what no service may."""
MONITOR = "monitor"
"""Who may look at figures, and read and write nothing."""
NOTHING, EVERYTHING = "^$", ".*"


def definitions(needs: Sequence[Needs], vhost: str, passwords: Mapping[str, str]) -> dict[str, Any]:
    """Exchanges, queues, bindings, users and permissions; a user without a password cannot log in with one.

    Raises ValueError where two services have one name, or one queue is needed in two ways.
    """
    topology = _together(needs)
    grants = [(each.service, _permissions(each, vhost), _topics(each, topology, vhost)) for each in needs]
    return {
        "users": [_user(name, tags, passwords.get(name)) for name, tags in _users(needs)],
        "vhosts": [{"name": vhost}],
        "permissions": [
            *(permission for _, permission, _ in grants),
            _permission(OPERATOR, vhost, EVERYTHING, EVERYTHING, EVERYTHING),
            _permission(MONITOR, vhost, NOTHING, NOTHING, NOTHING),
        ],
        "topic_permissions": [topic for _, _, topics in grants for topic in topics],
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
    """What AMENDS_SENDERS has to say: who publishes events that are not called after their user."""
    services = {each.service for each in needs}
    entries: set[str] = set()
    for each in needs:
        for pattern in each.foreign:
            wire_type = pattern.removesuffix(".#")
            entries.add(f"{wire_type}={each.service}")
            word = wire_type.partition(".")[0]
            if word in services:
                entries.add(f"{wire_type}={word}")
    return tuple(sorted(entries))


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


def _user(name: str, tags: list[str], password: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "password_hash": "" if password is None else hashed(password),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
    }


def _permissions(needs: Needs, vhost: str) -> dict[str, str]:
    write = _any_of(re.escape(name) for name in dict.fromkeys(each.exchange for each in needs.publishes))
    # What is called after it: earlier numbers of partitions have left queues that are read until they are empty.
    read = rf"^{re.escape(needs.service)}\..+$" if needs.topology.queues else NOTHING
    return _permission(needs.service, vhost, NOTHING, write, read)


def _topics(needs: Needs, topology: Topology, vhost: str) -> list[dict[str, str]]:
    """For each exchange one: without, RabbitMQ lets a user who may write to it use any key."""
    found = []
    for exchange in topology.exchanges:
        patterns = [_regex(each.pattern) for each in needs.publishes if each.exchange == exchange]
        write = _any_of(patterns) if patterns else NOTHING
        found.append({"user": needs.service, "vhost": vhost, "exchange": exchange, "write": write, "read": NOTHING})
    return found


def _any_of(patterns: Iterable[str]) -> str:
    alternatives = list(patterns)
    if not alternatives:
        return NOTHING
    return f"^({'|'.join(alternatives)})$" if len(alternatives) > 1 else f"^{alternatives[0]}$"


def _regex(pattern: str) -> str:
    """A topic pattern as a regular expression, without its ends."""
    if pattern == "#":
        return EVERYTHING
    whole, rest = pattern.removesuffix(".#"), pattern.endswith(".#")
    if "*" in whole or "#" in whole:
        raise ValueError(f"{pattern!r} is no type, and neither all that begin with a word (word.#) nor everything (#)")
    return re.escape(whole) + (r"\..+" if rest else "")


def _permission(user: str, vhost: str, configure: str, write: str, read: str) -> dict[str, str]:
    return {"user": user, "vhost": vhost, "configure": configure, "write": write, "read": read}


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
