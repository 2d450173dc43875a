"""What two messages differ in, field by field, in words."""

from __future__ import annotations

from contracts.message import Message
from orchestrator.changed import MISSING, changes


def differences(expected: Message, found: Message) -> list[str]:
    """A line for each field that is not as expected: `amount.amount   expected 100   sent 120`."""
    told = list(changes(expected, found, by_element=True))
    wide = max((len(each.path) for each in told), default=0)
    return [f"{each.path:<{wide}}   expected {_shown(each.before)}   sent {_shown(each.after)}" for each in told]


def _shown(value: object) -> str:
    return "nothing" if value is MISSING else repr(value)
