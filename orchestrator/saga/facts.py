"""What a transition establishes: facts, in the past tense, that `evolve` folds into the state.

Facts name steps and carry whatever the state will hold, so that folding them needs no function of the user's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.saga.state import Direction


@dataclass(frozen=True, slots=True)
class Started:
    """The instance exists, with this data."""

    data: Any


@dataclass(frozen=True, slots=True)
class DataChanged:
    """The data is now this."""

    data: Any


@dataclass(frozen=True, slots=True)
class CommandSent:
    """A command left for a step's participant; without an answer, it is looked at again when `due`."""

    step: str
    direction: Direction
    round: int
    attempt: int
    due: datetime


@dataclass(frozen=True, slots=True)
class WaitBegun:
    """A wait or a delay was reached."""

    step: str
    due: datetime | None


@dataclass(frozen=True, slots=True)
class StepSucceeded:
    """Its command was answered with success, its event has come, its time has passed, or a person says so."""

    step: str


@dataclass(frozen=True, slots=True)
class StepSkipped:
    """Not needed (`when`), or a wait that ended without its event."""

    step: str


@dataclass(frozen=True, slots=True)
class StepRefused:
    """The participant refused: nothing happened there."""

    step: str


@dataclass(frozen=True, slots=True)
class StepInDoubt:
    """No answer came: it may have happened or not."""

    step: str


@dataclass(frozen=True, slots=True)
class StepCompensated:
    """What it may have done is undone."""

    step: str


@dataclass(frozen=True, slots=True)
class CompensationBegun:
    """The instance goes back, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class BecameStuck:
    """A person must decide. `gave_up` names the steps whose command is not sent again by itself."""

    reason: str
    gave_up: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resumed:
    """A person has decided; the instance goes on with what it was doing."""


@dataclass(frozen=True, slots=True)
class DeadlineMoved:
    """A person wants the step looked at then, or (None) not before something comes for it."""

    step: str
    due: datetime | None


@dataclass(frozen=True, slots=True)
class Migrated:
    """The instance goes on as another version of its saga, with data of that version's.

    `renamed` are the steps reached that are called otherwise there, old name to new. `made_from` is, by new name,
    what the data has become that a command under way was made from.
    """

    from_version: int
    to_version: int
    data: Any
    renamed: Mapping[str, str]
    made_from: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Completed:
    """Every step is done."""


@dataclass(frozen=True, slots=True)
class Compensated:
    """Amends are made."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A person has ended it as it is."""

    reason: str


@dataclass(frozen=True, slots=True)
class CameLate:
    """The input changed nothing any more; why."""

    why: str


Fact = (
    Started
    | DataChanged
    | CommandSent
    | WaitBegun
    | StepSucceeded
    | StepSkipped
    | StepRefused
    | StepInDoubt
    | StepCompensated
    | CompensationBegun
    | BecameStuck
    | Resumed
    | DeadlineMoved
    | Migrated
    | Completed
    | Compensated
    | Abandoned
    | CameLate
)
