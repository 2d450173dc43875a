"""Where a saga instance is: values only, no behavior but looking.

A step's place is named, never numbered, so that a step inserted in a later version cannot make an instance misread its
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from contracts.derived import derived_id
from contracts.message import Message
from contracts.value import value

_SAGAS = uuid5(NAMESPACE_URL, "urn:amends:saga")


class Status(StrEnum):
    """Of an instance."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    STUCK = "stuck"
    ABANDONED = "abandoned"

    def __init__(self, word: str) -> None:
        # Known of each from the start: to hash a member of an enumeration, or to ask for its value, calls a function in
        # Python.
        self.word = word
        self.terminal = word in ("completed", "compensated", "abandoned")


_STUCK = Status.STUCK


class Direction(StrEnum):
    """Which of a step's two commands."""

    ACTION = "action"
    COMPENSATION = "compensation"


class StepStatus(StrEnum):
    """Of a step, a wait or a delay that has been reached."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    REFUSED = "refused"
    IN_DOUBT = "in_doubt"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"

    def __init__(self, word: str) -> None:
        # As above; and to name a member costs as much as a call.
        self.underway = word in ("running", "compensating")
        self.awaiting = {"running": Direction.ACTION, "compensating": Direction.COMPENSATION}.get(word)


@value
class StepState:
    """A step that has been reached. `round` and `attempt` are those of its current direction."""

    status: StepStatus
    round: int = 1
    attempt: int = 0
    due: datetime | None = None
    action_round: int = 0
    """The last round of the action: with it, its command's id can be derived again."""
    made_from: Any = None
    """The data its command was made from, where the saga's data has changed since: sent again, it stays the same."""
    open_ended: bool = False
    """Whether a person has revoked its deadline: it waits until something comes."""
    sent_as: str | None = None
    """The name its commands' ids are derived from, where a migration has given it another."""
    command: UUID | None = field(default=None, compare=False, repr=False)
    """The id of the command that it waits for an answer to, where this process has sent that; else it is derived."""

    @property
    def underway(self) -> bool:
        """Whether it waits for something."""
        return self.status.underway

    @property
    def awaiting(self) -> Direction | None:
        """Which of its two commands it waits for an answer to."""
        return self.status.awaiting

    @property
    def given_up(self) -> bool:
        """Whether its command is not sent again by itself and nobody wanted it so. Means nothing for a wait."""
        return self.underway and self.due is None and not self.open_ended


@value
class SagaState:
    """An instance: fold(history) gives exactly this."""

    status: Status = Status.RUNNING
    data: Any = None
    steps: Mapping[str, StepState] = field(default_factory=dict)
    reason: str = ""
    """Why it goes back, or why it is stuck."""
    before: Status | None = None
    """What it was doing when it got stuck."""
    reason_before: str = ""
    """Why it was doing that; the reason again once it goes on."""

    @property
    def started(self) -> bool:
        """False for an instance whose very first transition failed."""
        return self.data is not None

    @property
    def deadline(self) -> datetime | None:
        """When it must be looked at, if nothing comes before; None when only a person or an event can move it."""
        if self.status.terminal or self.status is _STUCK:
            return None
        moments = [step.due for step in self.steps.values() if step.due is not None]
        return min(moments) if moments else None

    @property
    def current(self) -> tuple[str, ...]:
        """The steps it is waiting for."""
        return tuple([name for name, step in self.steps.items() if step.status.underway])

    @property
    def waits_for(self) -> str:
        """The same for people; nothing once it has ended, however its steps were left."""
        return "" if self.status.terminal else ", ".join(self.current)


def saga_id(name: str, key: object) -> UUID:
    """The id of the one instance of this saga for this key (rule 1)."""
    return _instance_of(name, str(key))


@lru_cache(maxsize=1024)  # whoever takes a batch asks whom it concerns, and so does whoever handles it
def _instance_of(name: str, key: str) -> UUID:
    return derived_id(_instances_of(name), key)


@lru_cache(maxsize=1024)
def _instances_of(name: str) -> UUID:
    return derived_id(_SAGAS, name)


def command_id(saga: UUID, step: str, direction: Direction, round: int) -> UUID:
    """The message id of a step's command: the same decision, the same id (rule 2)."""
    return derived_id(saga, f"{step}/{direction}/{round}")


def step_command_id(saga: UUID, name: str, step: StepState | None, direction: Direction, round: int) -> UUID:
    """The message id of a command of the step that is called `name` now; `step` is None where it is not reached yet."""
    sent_as = step.sent_as if step is not None else None
    return command_id(saga, sent_as or name, direction, round)


def awaited_command_id(saga: UUID, name: str, step: StepState) -> UUID | None:
    """The message id of the command that this step waits for an answer to; None where it waits for none."""
    direction = step.awaiting
    return None if direction is None else step.command or step_command_id(saga, name, step, direction, step.round)


def outcome_id(saga: UUID, outcome: str) -> UUID:
    """The message id of the event that announces an instance's end."""
    return derived_id(saga, f"outcome/{outcome}")


@value
class Send:
    """A message that a transition sends. `compensates` is the id of the command that this one undoes."""

    id: UUID
    message: Message
    step: str | None = None
    compensates: UUID | None = None
