"""Folding facts into the state. Never refuses, calls no function of the user's, names steps.

What nearly every transition establishes comes first, matches without taking the fact apart and is built field by field:
a history is folded by the million, a pattern that binds a field costs three times one that does not, and
`dataclasses.replace` five times a constructor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.saga import facts as f
from orchestrator.saga.facts import Fact
from orchestrator.saga.state import Direction, SagaState, Status, StepState, StepStatus

# To name a member of an enumeration costs as much as a call.
_SUCCEEDED, _RUNNING, _COMPENSATION = StepStatus.SUCCEEDED, StepStatus.RUNNING, Direction.COMPENSATION


def fold(state: SagaState | None, established: Sequence[Fact]) -> SagaState:
    """The state after these facts."""
    folded = state or SagaState()
    for fact in established:
        folded = evolve(folded, fact)
    return folded


def evolve(state: SagaState, fact: Fact) -> SagaState:  # noqa: C901, PLR0912 - a table: one case a fact
    """The state after one more fact. Never refuses."""
    match fact:
        case f.StepSucceeded():
            return _moved(state, fact.step, _SUCCEEDED)
        case f.CommandSent():
            return _step(state, fact.step, _sent(state.steps.get(fact.step), fact))
        case f.DataChanged():
            return _with_data(state, fact.data, _remembering(state))
        case f.Completed():
            return _with_status(state, Status.COMPLETED, state.reason)
        case f.Started():
            return _with_data(state, fact.data, state.steps)
        case f.StepCompensated():
            return _moved(state, fact.step, StepStatus.COMPENSATED)
        case f.CompensationBegun():
            return _with_status(state, Status.COMPENSATING, fact.reason)
        case f.Compensated():
            return _with_status(state, Status.COMPENSATED, state.reason)
        case f.StepRefused():
            return _moved(state, fact.step, StepStatus.REFUSED)
        case f.StepInDoubt():
            return _moved(state, fact.step, StepStatus.IN_DOUBT)
        case f.StepSkipped():
            return _moved(state, fact.step, StepStatus.SKIPPED)
        case f.WaitBegun(step, due):
            return _step(state, step, StepState(StepStatus.RUNNING, due=due))
        case f.BecameStuck(reason, gave_up):
            given_up = {
                name: replace(state.steps[name], due=None, open_ended=False) for name in gave_up if name in state.steps
            }
            return replace(
                state,
                status=Status.STUCK,
                reason=reason,
                before=state.before if state.status is Status.STUCK else state.status,
                reason_before=state.reason_before if state.status is Status.STUCK else state.reason,
                steps={**state.steps, **given_up},
            )
        case f.Resumed():
            was = state.before or Status.RUNNING
            return replace(state, status=was, before=None, reason=state.reason_before, reason_before="")
        case f.DeadlineMoved(step, due):
            known = state.steps.get(step, StepState(StepStatus.RUNNING))
            return _step(state, step, replace(known, due=due, open_ended=due is None))
        case f.Migrated():
            return _with_data(state, fact.data, _carried_over(state, fact))
        case f.Abandoned():
            return _with_status(state, Status.ABANDONED, fact.reason)
        case f.CameLate():
            return state


def _sent(known: StepState | None, fact: f.CommandSent) -> StepState:
    made_from = known.made_from if known is not None and fact.attempt > 1 else None
    status, action_round = _RUNNING, fact.round
    if fact.direction is _COMPENSATION:
        status, action_round = StepStatus.COMPENSATING, known.action_round if known is not None else 0
    sent_as = known.sent_as if known is not None else None
    return StepState(status, fact.round, fact.attempt, fact.due, action_round, made_from, False, sent_as, fact.command)


def _remembering(state: SagaState) -> Mapping[str, StepState]:
    """The steps, those that wait for an answer with the data their command was made from."""
    return {
        name: replace(step, made_from=state.data)
        if step.attempt and step.status.underway and step.made_from is None
        else step
        for name, step in state.steps.items()
    }


def _carried_over(state: SagaState, fact: f.Migrated) -> Mapping[str, StepState]:
    """The steps under their new names; the ids of their commands stay those that participants know."""
    steps = {}
    for name, step in state.steps.items():
        now = fact.renamed.get(name, name)
        sent_as = step.sent_as or (name if now != name else None)
        steps[now] = replace(step, made_from=fact.made_from.get(now), sent_as=sent_as)
    return steps


def _moved(state: SagaState, step: str, status: StepStatus) -> SagaState:
    known = state.steps.get(step)
    if known is None:
        return _step(state, step, StepState(status))
    now = StepState(status, known.round, known.attempt, None, known.action_round, sent_as=known.sent_as)
    return _step(state, step, now)


def _step(state: SagaState, name: str, step: StepState) -> SagaState:
    steps = {**state.steps, name: step}
    return SagaState(state.status, state.data, steps, state.reason, state.before, state.reason_before)


def _with_data(state: SagaState, data: Any, steps: Mapping[str, StepState]) -> SagaState:
    return SagaState(state.status, data, steps, state.reason, state.before, state.reason_before)


def _with_status(state: SagaState, status: Status, reason: str) -> SagaState:
    return SagaState(status, state.data, state.steps, reason, state.before, state.reason_before)
