"""What a saga is made of: steps, waits and delays over named, typed, pure functions.

Types reject wrong wiring: a wrong `on_success`, a refusable command as a compensation or after the pivot. Functions get
the saga's data and return a command, an event or new data. They read no clock, draw no random number and do no I/O: a
history is folded through them again, to debug it, perhaps years later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final, Generic, Literal, Never, TypeVar, final, overload

from pydantic import BaseModel

from contracts.message import Command, Event

D = TypeVar("D", bound=BaseModel)
S = TypeVar("S", bound=Event)
F = TypeVar("F", bound=Event)
E = TypeVar("E", bound=Event)

Compensation = Callable[[D], Command[Event, Never]]


class InvalidSaga(TypeError):
    """A definition that cannot work; says what is wrong and how to mend it."""


class Kind(Enum):
    """What a step means for the way back."""

    COMPENSABLE = "compensable"
    PIVOT = "pivot"
    RETRIABLE = "retriable"


COMPENSABLE: Final = Kind.COMPENSABLE
"""Can be undone by its compensation (the default)."""
PIVOT: Final = Kind.PIVOT
"""The step after which there is no way back; repeated until it is answered."""
RETRIABLE: Final = Kind.RETRIABLE
"""After the pivot: cannot be refused, and is repeated until it has succeeded."""


class OnTimeout(Enum):
    """What a wait that has lasted too long leads to."""

    COMPENSATE = "compensate"
    CONTINUE = "continue"


COMPENSATE: Final = OnTimeout.COMPENSATE
CONTINUE: Final = OnTimeout.CONTINUE


@dataclass(frozen=True, slots=True)
class Retry:
    """How a command that is not answered is sent again.

    `attempts` counts the first one too, and bounds compensable steps and compensations only: a pivot and a retriable
    step are repeated for ever. The wait after attempt n is the step's timeout plus `backoff` doubled n-1 times, at
    most `cap`.
    """

    attempts: int = 3
    backoff: timedelta = timedelta(seconds=2)
    cap: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InvalidSaga(f"Retry(attempts={self.attempts}): a command is sent at least once")
        if self.backoff < timedelta(0) or self.cap < timedelta(0):
            raise InvalidSaga("Retry: backoff and cap cannot be negative")

    def wait(self, attempt: int) -> timedelta:
        """What is added to the timeout after attempt number `attempt`."""
        doubled = 1 << min(attempt - 1, 30)
        # Compared before it is multiplied: a day doubled thirty times is more than a timedelta can hold.
        if self.backoff and self.cap // self.backoff < doubled:
            return self.cap
        return self.backoff * doubled


STEP_TIMEOUT = timedelta(seconds=30)
UNDOING = Retry(attempts=10, backoff=timedelta(seconds=2))


def seconds(number: float) -> timedelta:
    """So many seconds."""
    return timedelta(seconds=number)


def minutes(number: float) -> timedelta:
    """So many minutes."""
    return timedelta(minutes=number)


def hours(number: float) -> timedelta:
    """So many hours."""
    return timedelta(hours=number)


def days(number: float) -> timedelta:
    """So many days."""
    return timedelta(days=number)


@final
class Step(Generic[D]):
    """One command to one participant, and what undoes it.

    Without an `action` it is a step that was done before the saga started, and exists to be compensated.
    `on_success` takes the answer into the data, `on_failure` a business refusal, `on_in_doubt` that no answer came;
    `when` says whether the step is needed at all.
    """

    @overload
    def __init__(
        self,
        name: str,
        *,
        compensation: Compensation[D],
        timeout: timedelta = ...,
        compensation_retry: Retry = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        name: str,
        action: Callable[[D], Command[S, F]],
        *,
        kind: Literal[Kind.COMPENSABLE] = ...,
        on_success: Callable[[D, S], D] | None = None,
        on_failure: Callable[[D, F], D] | None = None,
        on_in_doubt: Callable[[D], D] | None = None,
        compensation: Compensation[D] | None = None,
        when: Callable[[D], bool] | None = None,
        timeout: timedelta = ...,
        retry: Retry = ...,
        compensation_retry: Retry = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        name: str,
        action: Callable[[D], Command[S, F]],
        *,
        kind: Literal[Kind.PIVOT],
        on_success: Callable[[D, S], D] | None = None,
        on_failure: Callable[[D, F], D] | None = None,
        when: Callable[[D], bool] | None = None,
        timeout: timedelta = ...,
        retry: Retry = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        name: str,
        action: Callable[[D], Command[S, Never]],
        *,
        kind: Literal[Kind.RETRIABLE],
        on_success: Callable[[D, S], D] | None = None,
        when: Callable[[D], bool] | None = None,
        timeout: timedelta = ...,
        retry: Retry = ...,
    ) -> None: ...

    def __init__(
        self,
        name: str,
        action: Callable[[D], Command[Any, Any]] | None = None,
        *,
        kind: Kind = COMPENSABLE,
        on_success: Callable[[D, Any], D] | None = None,
        on_failure: Callable[[D, Any], D] | None = None,
        on_in_doubt: Callable[[D], D] | None = None,
        compensation: Callable[[D], Command[Any, Any]] | None = None,
        when: Callable[[D], bool] | None = None,
        timeout: timedelta = STEP_TIMEOUT,
        retry: Retry = Retry(),
        compensation_retry: Retry = UNDOING,
    ) -> None:
        self.name = name
        self.action = action
        self.kind = kind
        self.on_success = on_success
        self.on_failure = on_failure
        self.on_in_doubt = on_in_doubt
        self.compensation = compensation
        self.when = when
        self.timeout = timeout
        self.retry = retry
        self.compensation_retry = compensation_retry

    def __repr__(self) -> str:
        return f"Step({self.name!r}, kind={self.kind.name})"


@final
class Parallel(Generic[D]):
    """Steps whose commands are sent together.

    All are joined: when every one has settled and one was refused or is in doubt, those that succeeded or are in doubt
    are compensated together.
    """

    def __init__(self, *steps: Step[D]) -> None:
        self.steps = steps

    @property
    def name(self) -> str:
        return " + ".join(step.name for step in self.steps)


@final
class Wait(Generic[D]):
    """Wait for an event that answers no command of ours: an approval, a webhook.

    The event finds its saga by `key`, which must give what the start event's key gave. Without a `timeout` it may wait
    for ever; `on_timeout` says whether the saga then goes on or back.
    """

    def __init__(
        self,
        event: type[E],
        *,
        key: Callable[[E], object],
        name: str | None = None,
        on_event: Callable[[D, E], D] | None = None,
        timeout: timedelta | None = None,
        on_timeout: OnTimeout = COMPENSATE,
        when: Callable[[D], bool] | None = None,
    ) -> None:
        self.event: type[Event] = event
        self.key: Callable[[Any], object] = key
        self.name = name or event.wire_type
        self.on_event: Callable[[D, Any], D] | None = on_event
        self.timeout = timeout
        self.on_timeout = on_timeout
        self.when = when


@final
class Delay(Generic[D]):
    """Let time pass: a fixed time, or one the data decides."""

    def __init__(
        self,
        duration: timedelta | Callable[[D], timedelta],
        *,
        name: str,
        when: Callable[[D], bool] | None = None,
    ) -> None:
        self.duration = duration
        self.name = name
        self.when = when


Stage = Step[D] | Parallel[D] | Wait[D] | Delay[D]


@final
class Start(Generic[D]):
    """The event that starts an instance: `begin` makes the first data, `key` names the instance for ever."""

    def __init__(self, event: type[E], begin: Callable[[E], D], *, key: Callable[[E], object]) -> None:
        self.event: type[Event] = event
        self.begin: Callable[[Any], D] = begin
        self.key: Callable[[Any], object] = key


@final
class Cancel(Generic[D]):
    """An event that turns the saga back while there is a way back (until the pivot's command is sent)."""

    def __init__(
        self,
        event: type[E],
        *,
        key: Callable[[E], object],
        on_event: Callable[[D, E], D] | None = None,
    ) -> None:
        self.event: type[Event] = event
        self.key: Callable[[Any], object] = key
        self.on_event: Callable[[D, Any], D] | None = on_event
