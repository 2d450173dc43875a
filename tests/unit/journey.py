"""The saga most rules are shown with, and instances of it that have come some way."""

from __future__ import annotations

from typing import Any

from orchestrator import Retry, seconds
from orchestrator.saga.definition import Saga
from tests.unit.play import Play, Verdict
from tests.unit.work import (
    Begun,
    Done,
    Work,
    pivot,
    retriable,
    step,
    work_saga,
)


def journey(**options: Any) -> Saga[Work]:
    """Two steps that can be undone, the point of no return, one that must succeed."""
    return work_saga(
        step("stock", timeout=seconds(30), retry=Retry(attempts=3, backoff=seconds(2))),
        step("money"),
        pivot("ship"),
        retriable("invoice"),
        **options,
    )


def started(saga: Saga[Any] | None = None) -> Play:
    """An instance that has just started."""
    play = Play(saga or journey())
    assert play.event(Begun(id=7)).verdict is Verdict.APPLIED
    return play


def done(*names: str, saga: Saga[Any] | None = None) -> Play:
    """An instance some of whose steps have succeeded."""
    play = started(saga)
    for name in names:
        play.answer(name, Done())
    return play
