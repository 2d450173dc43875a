"""Folding a batch where the process traces: each input within its span, which is told what became of the saga."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from messaging.received import Received
from orchestrator import timers
from orchestrator.catalog import Target

if TYPE_CHECKING:
    from messaging.telemetry.tracing import BatchSpans
    from orchestrator.folding import Folding
    from orchestrator.instance import Instance


def fold(
    plan: Folding,
    spans: BatchSpans,
    concerned: Iterable[tuple[Received, Sequence[Target]]],
    ticks: Iterable[timers.DeadlineDue | timers.ParkedDue],
) -> None:
    """Apply messages and deadlines, in this order."""
    for received, targets in concerned:
        message = received.envelope.id
        with spans.current(message):
            for target in targets:
                plan.event(received, target)
                _tell(spans, message, plan.touched(target.saga_id))
    for tick in ticks:
        instance = plan.instance(tick.saga_id)
        if instance is None or isinstance(tick, timers.ParkedDue):
            plan.tick(tick)
            continue
        instance.place = spans.deadline(instance.name, instance.id, instance.traceparent)
        with spans.current(instance.id):
            plan.tick(tick)
        _tell(spans, instance.id, instance)


def _tell(spans: BatchSpans, name: object, instance: Instance | None) -> None:
    if instance is not None and instance.state is not None:
        state = instance.state
        spans.tell(name, saga=instance.name, saga_id=str(instance.id), status=state.status.value, step=state.waits_for)
