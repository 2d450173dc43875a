"""The saga machine: `decide` what an input causes, `evolve` the state with what was decided.

The law of this module: no clock, no random number, no I/O, no logging. The same saga, state and input always give the
same transition, and fold(history) is the state. That is what makes replay, what-if, exhaustive checking, deterministic
simulation and batching possible at once.

Theory of operation. Steps run forward one after another (the members of a Parallel together):

    running --answer: success--> next step ... --> completed
       |----answer: refusal (before or at the pivot)--> compensating
       |----no answer: the same command again, then in doubt --> compensating, beginning with that step
    compensating --answers, last step first--> compensated
       |----no answer for too long--> stuck: a person must decide

From the pivot on only forward: its command, and every later one, is repeated until it is answered.
`decide` evolves its own copy of the state with every fact it establishes, so what it says and what `evolve` folds
cannot differ.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from orchestrator.saga.deciding import Deciding
from orchestrator.saga.definition import Saga
from orchestrator.saga.evolving import evolve, fold
from orchestrator.saga.facts import BecameStuck
from orchestrator.saga.inputs import DeadlinePassed, EventArrived, Input, PersonActed, ReadFailed
from orchestrator.saga.state import SagaState, Status
from orchestrator.saga.transition import Transition, Verdict

__all__ = ["Transition", "Verdict", "decide", "evolve", "fold", "move", "stuck", "unreadable"]


def decide(saga: Saga[Any], identity: UUID, state: SagaState | None, given: Input) -> Transition:
    """What `given` causes for the instance `identity` in `state` (None: not started yet).

    A migration is decided by the definition that the instance goes on with, in the state it has with the other.
    Raises whatever the saga's own functions raise; the caller makes the instance stuck with it.
    """
    return move(saga, identity, state, given)[0]


def move(saga: Saga[Any], identity: UUID, state: SagaState | None, given: Input) -> tuple[Transition, SagaState | None]:
    """What `decide` says, and the state after it: that of `fold`, which needs not be reckoned twice."""
    deciding = Deciding(saga, identity, state or SagaState(), given.at)
    match given:
        case EventArrived():
            transition = deciding.event(given)
        case DeadlinePassed():
            transition = deciding.deadline()
        case PersonActed():
            transition = deciding.person(given)
        case ReadFailed():
            transition = unreadable(deciding.state.status, given)
            return transition, fold(state, transition.facts) if transition.facts else state
    # What was tried for an input that was refused in the end has not happened.
    return transition, deciding.state if transition.facts else state


def unreadable(status: Status, given: ReadFailed) -> Transition:
    """The transition of an instance of which no more than its status can be read: stuck, if it was under way."""
    if status.terminal or status is Status.STUCK:
        return Transition(Verdict.DUPLICATE)
    return Transition(Verdict.APPLIED, (BecameStuck(given.why),))


def stuck(state: SagaState | None, given: Input, reason: str) -> Transition:
    """The transition of an instance whose own functions raised: stuck, and an event is kept for when it goes on.

    What raises on a person's action is not done, and the person is told.
    """
    if isinstance(given, PersonActed) or (state is not None and state.status is Status.STUCK):
        # A person is there to be told; nothing has to be kept for later.
        return Transition(Verdict.REFUSED, note=reason)
    verdict = Verdict.PARKED if isinstance(given, EventArrived) else Verdict.APPLIED
    return Transition(verdict, (BecameStuck(reason),), note="its own code raised")
