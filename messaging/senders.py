"""Who may say what: the broker's user that published a message against the type that the message names.

The broker proves the user (RabbitMQ refuses a `user_id` property that is not the one who is logged in) and bounds the
routing keys that each may publish. It does not look into the body, where the type stands that a reader acts upon: that
is looked at here.

A type belongs to the user called like its first word (`payment.authorized` to `payment`), unless a table says
otherwise. Commands come from the orchestrator. It may say everything, as may the operator: it sends dead letters again,
and what a person has started by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from messaging.bus import Delivery

FORBIDDEN_SENDER = "forbidden_sender"
"""The reason of what came from a user who may not say it."""
BAD_SIGNATURE = "bad_signature"
"""The reason of what nobody has signed whom we know, or what is not as it was when it was signed."""
UNBELIEVED = frozenset({FORBIDDEN_SENDER, BAD_SIGNATURE})
"""Reasons for which nothing that a message says of itself counts, such as which dead letter it is."""
ORCHESTRATOR = "orchestrator"
OPERATOR = "operator"
"""Who may do everything: imports definitions, looks into queues, sends what no service may."""
_MISTAKE = "write TYPE=USER, like flight=travel or shipping.sent=depot"


class Unproven(Exception):
    """Nothing proves who has signed a message; says why."""


class Signatures(Protocol):
    """What knows by a signature who has sent a message."""

    def speaker(self, delivery: Delivery) -> str:
        """The service that has signed it. Raises Unproven."""


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a message is not read: a word for programs, a sentence for people."""

    reason: str
    why: str


@dataclass(frozen=True, slots=True)
class Senders:
    """The table. `users` names, for a type or the words that a type begins with, the users that may say it instead of
    the usual one; the longest such entry counts.

    The words `orchestrator` and `operator` in it name the users of those two. Several entries of one type add up.
    Where there are `signatures`, the service that has signed has to be one that may say it, as the user of the broker
    has to be one unless `by_user` is false.
    """

    users: Mapping[str, frozenset[str]] = field(default_factory=dict)
    signatures: Signatures | None = None
    by_user: bool = True

    @classmethod
    def parse(cls, entries: Sequence[str], *, signatures: Signatures | None = None, by_user: bool = True) -> Senders:
        """From `TYPE=USER` each. Raises ValueError, saying which is none."""
        users: dict[str, frozenset[str]] = {}
        for entry in entries:
            wire_type, equals, user = (part.strip() for part in entry.partition("="))
            if not (wire_type and equals and user):
                raise ValueError(f"{entry!r} says nothing about a sender; {_MISTAKE}")
            users[wire_type] = users.get(wire_type, frozenset()) | {user}
        return cls(users, signatures, by_user)

    def objection(self, delivery: Delivery, wire_type: str, *, command: bool = False) -> Objection | None:
        """Why this message may not say this; None where it may."""
        if self.by_user and (why := self.refusal(wire_type, delivery.user_id, command=command)) is not None:
            return Objection(FORBIDDEN_SENDER, why)
        if self.signatures is None:
            return None
        try:
            speaker = self.signatures.speaker(delivery)
        except Unproven as error:
            return Objection(BAD_SIGNATURE, str(error))
        why = self.refusal(wire_type, speaker, command=command)
        return None if why is None else Objection(FORBIDDEN_SENDER, f"by its signature {why}")

    def refusal(self, wire_type: str, user_id: str | None, *, command: bool = False) -> str | None:
        """Why this user may not say this, as a sentence; None where it may."""
        if user_id is None:
            return f"it names no sender (user_id), so nothing proves that {wire_type} comes from who may say it"
        if user_id in self._everything():
            return None
        if command:
            return f"user {user_id!r} sent {wire_type}, and commands come from the orchestrator only"
        may = self.of(wire_type)
        if user_id in may:
            return None
        names = " or ".join(repr(each) for each in sorted(may))
        return f"user {user_id!r} may not say {wire_type}; that is for {names}"

    def of(self, wire_type: str) -> frozenset[str]:
        """The users that may say this type."""
        words = wire_type
        while (found := self.users.get(words)) is None and "." in words:
            words = words.rpartition(".")[0]
        return found or frozenset({words})

    def _everything(self) -> frozenset[str]:
        return self.of(ORCHESTRATOR) | self.of(OPERATOR)
