"""What a transition establishes: facts, in the past tense, that `evolve` folds into the state.

Facts name steps and carry whatever the state will hold, so that folding them needs no function of the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.value import value
from orchestrator.saga.state import Direction


@value
class Started:
    """The instance exists, with this data."""

    data: Any
    text: str = field(default="", init=False, compare=False, repr=False)
    """The JSON of the data, where that has been written already; never in what `replace` makes."""


@value
class DataChanged:
    """The data is now this."""

    data: Any
    text: str = field(default="", init=False, compare=False, repr=False)
    """As above."""


_set_started: Callable[[Started, str], None] = vars(Started)["text"].__set__
_set_changed: Callable[[DataChanged, str], None] = vars(DataChanged)["text"].__set__


def started(data: Any, text: str) -> Started:
    """The fact, which knows that `text` is the JSON of this data."""
    fact = Started(data)
    _set_started(fact, text)
    return fact


def data_changed(data: Any, text: str) -> DataChanged:
    """As above."""
    fact = DataChanged(data)
    _set_changed(fact, text)
    return fact


@value
class CommandSent:
    """A command left for a step's participant; without an answer, it is looked at again when `due`."""

    step: str
    direction: Direction
    round: int
    attempt: int
    due: datetime
    command: UUID | None = field(default=None, compare=False, repr=False)
    """The command's id, where this has just been decided."""


@value
class WaitBegun:
    """A wait or a delay was reached."""

    step: str
    due: datetime | None


@value
class StepSucceeded:
    """Its command was answered with success, its event has come, its time has passed, or a person says so."""

    step: str


@value
class StepSkipped:
    """Not needed (`when`), or a wait that ended without its event."""

    step: str


@value
class StepRefused:
    """The participant refused: nothing happened there."""

    step: str


@value
class StepInDoubt:
    """No answer came: it may have happened or not."""

    step: str


@value
class StepCompensated:
    """What it may have done is undone."""

    step: str


@value
class CompensationBegun:
    """The instance goes back, and why."""

    reason: str


@value
class BecameStuck:
    """A person must decide. `gave_up` names the steps whose command is not sent again by itself."""

    reason: str
    gave_up: tuple[str, ...] = ()


@value
class Resumed:
    """A person has decided; the instance goes on with what it was doing."""


@value
class DeadlineMoved:
    """A person wants the step looked at then, or (None) not before something comes for it."""

    step: str
    due: datetime | None


@value
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


@value
class Completed:
    """Every step is done."""


@value
class Compensated:
    """Amends are made."""


@value
class Abandoned:
    """A person has ended it as it is."""

    reason: str


@value
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
