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

ORCHESTRATOR = "orchestrator"
OPERATOR = "operator"
_MISTAKE = "write TYPE=USER, like flight=travel or shipping.sent=depot"


@dataclass(frozen=True, slots=True)
class Senders:
    """The table. `users` names, for a type or a type's first word, the users that may say it instead of the usual one.

    The words `orchestrator` and `operator` in it name the users of those two. Several entries of one type add up.
    """

    users: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, entries: Sequence[str]) -> Senders:
        """From `TYPE=USER` each. Raises ValueError, saying which is none."""
        users: dict[str, frozenset[str]] = {}
        for entry in entries:
            wire_type, equals, user = (part.strip() for part in entry.partition("="))
            if not (wire_type and equals and user):
                raise ValueError(f"{entry!r} says nothing about a sender; {_MISTAKE}")
            users[wire_type] = users.get(wire_type, frozenset()) | {user}
        return cls(users)

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
        word = wire_type.partition(".")[0]
        return self.users.get(wire_type) or self.users.get(word) or frozenset({word})

    def _everything(self) -> frozenset[str]:
        return self.of(ORCHESTRATOR) | self.of(OPERATOR)
