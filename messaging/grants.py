"""What the broker lets a service do, from what the service needs: RabbitMQ's permissions, as data.

The topology belongs to whoever owns the broker: a service configures nothing, reads its own queues, and writes what it
publishes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from messaging.needs import Needs

NOTHING, EVERYTHING = "^$", ".*"


@dataclass(frozen=True, slots=True)
class Permission:
    """Regular expressions on the names of queues and exchanges that a user may configure, write to and read from."""

    user: str
    configure: str
    write: str
    read: str


@dataclass(frozen=True, slots=True)
class TopicPermission:
    """Regular expressions on the routing keys that a user may publish with to an exchange, and bind to it with."""

    user: str
    exchange: str
    write: str
    read: str = NOTHING


def permission(needs: Needs) -> Permission:
    """One service's, in the virtual host of all."""
    write = _any_of(re.escape(name) for name in dict.fromkeys(each.exchange for each in needs.publishes))
    # What is called after it: earlier numbers of partitions have left queues that are read until they are empty.
    read = rf"^{re.escape(needs.service)}\..+$" if needs.topology.queues else NOTHING
    return Permission(needs.service, NOTHING, write, read)


def topic_permissions(needs: Needs, exchanges: Sequence[str]) -> tuple[TopicPermission, ...]:
    """One service's, for each of all the topic exchanges that there are.

    Without one, RabbitMQ lets a user who may write to an exchange use any key. Raises ValueError for a pattern that is
    neither a type, nor `word.#`, nor `#`.
    """
    return tuple(
        TopicPermission(
            needs.service,
            exchange,
            _any_of(_regex(each.pattern) for each in needs.publishes if each.exchange == exchange),
        )
        for exchange in exchanges
    )


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
