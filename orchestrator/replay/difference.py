"""What a replay finds: values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Kind(StrEnum):
    """Of a difference, the one that matters most where a transition differs in several ways."""

    HISTORY = "history"
    """The recording contradicts itself: a gap, a text that cannot be read, a row that is not what the history says."""
    NOT_LOADED = "not_loaded"
    """No definition of this name and version in this checkout."""
    UNREADABLE = "unreadable"
    """A recorded event or the recorded data does not fit its contract any more."""
    NOT_ACCEPTED = "not_accepted"
    """An input that moved the instance would be parked, refused, late or a duplicate."""
    BECOMES_STUCK = "becomes_stuck"
    NO_LONGER_STUCK = "no_longer_stuck"
    STEP_RENAMED = "step_renamed"
    STEP_REMOVED = "step_removed"
    STEP_ADDED = "step_added"
    STEPS_REORDERED = "steps_reordered"
    COMPENSATION = "compensation"
    """A step is not undone any more, or is undone now."""
    OTHER_COMMAND = "other_command"
    """Another message is sent, one more or one less."""
    COMMAND_FIELD = "command_field"
    """The same message with other content."""
    DEADLINE = "deadline"
    DATA = "data"
    OUTCOME = "outcome"
    """The transition leads somewhere else."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a recorded history and this checkout part: the first transition, and both sides of it.

    `seq` is the transition's number (0: the instance as a whole), `input` its input in words. `sentence` says what
    differs without quoting what is the instance's own, so that equal sentences are one finding; `recorded` and `now`
    are the two sides, a line each.
    """

    seq: int
    kind: Kind
    sentence: str
    input: str = ""
    recorded: tuple[str, ...] = ()
    now: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Replayed:
    """One instance replayed. `transitions` is how many were folded until the end or the difference."""

    id: UUID
    name: str
    version: int
    key: str
    transitions: int
    difference: Difference | None
