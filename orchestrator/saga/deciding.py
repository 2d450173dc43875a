"""The working of `machine.decide`: one input, one instance, facts and messages collected on the way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from contracts.message import Command, Event, Message
from orchestrator.saga import facts as f
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import Action, EventArrived, PersonActed
from orchestrator.saga.evolving import evolve
from orchestrator.saga.state import (
    Direction,
    SagaState,
    Send,
    Status,
    StepState,
    StepStatus,
    command_id,
    outcome_id,
)
from orchestrator.saga.steps import Delay, Kind, OnTimeout, Parallel, Step, Wait
from orchestrator.saga.transition import Transition, Verdict

_UNDO = (StepStatus.SUCCEEDED, StepStatus.IN_DOUBT)
_FAILED = (StepStatus.REFUSED, StepStatus.IN_DOUBT)
_UNDERWAY = (StepStatus.RUNNING, StepStatus.COMPENSATING)


class Deciding:
    """Collects one transition. Its state is always the given one with the facts so far folded in."""

    def __init__(self, saga: Saga[Any], identity: UUID, state: SagaState, now: datetime) -> None:
        self.saga = saga
        self.identity = identity
        self.state = state
        self.now = now
        self.facts: list[f.Fact] = []
        self.sends: list[Send] = []

    # -- three kinds of input --------------------------------------------------------------------------------

    def event(self, given: EventArrived) -> Transition:
        event, wire_type = given.event, given.event.wire_type
        if self.state.status.terminal:
            if wire_type == self.saga.starts_on.event.wire_type:
                return Transition(Verdict.DUPLICATE)
            return self._late(f"the saga is {self.state.status.value}")
        if wire_type == self.saga.starts_on.event.wire_type:
            return self._start(event)
        if not self.state.started or self.state.status is Status.STUCK:
            why = "the saga is stuck" if self.state.started else "the saga has not started"
            return Transition(Verdict.PARKED, note=why)
        if self.saga.cancel_on is not None and wire_type == self.saga.cancel_on.event.wire_type:
            return self._cancel(event)
        step = self._answered(given.causation_id)
        if step is not None:
            return self._answer(step, event)
        return self._awaited(given)

    def deadline(self) -> Transition:
        if self.state.deadline is None or self.state.deadline > self.now:
            return Transition(Verdict.DUPLICATE)
        due = [name for name, step in self.state.steps.items() if step.due and step.due <= self.now]
        for name in due:
            # An earlier one may have turned the saga back or got it stuck.
            step = self.state.steps[name]
            if step.due is not None and step.due <= self.now and self.state.status is not Status.STUCK:
                self._overdue(name, step)
        return self._applied()

    def person(self, given: PersonActed) -> Transition:
        if self.state.status.terminal:
            return Transition(Verdict.REFUSED, note=f"the saga is {self.state.status.value}; nothing can change it")
        if given.action is Action.ABANDON:
            self._fact(f.Abandoned(f"{given.who}: {given.why}"))
            return self._applied()
        was_stuck = self.state.status is Status.STUCK
        if was_stuck:
            self._fact(f.Resumed())
        match given.action:
            case Action.RETRY:
                refusal = self._retry(given.step)
            case Action.SKIP:
                refusal = self._skip(given)
            case Action.RESOLVE:
                refusal = self._resolve(given)
            case _:
                refusal = self._turn_back(f"{given.action.value} by {given.who}: {given.why}")
        if refusal:
            return Transition(Verdict.REFUSED, note=refusal)
        return self._applied()

    # -- events ----------------------------------------------------------------------------------------------

    def _start(self, event: Event) -> Transition:
        if self.state.started:
            return Transition(Verdict.DUPLICATE)
        if self.state.status is Status.STUCK:
            return Transition(Verdict.PARKED, note="the saga is stuck at its start")
        self._fact(f.Started(self.saga.starts_on.begin(event)))
        self._advance()
        return self._applied()

    def _cancel(self, event: Event) -> Transition:
        cancel = self.saga.cancel_on
        if self.state.status is not Status.RUNNING:
            return self._late("the saga is compensating already")
        if self._past_pivot():
            return self._late(f"the pivot {self.saga.pivot!r} has begun: there is no way back")
        if cancel is not None and cancel.on_event is not None:
            self._data(cancel.on_event(self.state.data, event))
        self._turn_back(f"canceled by {event.wire_type}")
        return self._applied()

    def _answered(self, causation_id: UUID | None) -> str | None:
        """The step whose command this answers, in either direction, in any round so far."""
        if causation_id is None:
            return None
        for name, step in self.state.steps.items():
            for direction, last in (
                (Direction.ACTION, step.action_round),
                (Direction.COMPENSATION, step.round if step.status is not StepStatus.RUNNING else 0),
            ):
                for round in range(last, 0, -1):
                    if command_id(self.identity, name, direction, round) == causation_id:
                        current = self._awaiting(step) is direction and round == step.round
                        return name if current else ""
        return None

    @staticmethod
    def _awaiting(step: StepState) -> Direction | None:
        match step.status:
            case StepStatus.RUNNING:
                return Direction.ACTION
            case StepStatus.COMPENSATING:
                return Direction.COMPENSATION
            case _:
                return None

    def _answer(self, name: str, event: Event) -> Transition:
        if name == "":
            return self._late("its command is no longer waited for")
        step = self.saga.stages.get(name)
        if not isinstance(step, Step):
            raise LookupError(f"step {name!r} is not in {self.saga!r}")
        if self.state.steps[name].status is StepStatus.COMPENSATING:
            return self._compensated(name, event)
        command = self.saga.commands[name]
        if _is(event, command.success_type):
            self._fact(f.StepSucceeded(name))
            if step.on_success is not None:
                self._data(step.on_success(self.state.data, event))
            self._advance()
        elif _is(event, command.failure_type) and step.kind is not Kind.RETRIABLE:
            self._fact(f.StepRefused(name))
            if step.on_failure is not None:
                self._data(step.on_failure(self.state.data, event))
            self._settle(name, f"{name} was refused: {_told(event)}")
        else:
            self._violation(name, event)
        return self._applied()

    def _compensated(self, name: str, event: Event) -> Transition:
        if _is(event, self.saga.compensations[name].success_type):
            self._fact(f.StepCompensated(name))
            self._go_back()
        else:
            self._violation(name, event)
        return self._applied()

    def _violation(self, name: str, event: Event) -> None:
        why = f"{name} was answered with {_told(event)}, which its contract does not allow there"
        self._fact(f.BecameStuck(why, (name,)))

    def _awaited(self, given: EventArrived) -> Transition:
        wire_type = given.event.wire_type
        for wait in self.saga.waits:
            if wait.event.wire_type != wire_type:
                continue
            reached = self.state.steps.get(wait.name)
            if reached is None:
                if self.state.status is Status.RUNNING:
                    return Transition(Verdict.PARKED, note=f"{wait.name} is not reached yet")
                continue
            if reached.status is StepStatus.RUNNING:
                self._fact(f.StepSucceeded(wait.name))
                if wait.on_event is not None:
                    self._data(wait.on_event(self.state.data, given.event))
                self._advance()
                return self._applied()
        if any(wait.event.wire_type == wire_type for wait in self.saga.waits):
            return self._late("it is no longer waited for")
        return Transition(Verdict.PARKED, note="it answers no command of this saga")

    # -- time ------------------------------------------------------------------------------------------------

    def _overdue(self, name: str, reached: StepState) -> None:
        stage = self.saga.stages.get(name)
        if isinstance(stage, Delay):
            self._fact(f.StepSucceeded(name))
            self._advance()
        elif isinstance(stage, Wait):
            self._fact(f.StepSkipped(name))
            if stage.on_timeout is OnTimeout.CONTINUE:
                self._advance()
            else:
                self._turn_back(f"{name} did not come in time")
        elif isinstance(stage, Step):
            self._unanswered(stage, reached)
        else:
            raise LookupError(f"step {name!r} is not in {self.saga!r}")

    def _unanswered(self, step: Step[Any], reached: StepState) -> None:
        direction = self._awaiting(reached)
        if direction is Direction.COMPENSATION:
            if reached.attempt < step.compensation_retry.attempts:
                self._send(step, Direction.COMPENSATION, reached.round, reached.attempt + 1)
            else:
                self._fact(
                    f.BecameStuck(
                        f"the compensation of {step.name} was sent {reached.attempt} times and never answered",
                        (step.name,),
                    )
                )
        elif step.kind is not Kind.COMPENSABLE or reached.attempt < step.retry.attempts:
            self._send(step, Direction.ACTION, reached.round, reached.attempt + 1)
        else:
            self._fact(f.StepInDoubt(step.name))
            if step.on_in_doubt is not None:
                self._data(step.on_in_doubt(self.state.data))
            self._settle(step.name, f"{step.name} was sent {reached.attempt} times and never answered")

    # -- a person --------------------------------------------------------------------------------------------

    def _retry(self, only: str | None) -> str:
        """Send again what is awaited: what was given up in a new round, the rest as it was."""
        names = [name for name in self.state.current if only in (None, name)]
        if only is not None and not names:
            return f"{only} is not waiting for anything"
        for name in names:
            step, reached = self.saga.stages.get(name), self.state.steps[name]
            direction = self._awaiting(reached)
            if not isinstance(step, Step) or direction is None:
                continue
            if reached.due is None:
                self._send(step, direction, reached.round + 1, 1)
            else:
                self._send(step, direction, reached.round, reached.attempt + 1)
        return ""

    def _skip(self, given: PersonActed) -> str:
        name = given.step or ""
        reached, stage = self.state.steps.get(name), self.saga.stages.get(name)
        if reached is None or reached.status is not StepStatus.RUNNING:
            return f"{name or 'no step'} is not waiting for an answer"
        take = stage.on_success if isinstance(stage, Step) else stage.on_event if isinstance(stage, Wait) else None
        wanted = (
            self.saga.commands[name].success_type
            if isinstance(stage, Step)
            else stage.event
            if isinstance(stage, Wait)
            else None
        )
        if take is not None and (given.answer is None or not _is(given.answer, wanted)):
            return f"{name} needs an answer of type {wanted.wire_type if wanted else '?'} to go on"
        self._fact(f.StepSucceeded(name))
        if take is not None:
            self._data(take(self.state.data, given.answer))
        self._advance()
        return ""

    def _resolve(self, given: PersonActed) -> str:
        name = given.step or ""
        reached = self.state.steps.get(name)
        if reached is None or reached.status not in _UNDERWAY:
            return f"{name or 'no step'} is not waiting for anything"
        if reached.status is StepStatus.COMPENSATING:
            self._fact(f.StepCompensated(name))
            self._go_back()
        else:
            self._fact(f.StepSucceeded(name))
            self._advance()
        return ""

    # -- forward ---------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Begin whatever is next, until something has to be waited for or all is done."""
        for stage in self.saga.steps:
            members = stage.steps if isinstance(stage, Parallel) else (stage,)
            for member in members:
                if member.name not in self.state.steps:
                    self._begin(member)
            reached = [self.state.steps[member.name].status for member in members]
            if StepStatus.RUNNING in reached:
                return
            if any(status in _FAILED for status in reached):
                self._turn_back(self._why_failed(members))
                return
        self._fact(f.Completed())
        if self.saga.on_completed is not None:
            self._announce("completed", self.saga.on_completed)

    def _begin(self, stage: Step[Any] | Wait[Any] | Delay[Any]) -> None:
        if isinstance(stage, Step) and stage.action is None:
            self._fact(f.StepSucceeded(stage.name))
        elif stage.when is not None and not stage.when(self.state.data):
            self._fact(f.StepSkipped(stage.name))
        elif isinstance(stage, Step):
            self._send(stage, Direction.ACTION, 1, 1)
        elif isinstance(stage, Wait):
            self._fact(f.WaitBegun(stage.name, self.now + stage.timeout if stage.timeout else None))
        else:
            duration = stage.duration
            length = duration if isinstance(duration, timedelta) else duration(self.state.data)
            self._fact(f.WaitBegun(stage.name, self.now + max(length, timedelta(0))))

    def _settle(self, name: str, reason: str) -> None:
        """A step has failed: alone it turns the saga back at once, in a Parallel when the others have settled."""
        for stage in self.saga.steps:
            if isinstance(stage, Parallel) and any(member.name == name for member in stage.steps):
                self._advance()
                return
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
        if self.state.status is Status.COMPENSATING:
            return "the saga is compensating already"
        if not self.state.started:
            return "the saga has not started; there is nothing to undo"
        if self._past_pivot():
            return f"the pivot {self.saga.pivot!r} has begun: there is no way back"
        self._fact(f.CompensationBegun(reason))
        for name in self.state.current:
            if isinstance(self.saga.stages.get(name), Step):
                self._fact(f.StepInDoubt(name))
            else:
                self._fact(f.StepSkipped(name))
        self._go_back()
        return ""

    def _past_pivot(self) -> bool:
        reached = self.state.steps.get(self.saga.pivot) if self.saga.pivot else None
        return reached is not None and reached.status is not StepStatus.REFUSED

    def _go_back(self) -> None:
        """Compensate the last stage that may have happened and is not undone; a parallel group together."""
        for stage in reversed(self.saga.steps):
            members = stage.steps if isinstance(stage, Parallel) else (stage,)
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
            (step.action, step.retry)
            if direction is Direction.ACTION
            else (step.compensation, step.compensation_retry)
        )
        if make is None:
            raise LookupError(f"step {step.name!r} of {self.saga!r} has no {direction.value} any more")
        message: Command[Any, Any] = make(self.state.data)
        wait = step.timeout
        if direction is Direction.ACTION and step.kind is not Kind.COMPENSABLE or attempt < retry.attempts:
            wait += retry.wait(attempt)
        undone: UUID | None = None
        if direction is Direction.COMPENSATION:
            known = self.state.steps.get(step.name)
            if known is not None and known.action_round:
                undone = command_id(self.identity, step.name, Direction.ACTION, known.action_round)
        identity = command_id(self.identity, step.name, direction, round)
        self.sends.append(Send(identity, message, step.name, undone))
        self._fact(f.CommandSent(step.name, direction, round, attempt, self.now + wait))

    def _announce(self, outcome: str, make: Callable[[Any], Event]) -> None:
        event: Message = make(self.state.data)
        self.sends.append(Send(outcome_id(self.identity, outcome), event))

    def _data(self, data: Any) -> None:
        if not isinstance(data, self.saga.data):
            raise TypeError(f"a function of {self.saga!r} returned {data!r} instead of {self.saga.data.__name__}")
        if data != self.state.data:
            self._fact(f.DataChanged(data))

    def _fact(self, fact: f.Fact) -> None:
        self.facts.append(fact)
        self.state = evolve(self.state, fact)

    def _applied(self) -> Transition:
        return Transition(Verdict.APPLIED, tuple(self.facts), tuple(self.sends))

    def _late(self, why: str) -> Transition:
        return Transition(Verdict.LATE, (f.CameLate(why),), note=why)


def _is(event: Event, kind: type[Event] | None) -> bool:
    # By wire type, not by class: an older version of the contract is the same event.
    return kind is not None and event.wire_type == kind.wire_type


def _told(event: Event) -> str:
    reason = getattr(event, "reason", None)
    return f"{event.wire_type} ({reason})" if isinstance(reason, str) and reason else event.wire_type
