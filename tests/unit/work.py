"""A made-up domain for the tests of the saga machine: work that is done, undone, approved and withdrawn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Never

from pydantic import BaseModel, ConfigDict

from contracts.message import Command, Event
from orchestrator import PIVOT, RETRIABLE, Cancel, Delay, Saga, Start, Step, Wait, hours


class Begun(Event, type="work.begun", key="id"):
    """Somebody wants the work done."""

    id: int


class Withdrawn(Event, type="work.withdrawn", key="id"):
    """They want it no more."""

    id: int


class Approved(Event, type="work.approved", key="id"):
    """Somebody has agreed."""

    id: int
    by: str = "ann"


class Done(Event, type="work.done"):
    """The answer to Do and Must."""

    note: str = ""


class Refused(Event, type="work.refused"):
    """The other answer to Do."""

    reason: str = "no_time"


class Do(Command[Done, Refused], type="work.do"):
    """What a step asks for; `seen` is what the saga knew when it asked."""

    step: str
    seen: tuple[str, ...]


class Must(Command[Done, Never], type="work.must"):
    """The same, and it cannot be refused."""

    step: str
    seen: tuple[str, ...]


class Undone(Event, type="work.undone"):
    """The answer to Undo."""


class Undo(Command[Undone, Never], type="work.undo"):
    """Make it as if it had not happened."""

    step: str
    seen: tuple[str, ...]


class Finished(Event, type="work.finished"):
    """All is done."""

    log: tuple[str, ...]


class Amended(Event, type="work.amended"):
    """All is undone."""

    log: tuple[str, ...]


class Work(BaseModel):
    """What the saga knows: what it was told, in order."""

    model_config = ConfigDict(frozen=True)

    id: int
    log: tuple[str, ...] = ()

    def told(self, what: str) -> Work:
        """The same, and one more thing."""
        return self.model_copy(update={"log": (*self.log, what)})


def begin(event: Begun) -> Work:
    """The first data."""
    return Work(id=event.id)


def finished(data: Work) -> Finished:
    """The announcement of the end."""
    return Finished(log=data.log)


def amended(data: Work) -> Amended:
    """The announcement of the other end."""
    return Amended(log=data.log)


def doing(name: str) -> Callable[[Work], Do]:
    """The action of a step."""

    def action(data: Work) -> Do:
        return Do(step=name, seen=data.log)

    return action


def must_do(name: str) -> Callable[[Work], Must]:
    """The action of a step that cannot be refused."""

    def action(data: Work) -> Must:
        return Must(step=name, seen=data.log)

    return action


def undoing(name: str) -> Callable[[Work], Undo]:
    """The compensation of a step."""

    def compensation(data: Work) -> Undo:
        return Undo(step=name, seen=data.log)

    return compensation


def step(name: str, **options: Any) -> Step[Work]:
    """A step that can be refused and undone, and notes in the data what became of it."""
    wiring: dict[str, Any] = {
        "on_success": lambda data, event: data.told(f"{name} done{event.note}"),
        "on_failure": lambda data, event: data.told(f"{name} refused: {event.reason}"),
        "on_in_doubt": lambda data: data.told(f"{name} in doubt"),
        "compensation": undoing(name),
    }
    made: Step[Work] = Step(name, doing(name), **(wiring | options))
    return made


def pivot(name: str, **options: Any) -> Step[Work]:
    """A step after which there is no way back."""
    made: Step[Work] = Step(name, doing(name), kind=PIVOT, **options)
    return made


def retriable(name: str, **options: Any) -> Step[Work]:
    """A step after the pivot."""
    made: Step[Work] = Step(name, must_do(name), kind=RETRIABLE, **options)
    return made


def done_before(name: str) -> Step[Work]:
    """A step that was done before the saga started."""
    made: Step[Work] = Step(name, compensation=undoing(name))
    return made


def approval(name: str = "approval", **options: Any) -> Wait[Work]:
    """A wait for somebody to agree."""
    wiring: dict[str, Any] = {
        "timeout": hours(1),
        "on_event": lambda data, event: data.told(f"approved by {event.by}"),
    }
    return Wait(Approved, key=lambda event: event.id, name=name, **(wiring | options))


def pause(name: str, duration: timedelta | Callable[[Work], timedelta], **options: Any) -> Delay[Work]:
    """A delay."""
    return Delay(duration, name=name, **options)


def cancel_on_withdrawal() -> Cancel[Work]:
    """Turn back when the work is withdrawn."""
    return Cancel(Withdrawn, key=lambda event: event.id, on_event=lambda data, _: data.told("withdrawn"))


def work_saga(*steps: Any, name: str = "work", **options: Any) -> Saga[Work]:
    """A saga of these steps."""
    return Saga(
        name=name,
        version=options.pop("version", 1),
        data=Work,
        starts_on=Start(Begun, begin, key=lambda event: event.id),
        steps=steps,
        on_completed=finished,
        on_compensated=amended,
        **options,
    )
