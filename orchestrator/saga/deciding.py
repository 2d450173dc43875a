"""The working of `machine.decide`: one input, one instance, facts and messages collected on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from contracts.message import Event
from orchestrator.saga import facts as f
from orchestrator.saga.acting import Acting
from orchestrator.saga.inputs import EventArrived
from orchestrator.saga.moving import is_a
from orchestrator.saga.state import Direction, Status, StepState, StepStatus, awaited_command_id, step_command_id
from orchestrator.saga.steps import Delay, Kind, OnTimeout, Step, Wait
from orchestrator.saga.story import times
from orchestrator.saga.transition import Transition, Verdict


class Deciding(Acting):
    """What one input causes, for each of the three kinds of input."""

    # -- three kinds of input --------------------------------------------------------------------------------

    def event(self, given: EventArrived) -> Transition:
        if is_a(given.event, self.saga.starts_on.event):
            return self._start(given.event)
        if self.state.status.terminal:
            return self._late(f"the saga is {self.state.status.value}")
        if not self.state.started or self.state.status is Status.STUCK:
            why = "the saga is stuck" if self.state.started else "the saga has not started"
            return Transition(Verdict.PARKED, note=why)
        if self.saga.cancel_on is not None and is_a(given.event, self.saga.cancel_on.event):
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

    # -- events ----------------------------------------------------------------------------------------------

    def _start(self, event: Event) -> Transition:
        if self.state.started or self.state.status.terminal:
            return Transition(Verdict.DUPLICATE)
        if self.state.status is Status.STUCK:
            return Transition(Verdict.PARKED, note="the saga is stuck at its start")
        self._fact(f.started(*self._stored(self.saga.starts_on.begin(event))))
        self._advance()
        return self._applied()

    def _cancel(self, event: Event) -> Transition:
        cancel = self.saga.cancel_on
        if self.state.status is not Status.RUNNING:
            return self._late("the saga is compensating already")
        if self._past_pivot():
            return self._late(f"the pivot {self.saga.pivot!r} has begun: there is no way back")
        if cancel is not None and cancel.on_event is not None:
            self._data(cancel.on_event, event)
        self._turn_back(f"canceled by {event.wire_type}")
        return self._applied()

    def _answered(self, given: EventArrived) -> Transition:
        command = given.causation_id
        if command is None:
            return self._awaited(given)
        # The newest first: it is nearly always the one.
        for name, step in reversed(tuple(self.state.steps.items())):
            if step.attempt and awaited_command_id(self.identity, name, step) == command:
                return self._answer(name, given.event)
        for name, step in reversed(tuple(self.state.steps.items())):
            for direction, number in self._sent(step):
                if step_command_id(self.identity, name, step, direction, number) == command:
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

    def _answer(self, name: str, event: Event) -> Transition:
        step = self._step(name)
        if self.state.steps[name].status is StepStatus.COMPENSATING:
            return self._compensated(name, event)
        command = self.saga.commands[name]
        if is_a(event, command.success_type):
            self._fact(f.StepSucceeded(name))
            if step.on_success is not None:
                self._data(step.on_success, event)
            self._advance()
        elif is_a(event, command.failure_type) and step.kind is not Kind.RETRIABLE:
            self._fact(f.StepRefused(name))
            if step.on_failure is not None:
                self._data(step.on_failure, event)
            self._settle(name, f"{name} was refused: {_told(event)}")
        else:
            self._violation(name, event)
        return self._applied()

    def _compensated(self, name: str, event: Event) -> Transition:
        if is_a(event, self.saga.compensations[name].success_type):
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
                    self._data(wait.on_event, given.event)
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
        direction = reached.awaiting
        if direction is Direction.COMPENSATION:
            if reached.attempt < step.compensation_retry.attempts:
                self._send(step, Direction.COMPENSATION, reached.round, reached.attempt + 1)
            else:
                self._fact(
                    f.BecameStuck(
                        f"the compensation of {step.name} was sent {times(reached.attempt)} and never answered",
                        (step.name,),
                    )
                )
        elif step.kind is not Kind.COMPENSABLE or reached.attempt < step.retry.attempts:
            self._send(step, Direction.ACTION, reached.round, reached.attempt + 1)
        else:
            self._fact(f.StepInDoubt(step.name))
            if step.on_in_doubt is not None:
                self._data(step.on_in_doubt)
            self._settle(step.name, f"{step.name} was sent {times(reached.attempt)} and never answered")


def _told(event: Event) -> str:
    reason = getattr(event, "reason", None)
    return f"{event.wire_type} ({reason})" if isinstance(reason, str) and reason else event.wire_type
