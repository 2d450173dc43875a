"""The working of `machine.decide`: one input, one instance, facts and messages collected on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from contracts.message import Event
from orchestrator.saga import facts as f
from orchestrator.saga.inputs import Action, EventArrived, PersonActed
from orchestrator.saga.moving import Moving
from orchestrator.saga.state import Direction, SagaState, Status, StepState, StepStatus, command_id
from orchestrator.saga.steps import Delay, Kind, OnTimeout, Step, Wait
from orchestrator.saga.transition import Transition, Verdict


class Deciding(Moving):
    """What one input causes, for each of the three kinds of input."""

    # -- three kinds of input --------------------------------------------------------------------------------

    def event(self, given: EventArrived) -> Transition:
        if _is(given.event, self.saga.starts_on.event):
            return self._start(given.event)
        if self.state.status.terminal:
            return self._late(f"the saga is {self.state.status.value}")
        if not self.state.started or self.state.status is Status.STUCK:
            why = "the saga is stuck" if self.state.started else "the saga has not started"
            return Transition(Verdict.PARKED, note=why)
        if self.saga.cancel_on is not None and _is(given.event, self.saga.cancel_on.event):
            return self._cancel(given.event)
        return self._answered(given)

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
        if self.state == SagaState():
            return Transition(Verdict.REFUSED, note="the saga has not started; there is nothing to act on")
        if given.action is Action.ABANDON:
            self._fact(f.Abandoned(f"{given.who}: {given.why}"))
            return self._applied()
        reason, was_stuck = self.state.reason, self.state.status is Status.STUCK
        if was_stuck:
            self._fact(f.Resumed())
        match given.action:
            case Action.RETRY:
                refusal = self._retry(given.step, resumed=was_stuck)
            case Action.SKIP:
                refusal = self._skip(given)
            case Action.RESOLVE:
                refusal = self._resolve(given)
            case _:
                refusal = self._turn_back(f"{given.action.value} by {given.who}: {given.why}")
        if refusal:
            return Transition(Verdict.REFUSED, note=refusal)
        # A command that was given up is not sent again by itself: until a person has decided that too, it stays stuck.
        undecided = tuple(
            name
            for name in self.state.current
            if isinstance(self.saga.stages.get(name), Step) and self.state.steps[name].due is None
        )
        if undecided:
            self._fact(f.BecameStuck(reason, undecided))
        return self._applied()

    # -- events ----------------------------------------------------------------------------------------------

    def _start(self, event: Event) -> Transition:
        if self.state.started or self.state.status.terminal:
            return Transition(Verdict.DUPLICATE)
        if self.state.status is Status.STUCK:
            return Transition(Verdict.PARKED, note="the saga is stuck at its start")
        self._fact(f.Started(self._checked(self.saga.starts_on.begin(event))))
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

    def _answered(self, given: EventArrived) -> Transition:
        # The newest first: it is nearly always the one.
        for name, step in reversed(tuple(self.state.steps.items())):
            awaited = self._awaiting(step)
            for direction, number in self._sent(step):
                if command_id(self.identity, name, direction, number) != given.causation_id:
                    continue
                if direction is awaited and number == step.round:
                    return self._answer(name, given.event)
                return self._late("its command is no longer waited for")
        return self._awaited(given)

    @staticmethod
    def _sent(step: StepState) -> Iterator[tuple[Direction, int]]:
        """Every command of a step so far, the newest round first."""
        for number in range(step.action_round, 0, -1):
            yield Direction.ACTION, number
        if step.status in (StepStatus.COMPENSATING, StepStatus.COMPENSATED):
            for number in range(step.round, 0, -1):
                yield Direction.COMPENSATION, number

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
        step = self._step(name)
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
        else:
            self._unanswered(self._step(name), reached)

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

    def _retry(self, only: str | None, *, resumed: bool) -> str:
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
        if self.sends or resumed:
            return ""
        return f"{', '.join(names) or 'it'} waits for no answer to a command; there is nothing to send again"

    def _skip(self, given: PersonActed) -> str:
        name = given.step or ""
        reached, stage = self.state.steps.get(name), self.saga.stages.get(name)
        if reached is None or reached.status is not StepStatus.RUNNING:
            return f"{name or 'no step'} is not waiting for an answer"
        take: Callable[[Any, Any], Any] | None = None
        wanted: type[Event] | None = None
        if isinstance(stage, Step):
            take, wanted = stage.on_success, self.saga.commands[name].success_type
        elif isinstance(stage, Wait):
            take, wanted = stage.on_event, stage.event
        if given.answer is None and take is not None and wanted is not None:
            return f"{name} needs an answer of type {wanted.wire_type} to go on"
        if given.answer is not None and not _is(given.answer, wanted):
            needed = f"an answer of type {wanted.wire_type}" if wanted is not None else "no answer"
            return f"{name} takes {needed}, not {given.answer.wire_type}"
        self._fact(f.StepSucceeded(name))
        if take is not None:
            self._data(take(self.state.data, given.answer))
        self._advance()
        return ""

    def _resolve(self, given: PersonActed) -> str:
        name = given.step or ""
        reached = self.state.steps.get(name)
        if reached is None or not reached.underway:
            return f"{name or 'no step'} is not waiting for anything"
        if reached.status is StepStatus.COMPENSATING:
            self._fact(f.StepCompensated(name))
            self._go_back()
        else:
            self._fact(f.StepSucceeded(name))
            self._advance()
        return ""

    def _step(self, name: str) -> Step[Any]:
        found = self.saga.stages.get(name)
        if isinstance(found, Step):
            return found
        raise LookupError(f"step {name!r} is not in {self.saga!r}")


def _is(event: Event, kind: type[Event] | None) -> bool:
    # By wire type, not by class: an older version of the contract is the same event.
    return kind is not None and event.wire_type == kind.wire_type


def _told(event: Event) -> str:
    reason = getattr(event, "reason", None)
    return f"{event.wire_type} ({reason})" if isinstance(reason, str) and reason else event.wire_type
