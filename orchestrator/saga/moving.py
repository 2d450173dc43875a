"""How an instance moves: forward, back, out. What `deciding` builds on for each kind of input."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from contracts.message import Command, Event, Message
from contracts.places import check_tokens
from orchestrator.saga import facts as f
from orchestrator.saga.definition import Saga
from orchestrator.saga.evolving import evolve
from orchestrator.saga.state import (
    Direction,
    SagaState,
    Send,
    Status,
    StepStatus,
    outcome_id,
    step_command_id,
)
from orchestrator.saga.steps import Delay, Kind, Step, Wait
from orchestrator.saga.stored import as_stored, differ, unchanged
from orchestrator.saga.transition import Transition, Verdict

R = TypeVar("R")
M = TypeVar("M", bound=Message)
# To name a member of an enumeration costs as much as a call.
_RUNNING, _ACTION, _APPLIED = StepStatus.RUNNING, Direction.ACTION, Verdict.APPLIED
_UNDO = (StepStatus.SUCCEEDED, StepStatus.IN_DOUBT)
_FAILED = (StepStatus.REFUSED, StepStatus.IN_DOUBT)


class Moving:
    """Collects one transition. Its state is always the given one with the facts so far folded in."""

    def __init__(self, saga: Saga[Any], identity: UUID, state: SagaState, now: datetime) -> None:
        self.saga = saga
        self.identity = identity
        self.state = state
        self.now = now
        self.facts: list[f.Fact] = []
        self.sends: list[Send] = []

    # -- forward ---------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Begin whatever is next, until something has to be waited for or all is done."""
        for members in self.saga.groups:
            for member in members:
                if member.name not in self.state.steps:
                    self._begin(member)
            failed, steps = False, self.state.steps
            for member in members:
                status = steps[member.name].status
                if status is _RUNNING:
                    return
                failed = failed or status in _FAILED
            if failed:
                self._turn_back(self._why_failed(members))
                return
        self._fact(f.Completed())
        if self.saga.on_completed is not None:
            self._announce("completed", self.saga.on_completed)

    def _begin(self, stage: Step[Any] | Wait[Any] | Delay[Any]) -> None:
        if isinstance(stage, Step) and stage.action is None:
            self._fact(f.StepSucceeded(stage.name))
        elif stage.when is not None and not self._ask(stage.when, self.state.data):
            self._fact(f.StepSkipped(stage.name))
        elif isinstance(stage, Step):
            self._send(stage, _ACTION, 1, 1)
        elif isinstance(stage, Wait):
            self._fact(f.WaitBegun(stage.name, self.now + stage.timeout if stage.timeout else None))
        else:
            duration = stage.duration
            length = duration if isinstance(duration, timedelta) else self._ask(duration, self.state.data)
            self._fact(f.WaitBegun(stage.name, self.now + max(length, timedelta(0))))

    def _settle(self, name: str, reason: str) -> None:
        """A step has failed: alone it turns the saga back at once, in a Parallel when the others have settled."""
        if any(len(members) > 1 and any(each.name == name for each in members) for members in self.saga.groups):
            self._advance()
        else:
            self._turn_back(reason)

    def _why_failed(self, members: tuple[Any, ...]) -> str:
        told = {
            StepStatus.REFUSED: "was refused",
            StepStatus.IN_DOUBT: "was never answered",
        }
        found = [(member.name, self.state.steps[member.name].status) for member in members]
        return ", ".join(f"{name} {told[status]}" for name, status in found if status in told)

    # -- back ------------------------------------------------------------------------------------------------

    def _turn_back(self, reason: str) -> str:
        """Begin to compensate; says why where that is not possible."""
        refusal = self._no_way_back()
        if refusal:
            return refusal
        self._fact(f.CompensationBegun(reason))
        for name in self.state.current:
            if isinstance(self.saga.stages.get(name), Step):
                self._fact(f.StepInDoubt(name))
            else:
                self._fact(f.StepSkipped(name))
        self._go_back()
        return ""

    def _no_way_back(self) -> str:
        if self.state.status is Status.COMPENSATING:
            return "the saga is compensating already"
        if not self.state.started:
            return "the saga has not started; there is nothing to undo"
        if self._past_pivot():
            return f"the pivot {self.saga.pivot!r} has begun: there is no way back"
        return ""

    def _past_pivot(self) -> bool:
        reached = self.state.steps.get(self.saga.pivot) if self.saga.pivot else None
        return reached is not None and reached.status is not StepStatus.REFUSED

    def _go_back(self) -> None:
        """Compensate the last stage that may have happened and is not undone; a parallel group together."""
        for members in reversed(self.saga.groups):
            for member in members:
                reached = self.state.steps.get(member.name)
                if (
                    reached is not None
                    and reached.status in _UNDO
                    and isinstance(member, Step)
                    and member.compensation is not None
                ):
                    self._send(member, Direction.COMPENSATION, 1, 1)
            statuses = [self.state.steps[each.name].status for each in members if each.name in self.state.steps]
            if StepStatus.COMPENSATING in statuses:
                return
        self._fact(f.Compensated())
        if self.saga.on_compensated is not None:
            self._announce("compensated", self.saga.on_compensated)

    # -- out -------------------------------------------------------------------------------------------------

    def _send(self, step: Step[Any], direction: Direction, round: int, attempt: int) -> None:
        make, retry = (
            (step.action, step.retry) if direction is _ACTION else (step.compensation, step.compensation_retry)
        )
        if make is None:
            raise LookupError(f"step {step.name!r} of {self.saga!r} has no {direction.value} any more")
        known = self.state.steps.get(step.name)
        data = self.state.data
        if attempt > 1 and known is not None and known.made_from is not None:
            # The same id must mean the same command, whatever the others of a Parallel have answered meanwhile.
            data = known.made_from
        message: Command[Any, Any] = self._ask(make, data)
        wait = step.timeout
        if (direction is _ACTION and step.kind is not Kind.COMPENSABLE) or attempt < retry.attempts:
            wait += retry.wait(attempt)
        undone: UUID | None = None
        if direction is not _ACTION and known is not None and known.action_round:
            undone = step_command_id(self.identity, step.name, known, _ACTION, known.action_round)
        identity = step_command_id(self.identity, step.name, known, direction, round)
        self.sends.append(Send(identity, self._sendable(message), step.name, undone))
        self._fact(f.CommandSent(step.name, direction, round, attempt, self.now + wait, identity))

    def _announce(self, outcome: str, make: Callable[[Any], Event]) -> None:
        message = self._sendable(self._ask(make, self.state.data))
        self.sends.append(Send(outcome_id(self.identity, outcome), message))

    def _sendable(self, message: M) -> M:
        """The same message; raises Misplaced where it holds what is sealed and would not open there."""
        if self.saga.seals:
            check_tokens(type(message), message.__pydantic_serializer__.to_json(message, by_alias=True).decode())
        return message

    def _data(self, function: Callable[..., Any], *more: object) -> None:
        """Let a function of the user's say what the data is now."""
        before = self.state.data
        data = self._ask(function, before, *more)
        if data is before:  # many have nothing to add
            return
        stored, text = self._stored(data)
        if differ(stored, before):
            self._fact(f.data_changed(stored, text))

    def _ask(self, function: Callable[..., R], data: Any, *more: object) -> R:
        return unchanged(function, data, *more) if self.saga.guarded else function(data, *more)

    def _stored(self, data: Any) -> tuple[Any, str]:
        # The usual class first: isinstance() of a pydantic class is a Python function.
        if type(data) is not self.saga.data and not isinstance(data, self.saga.data):
            raise TypeError(f"a function of {self.saga!r} returned {data!r} instead of {self.saga.data.__name__}")
        return as_stored(self.saga.data, data)

    def _fact(self, fact: f.Fact) -> None:
        self.facts.append(fact)
        self.state = evolve(self.state, fact)

    def _applied(self) -> Transition:
        return Transition(_APPLIED, tuple(self.facts), tuple(self.sends))

    def _late(self, why: str) -> Transition:
        return Transition(Verdict.LATE, (f.CameLate(why),), note=why)

    def _step(self, name: str) -> Step[Any]:
        found = self.saga.stages.get(name)
        if isinstance(found, Step):
            return found
        raise LookupError(f"step {name!r} is not in {self.saga!r}")


def is_a(event: Event, kind: type[Event] | None) -> bool:
    """Whether the event is of this kind: by wire type, not by class, for an older version of it is the same event."""
    return kind is not None and event.wire_type == kind.wire_type
