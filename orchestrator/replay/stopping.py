"""Stopping a debugger inside the user's own functions while one recorded transition is decided again."""

from __future__ import annotations

import inspect
import pdb  # noqa: T100 - the debugger is the feature
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import IO, Any

from orchestrator.catalog import Catalog
from orchestrator.replay.past import CannotRead, past
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.definition import Saga
from orchestrator.saga.machine import Transition, decide
from orchestrator.saga.steps import Delay, Step, Wait


class NothingToStop(ValueError):
    """This transition cannot be decided here; says why."""


def stop_at(
    recorded: Recorded, catalog: Catalog, seq: int, *, stdin: IO[str] | None = None, stdout: IO[str] | None = None
) -> Transition | None:
    """Decide transition `seq` again under pdb, which stops at the first line of each function of the definition.

    The functions get the recorded arguments. `continue` goes on to the next function, `quit` leaves (None).
    Raises NothingToStop, and whatever the definition's functions raise.
    """
    if not 1 <= seq <= len(recorded.transitions):
        raise NothingToStop(f"there is no transition {seq}; the history has 1 to {len(recorded.transitions)}")
    try:
        been = past(recorded, catalog)
    except CannotRead as error:
        raise NothingToStop(str(error)) from error
    saga = been.sagas[seq - 1]
    debugger = _Debugger(frozenset(_codes(saga)), stdin, stdout)
    return debugger.runcall(decide, saga, recorded.id, been.states[seq - 1], been.inputs[seq - 1])


class _Debugger(pdb.Pdb):
    """Steps silently until a function of the definition is entered; `continue` does the same again."""

    def __init__(self, codes: frozenset[CodeType], stdin: IO[str] | None, stdout: IO[str] | None) -> None:
        super().__init__(stdin=stdin, stdout=stdout, nosigint=True)
        self.prompt = "(amends) "
        self._codes = codes
        self._searching = True

    def user_call(self, frame: FrameType, argument_list: None) -> None:
        if not self._searching:
            super().user_call(frame, argument_list)

    def user_line(self, frame: FrameType) -> None:
        if self._searching and frame.f_code not in self._codes:
            self.set_step()
            return
        self._searching = False
        super().user_line(frame)

    def user_return(self, frame: FrameType, return_value: object) -> None:
        if self._searching:
            self.set_step()
        else:
            super().user_return(frame, return_value)

    def user_exception(self, frame: FrameType, exc_info: Any) -> None:
        if not self._searching:
            super().user_exception(frame, exc_info)

    def set_continue(self) -> None:
        self._searching = True
        self.set_step()


def _codes(saga: Saga[Any]) -> Iterator[CodeType]:
    """The code of every function the definition names."""
    for function in _functions(saga):
        code = getattr(inspect.unwrap(function), "__code__", None)
        if code is not None:
            yield code


def _functions(saga: Saga[Any]) -> Iterator[Callable[..., Any]]:
    named: list[object] = [saga.starts_on.begin, saga.on_completed, saga.on_compensated]
    if saga.cancel_on is not None:
        named.append(saga.cancel_on.on_event)
    for stage in saga.stages.values():
        match stage:
            case Step():
                named += [stage.action, stage.compensation, stage.when]
                named += [stage.on_success, stage.on_failure, stage.on_in_doubt]
            case Wait():
                named += [stage.on_event, stage.when]
            case Delay():
                named += [stage.duration, stage.when]
    named += [migration.convert for migration in saga.migrations]
    return (each for each in named if callable(each))
