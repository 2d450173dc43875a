"""What an orchestrator counts of its sagas' transitions, once somebody looks at its figures.

A step's duration is from the first sending of its command, or the beginning of its wait, to its outcome. When that was
no row tells; it follows from the deadline that was set then, to the microsecond as long as nothing was sent again. Of a
command that was, each timer's lateness is missing (up to a second); where a person has moved the deadline, so is that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from messaging.telemetry.families import SPANS, Family, Histogram
from messaging.work import Work
from orchestrator.instance import Instance
from orchestrator.saga import facts as f
from orchestrator.saga.definition import Saga
from orchestrator.saga.state import Direction, StepState, StepStatus
from orchestrator.saga.steps import Kind, Step, Wait
from orchestrator.saga.transition import Transition

_OUTCOMES: dict[type, str] = {
    f.StepSucceeded: "succeeded",
    f.StepRefused: "refused",
    f.StepInDoubt: "in_doubt",
    f.StepCompensated: "compensated",
    f.StepSkipped: "skipped",
}
_ENDS: dict[type, str] = {f.Completed: "completed", f.Compensated: "compensated", f.Abandoned: "abandoned"}


class SagaMeter:
    """Transitions that were committed here; what can be foreseen of a catalog's sagas is told before it happens, as 0.

    Otherwise the first of a kind would make no difference to what is computed of differences.
    """

    def __init__(self, sagas: Iterable[Saga[Any]]) -> None:
        self._listening = False
        self._steps: dict[tuple[str, ...], Histogram] = {}
        self._sagas: dict[tuple[str, ...], Histogram] = {}
        self._retries: Counter[tuple[str, ...]] = Counter()
        self._started: Counter[tuple[str, ...]] = Counter()
        self._stuck: Counter[tuple[str, ...]] = Counter()
        for saga in sagas:
            self._foresee(saga)

    def listen(self) -> None:
        """Count from now on."""
        self._listening = True

    def watch(self, work: Work) -> Watching | None:
        """Who takes note of a batch's transitions, to be counted when it commits; None where nobody wants to know."""
        if not self._listening:
            return None
        watching = Watching()
        work.after_commit.append(lambda: self._count(watching))
        return watching

    def families(self) -> Iterable[Family]:
        yield Family(
            "amends_saga_step_duration_seconds",
            "From the first sending of a step's command, or the beginning of a wait, to its outcome.",
            "histogram",
            ("saga", "step", "outcome"),
            dict(self._steps),
        )
        yield Family(
            "amends_saga_duration_seconds",
            "From the start of a saga to its end.",
            "histogram",
            ("saga", "status"),
            dict(self._sagas),
        )
        yield Family(
            "amends_saga_step_retries",
            "Commands that were sent again because no answer had come in time.",
            "counter",
            ("saga", "step", "direction"),
            dict(self._retries),
        )
        yield Family("amends_sagas_started", "Sagas started.", "counter", ("saga",), dict(self._started))
        yield Family("amends_sagas_became_stuck", "How often sagas got stuck.", "counter", ("saga",), dict(self._stuck))

    def _foresee(self, saga: Saga[Any]) -> None:
        self._started[saga.name,] = self._stuck[saga.name,] = 0
        for status in _ENDS.values():
            self._sagas[saga.name, status] = Histogram(SPANS)
        for direction, steps in ((Direction.ACTION, saga.commands), (Direction.COMPENSATION, saga.compensations)):
            for step in steps:
                self._retries[saga.name, step, direction.value] = 0

    def _count(self, watching: Watching) -> None:
        for labels, seconds in watching.steps:
            _observe(self._steps, labels, seconds)
        for labels, seconds in watching.sagas:
            _observe(self._sagas, labels, seconds)
        self._retries.update(watching.retries)
        self._started.update(watching.started)
        self._stuck.update(watching.stuck)


class Watching:
    """The transitions of one batch, not counted yet: it may be undone and done again."""

    def __init__(self) -> None:
        self.steps: list[tuple[tuple[str, ...], float]] = []
        self.sagas: list[tuple[tuple[str, ...], float]] = []
        self.retries: list[tuple[str, ...]] = []
        self.started: list[tuple[str, ...]] = []
        self.stuck: list[tuple[str, ...]] = []

    def moved(self, instance: Instance, transition: Transition, at: datetime) -> None:
        """Take note of one; the instance is still as it was before."""
        for fact in transition.facts:
            outcome = _OUTCOMES.get(type(fact))
            if outcome is not None:
                self._settled(instance, fact.step, outcome, at)  # type: ignore[union-attr]  # those have one
            elif isinstance(fact, f.CommandSent):
                if fact.attempt > 1:
                    self.retries.append((instance.name, fact.step, fact.direction.value))
            elif isinstance(fact, f.Started):
                self.started.append((instance.name,))
            elif isinstance(fact, f.BecameStuck):
                self.stuck.append((instance.name,))
            elif type(fact) in _ENDS:
                seconds = (at - (instance.started_at or at)).total_seconds()
                self.sagas.append(((instance.name, _ENDS[type(fact)]), max(seconds, 0.0)))

    def _settled(self, instance: Instance, step: str, outcome: str, at: datetime) -> None:
        state = None if instance.state is None else instance.state.steps.get(step)
        began = None if state is None or instance.saga is None else begun(instance.saga, step, state)
        if began is not None:
            seconds = max((at - began).total_seconds(), 0.0)
            self.steps.append(((instance.name, step, outcome), seconds))


def begun(saga: Saga[Any], name: str, reached: StepState) -> datetime | None:
    """When a step's command was first sent, or its wait began; None where no deadline tells."""
    due, stage = reached.due, saga.stages.get(name)
    if due is None or not reached.underway:
        return None
    if isinstance(stage, Step):
        return due - _waited(stage, reached.status is StepStatus.RUNNING, reached.attempt)
    return due - stage.timeout if isinstance(stage, Wait) and stage.timeout is not None else None


@lru_cache(maxsize=1024)  # nearly always the first attempt, and the same few steps
def _waited(step: Step[Any], forward: bool, attempts: int) -> timedelta:
    """How long so many attempts are waited for, all in all, as `moving` has it."""
    retry = step.retry if forward else step.compensation_retry
    endless = forward and step.kind is not Kind.COMPENSABLE
    pauses = attempts if endless else min(attempts, retry.attempts - 1)
    return step.timeout * attempts + sum((retry.wait(attempt) for attempt in range(1, pauses + 1)), timedelta(0))


def _observe(histograms: dict[tuple[str, ...], Histogram], labels: tuple[str, ...], seconds: float) -> None:
    histogram = histograms.get(labels)
    if histogram is None:
        histogram = histograms[labels] = Histogram(SPANS)
    histogram.observe(seconds)
