"""What one input causes, as a value: matched once, carried out in one place."""

from __future__ import annotations

from enum import StrEnum

from contracts.value import value
from orchestrator.saga.facts import Fact
from orchestrator.saga.state import Send


class Verdict(StrEnum):
    """What became of an input."""

    APPLIED = "applied"
    LATE = "late"
    """Recorded, and changed nothing."""
    PARKED = "parked"
    """Nobody awaits it yet: kept, and tried again after the next transition. Not recorded."""
    DUPLICATE = "duplicate"
    """Nothing new in it. Not recorded."""
    REFUSED = "refused"
    """A person asked for what is not possible now; `note` says why. Not recorded."""


@value
class Transition:
    """What one input causes: facts for the history, messages for the outbox."""

    verdict: Verdict
    facts: tuple[Fact, ...] = ()
    sends: tuple[Send, ...] = ()
    note: str = ""
