"""What a person does to an instance: each action either leads to facts, or is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contracts.message import Event
from orchestrator.saga import facts as f
from orchestrator.saga.crossing import Crossing
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.saga.moving import Moving, is_a
from orchestrator.saga.state import SagaState, Status, StepStatus, saga_id
from orchestrator.saga.steps import OnTimeout, Step, Wait
from orchestrator.saga.transition import Transition, Verdict


class Acting(Moving):
    """The rules of `PersonActed`."""

    def person(self, given: PersonActed) -> Transition:
        """What the action leads to; a refusal says why not."""
        if self.state.status.terminal:
            return _refused(ended(self.state.status))
        if self.state == SagaState():
            return _refused("the saga has not started; there is nothing to act on")
        match given.action:
            case Action.ABANDON:
                self._fact(abandoned(given))
                refusal = ""
            case Action.RESCHEDULE:
                refusal = self._reschedule(given)
            case Action.MIGRATE:
                refusal = self._migrate(given)
            case _:
                refusal = self._decided(given)
        return _refused(refusal) if refusal else self._applied()

    def _decided(self, given: PersonActed) -> str:
        """The actions that make a stuck instance go on."""
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
            case Action.CANCEL:
                refusal = self._cancel_by_hand(given)
            case _:
                refusal = self._turn_back(_by(given))
        # A command that was given up is not sent again by itself: until a person has decided that too, it stays stuck.
        undecided = tuple(
            name
            for name in self.state.current
            if isinstance(self.saga.stages.get(name), Step) and self.state.steps[name].given_up
        )
        if undecided and not refusal:
            self._fact(f.BecameStuck(reason, undecided))
        return refusal

    # -- forward ---------------------------------------------------------------------------------------------

    def _retry(self, only: str | None, *, resumed: bool) -> str:
        """Send again what is awaited: what was given up in a new round, the rest as it was."""
        names = [name for name in self.state.current if only in (None, name)]
        if only is not None and not names:
            return f"{only} is not waiting for anything"
        for name in names:
            step, reached = self.saga.stages.get(name), self.state.steps[name]
            direction = reached.awaiting
            if not isinstance(step, Step) or direction is None:
                continue
            if reached.given_up:
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
        if given.answer is not None and not is_a(given.answer, wanted):
            needed = f"an answer of type {wanted.wire_type}" if wanted is not None else "no answer"
            return f"{name} takes {needed}, not {given.answer.wire_type}"
        if isinstance(stage, Wait) and not self._ours(given.answer, stage.key):
            return f"the {stage.event.wire_type} that was given is for another instance: its key is not this one's"
        self._fact(f.StepSucceeded(name))
        if take is not None:
            self._data(take, given.answer)
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

    # -- back ------------------------------------------------------------------------------------------------

    def _cancel_by_hand(self, given: PersonActed) -> str:
        """As the saga's own cancellation: its event is taken into the data before the saga turns back."""
        cancel = self.saga.cancel_on
        if cancel is None:
            return "the saga knows no cancellation (it has no cancel_on); compensate turns it back"
        refusal = self._no_way_back()
        if refusal:
            return refusal
        if given.answer is None and cancel.on_event is not None:
            return f"to be canceled it needs an event of type {cancel.event.wire_type}"
        if given.answer is not None and not is_a(given.answer, cancel.event):
            return f"it is canceled by an event of type {cancel.event.wire_type}, not {given.answer.wire_type}"
        if not self._ours(given.answer, cancel.key):
            return f"the {cancel.event.wire_type} that was given is for another instance: its key is not this one's"
        if cancel.on_event is not None:
            self._data(cancel.on_event, given.answer)
        return self._turn_back(_by(given))

    def _ours(self, event: Event | None, key: Callable[[Any], object]) -> bool:
        return event is None or saga_id(self.saga.name, key(event)) == self.identity

    # -- time, and another version ---------------------------------------------------------------------------

    def _reschedule(self, given: PersonActed) -> str:
        if self.state.status is Status.STUCK:
            return "the saga is stuck, and no deadline runs until somebody has decided what it is stuck for"
        name = given.step or ""
        reached, stage = self.state.steps.get(name), self.saga.stages.get(name)
        if reached is None or not reached.underway:
            return f"{name or 'no step'} is not waiting for anything"
        due = None if given.due is None else max(given.due, self.now)
        if due == reached.due:
            return f"{name} {'has no deadline' if due is None else 'is due then'} already"
        if due and isinstance(stage, Wait) and stage.on_timeout is OnTimeout.COMPENSATE and self._past_pivot():
            pivot = self.saga.pivot
            return f"{name} would turn the saga back then, but the pivot {pivot!r} has begun: it can only wait"
        self._fact(f.DeadlineMoved(name, due))
        return ""

    def _migrate(self, given: PersonActed) -> str:
        migration = next((each for each in self.saga.migrations if each.old.version == given.from_version), None)
        if migration is None or given.to_version != self.saga.version:
            return f"{self.saga.name} v{given.to_version} has no Migration from v{given.from_version}"
        crossing = Crossing(migration, self.saga, self.identity, self.state)
        refusal = "; ".join(crossing.obstacles())
        if not refusal:
            self._fact(crossing.fact())
            for name in crossing.passed():
                self._fact(f.StepSkipped(name))
        return refusal


def abandoned(given: PersonActed) -> f.Abandoned:
    """What a person's ABANDON establishes, whatever the instance and its definition."""
    return f.Abandoned(f"{given.who}: {given.why}")


def ended(status: Status) -> str:
    """Why nothing can be done to an instance with this terminal status."""
    return f"the saga is {status.value}; nothing can change it"


def _by(given: PersonActed) -> str:
    return f"{given.action.value} by {given.who}: {given.why}"


def _refused(why: str) -> Transition:
    return Transition(Verdict.REFUSED, note=why)
