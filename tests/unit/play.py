"""One saga instance driven by hand: every input goes through `decide`, and its facts are folded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from contracts.message import Command, Event
from orchestrator.saga.definition import Saga
from orchestrator.saga.facts import Fact
from orchestrator.saga.inputs import Action, DeadlinePassed, EventArrived, Input, PersonActed
from orchestrator.saga.machine import Transition, Verdict, decide, fold, stuck
from orchestrator.saga.state import Direction, SagaState, Send, Status, StepStatus, saga_id

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ACTION, COMPENSATION = Direction.ACTION, Direction.COMPENSATION


class Play:
    """An instance, what it has sent and what its history holds."""

    def __init__(self, saga: Saga[Any], key: object = 7) -> None:
        self.saga = saga
        self.id = saga_id(saga.name, key)
        self.state: SagaState | None = None
        self.now = NOON
        self.facts: list[Fact] = []
        self.sent: list[Send] = []
        self.inputs = 0

    # -- what can happen to it -------------------------------------------------------------------------------

    def take(self, given: Input) -> Transition:
        """One input, carried out: what an engine does, without its database."""
        transition = decide(self.saga, self.id, self.state, given)
        return self.carry_out(transition)

    def carry_out(self, transition: Transition) -> Transition:
        """Fold the facts of a transition and note what it sends."""
        if transition.facts:
            self.facts.extend(transition.facts)
            self.state = fold(self.state, transition.facts)
        self.sent.extend(transition.sends)
        return transition

    def event(self, event: Event, causation_id: UUID | None = None) -> Transition:
        """An event comes in."""
        return self.take(self.arrival(event, causation_id))

    def arrival(self, event: Event, causation_id: UUID | None = None) -> EventArrived:
        """An event as the machine gets to see it."""
        self.inputs += 1
        return EventArrived(self.now, uuid5(self.id, f"input {self.inputs}"), event, "test", causation_id)

    def answer(self, step: str, event: Event, *, nth: int = -1) -> Transition:
        """Answer a command of this step: the last one it was sent, or the nth."""
        return self.event(event, self.commands(step)[nth].id)

    def deadline(self) -> Transition:
        """Let time pass until the instance wants to be looked at, and look at it."""
        deadline = self.current.deadline
        assert deadline is not None, f"nothing is due in {self.current}"
        self.now = max(self.now, deadline)
        return self.take(DeadlinePassed(self.now))

    def deadlines(self, number: int) -> None:
        """Let that many deadlines pass."""
        for _ in range(number):
            self.deadline()

    def person(self, action: Action, step: str | None = None, answer: Event | None = None) -> Transition:
        """A person does something."""
        return self.take(PersonActed(self.now, action, "bea", "she knows", step, answer))

    def fails(self, given: Input, reason: str = "ZeroDivisionError") -> Transition:
        """What an engine does when the saga's own functions raise."""
        return self.carry_out(stuck(self.state, given, reason))

    # -- what can be seen of it ------------------------------------------------------------------------------

    @property
    def current(self) -> SagaState:
        """Its state, which must exist."""
        assert self.state is not None, "not started"
        return self.state

    @property
    def status(self) -> str:
        """What it is doing."""
        return self.current.status.value

    @property
    def steps(self) -> dict[str, str]:
        """What became of each step that was reached."""
        return {name: step.status.value for name, step in self.current.steps.items()}

    def commands(self, step: str) -> list[Send]:
        """Every command sent to a step's participant so far, compensations too."""
        return [send for send in self.sent if send.step == step]

    def told(self, since: int = 0) -> list[str]:
        """What was sent, in a form to write by hand: `do stock`, `undo stock`, `work.finished`."""
        return [
            f"{send.message.wire_type.split('.')[1]} {send.step}"
            if isinstance(send.message, Command)
            else send.message.wire_type
            for send in self.sent[since:]
        ]


def seconds_from(start: datetime, moment: datetime | None) -> float:
    """How long after `start`."""
    assert moment is not None
    return (moment - start) / timedelta(seconds=1)


__all__ = [
    "ACTION",
    "COMPENSATION",
    "NOON",
    "Action",
    "Play",
    "Status",
    "StepStatus",
    "Verdict",
    "seconds_from",
]
