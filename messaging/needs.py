"""What a service needs of the broker: what it reads and what it publishes, as data that an operator can grant.

Each service says it of itself (`python -m services.payment needs`); from all of them together
`amends broker definitions` makes exchanges, queues, users and permissions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from contracts.registry import in_words
from messaging.senders import OPERATOR, ORCHESTRATOR
from messaging.topology import DEAD_LETTERS, EVENTS, Binding, Topology

if TYPE_CHECKING:
    from messaging.service import Service

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_RESERVED = ("amends", "operator", "monitor")
_EVERYBODYS = ("#", f"{ORCHESTRATOR}.#", f"{OPERATOR}.#")
"""Who may say all of one of these may say everything."""


@dataclass(frozen=True, slots=True)
class Needs:
    """One service: its name, which is its user's too, what it finds on the broker, and what it publishes where.

    `publishes` are topic patterns: a whole type, `word.#` for all that begin with a word, or `#` for everything, which
    only the orchestrator may. Raises ValueError for a name that cannot be a service's, and for what is not its to say.
    """

    service: str
    topology: Topology
    publishes: tuple[Binding, ...]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.service) or self.service in _RESERVED:
            raise ValueError(
                f"{self.service!r} cannot be the name of a service: lower case letters, digits, - and _, beginning "
                f"with a letter, and none of {', '.join(_RESERVED)}"
            )
        for each in self.publishes:
            if each.exchange == EVENTS and each.pattern in _EVERYBODYS and self.service != ORCHESTRATOR:
                raise ValueError(
                    f"{self.service!r} may not publish {each.pattern}: name the events, or what their types begin with"
                )

    @property
    def foreign(self) -> tuple[str, ...]:
        """Patterns of events that it publishes and that are not called after it."""
        own = f"{self.service}."
        return tuple(
            each.pattern
            for each in self.publishes
            if each.exchange == EVENTS and each.pattern != "#" and not each.pattern.startswith(own)
        )

    def may_say(self, words: str) -> bool:
        """Whether it publishes the event of this type, or all whose types begin with these words."""
        patterns = [each.pattern for each in self.publishes if each.exchange == EVENTS and each.pattern != "#"]
        return any(each == words or (each.endswith("#") and f"{words}.".startswith(each[:-1])) for each in patterns)


def own(service: str, *events: str) -> tuple[Binding, ...]:
    """What every service may publish: events called after it, these others, and word of its dead letters."""
    foreign = (each for each in events if not each.startswith(f"{service}."))
    return (
        Binding(EVENTS, f"{service}.#"),
        *(Binding(EVENTS, each) for each in sorted(set(foreign))),
        Binding(DEAD_LETTERS, f"{service}.#"),
    )


def of_service(service: Service) -> Needs:
    """What a service of participants needs: its queues, and what it answers."""
    answers = [wire_type for role in service.roles for wire_type in role.answers]
    return Needs(service.name, service.topology, own(service.name, *answers))


_ADAPTER = TypeAdapter(Needs)


def as_json(needs: Needs) -> str:
    """The same as text that `from_json` reads."""
    return _ADAPTER.dump_json(needs, indent=2).decode()


def from_json(text: str) -> Needs:
    """Raises ValueError with what is wrong."""
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        raise ValueError(in_words(error)) from error
