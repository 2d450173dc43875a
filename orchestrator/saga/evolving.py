"""Folding facts into the state. Never refuses, calls no function of the user's, names steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.saga import facts as f
from orchestrator.saga.facts import Fact
from orchestrator.saga.replacing import replace
from orchestrator.saga.state import Direction, SagaState, Status, StepState, StepStatus


def fold(state: SagaState | None, established: Sequence[Fact]) -> SagaState:
    """The state after these facts."""
    folded = state or SagaState()
    for fact in established:
        folded = evolve(folded, fact)
    return folded


def evolve(state: SagaState, fact: Fact) -> SagaState:  # noqa: C901, PLR0912 - a table: one case a fact
    """The state after one more fact. Never refuses."""
    match fact:
        case f.Started(data):
            return replace(state, data=data)
        case f.DataChanged(data):
            return replace(state, data=data, steps=_remembering(state))
        case f.CommandSent():
            return _step(state, fact.step, _sent(state.steps.get(fact.step), fact))
        case f.WaitBegun(step, due):
            return _step(state, step, StepState(StepStatus.RUNNING, due=due))
        case f.StepSucceeded(step):
            return _moved(state, step, StepStatus.SUCCEEDED)
        case f.StepSkipped(step):
            return _moved(state, step, StepStatus.SKIPPED)
        case f.StepRefused(step):
            return _moved(state, step, StepStatus.REFUSED)
        case f.StepInDoubt(step):
            return _moved(state, step, StepStatus.IN_DOUBT)
        case f.StepCompensated(step):
            return _moved(state, step, StepStatus.COMPENSATED)
        case f.CompensationBegun(reason):
            return replace(state, status=Status.COMPENSATING, reason=reason)
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
            return replace(state, data=fact.data, steps=_carried_over(state, fact))
        case f.Completed():
            return replace(state, status=Status.COMPLETED)
        case f.Compensated():
            return replace(state, status=Status.COMPENSATED)
        case f.Abandoned(reason):
            return replace(state, status=Status.ABANDONED, reason=reason)
        case f.CameLate():
            return state


def _sent(known: StepState | None, fact: f.CommandSent) -> StepState:
    made_from = known.made_from if known is not None and fact.attempt > 1 else None
    status, action_round = StepStatus.RUNNING, fact.round
    if fact.direction is Direction.COMPENSATION:
        status, action_round = StepStatus.COMPENSATING, known.action_round if known is not None else 0
    sent_as = known.sent_as if known is not None else None
    return StepState(status, fact.round, fact.attempt, fact.due, action_round, made_from, sent_as=sent_as)


def _remembering(state: SagaState) -> Mapping[str, StepState]:
    """The steps, those that wait for an answer with the data their command was made from."""
    return {
        name: replace(step, made_from=state.data) if step.attempt and step.underway and step.made_from is None else step
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
    known = state.steps.get(step, StepState(status))
    return _step(state, step, replace(known, status=status, due=None, made_from=None, open_ended=False))


def _step(state: SagaState, name: str, step: StepState) -> SagaState:
    steps: Mapping[str, StepState] = {**state.steps, name: step}
    return replace(state, steps=steps)
