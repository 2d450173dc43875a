"""What is foreseen of a lone message is what would have been decided, or nothing at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import pytest

from contracts.message import Event
from messaging.envelope import Envelope
from messaging.received import Received
from messaging.work import Work
from orchestrator import PIVOT, Saga, Step
from orchestrator.catalog import Catalog, Target
from orchestrator.folding import Folding
from orchestrator.foreseeing import Foresight, arrived
from orchestrator.instance import Instance, kept
from orchestrator.loading import Loading
from orchestrator.parked import ParkedEvent
from orchestrator.remembered import Remembered
from orchestrator.saga.state import SagaState, Status, saga_id
from tests.unit.work import Approved, Begun, Done, Refused, Withdrawn, approval, cancel_on_withdrawal, doing, step
from tests.unit.work import Work as Data
from tests.unit.work import work_saga as saga_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLACE, ELSEWHERE = (f"00-{trace * 32}-{'2' * 16}-01" for trace in "13")
ID = saga_id("work", 1)


def _breaks(data: Data, event: Done) -> Data:
    """What cannot be stored, or nothing at all."""
    if event.note == "!":
        return data.model_copy(update={"log": object()})
    raise RuntimeError("it never works")


def _sagas() -> list[Saga[Data]]:
    return [
        saga_of(
            step("dig"),
            step("fill", on_success=_breaks),
            approval(),
            Step("sign", doing("sign"), kind=PIVOT),
            cancel_on=cancel_on_withdrawal(),
            search=("id",),
            version=version,
        )
        for version in (1, 2)
    ]


OLDER, SAGA = _sagas()
CATALOG = Catalog((OLDER, SAGA))
STARTING, MEANT = Target(ID, "work", "1", starts=True), Target(ID, "", None)


def _received(event: Event, cause: str | None = None, place: str | None = None) -> Received:
    envelope = Envelope(UUID(int=5), event.wire_type, 1, "worker", NOON, str(ID), cause, traceparent=place)
    return Received(envelope, event, {}, "{}", "orchestrator.events")


def _folding(found: Instance | None, foresight: Foresight) -> tuple[Folding, Work]:
    work = Work(Mock(), NOON, "orchestrator", "orchestrator")
    loading = Loading(CATALOG, work, Remembered(), {ID})
    loading.foresight = foresight
    if found is not None:
        loading.instances[ID] = found
    return Folding(CATALOG, timedelta(days=1), work, loading), work


def _does(found: Instance | None, received: Received, target: Target, foresight: Foresight) -> list[object]:
    """All that a message does to an instance, and has written."""
    plan, work = _folding(found, foresight)
    plan.event(received, target)
    instance = plan.touched(ID)
    row = None
    if instance is not None and instance.revision > instance.loaded_revision:
        row = instance.kept or kept(instance)
    told = instance and replace(instance, kept=None, text="", parked=[replace(each) for each in instance.parked])
    return [told, row, plan.history, work.sends, work.causes, work.settled, work.wake_at]


async def _foreseen(last: Instance | None, received: Received, target: Target) -> Foresight:
    foresight, remembered = Foresight(), Remembered()
    if last is not None:
        remembered.keep([(last, kept(last).texts)])
    foresight.look_soon(CATALOG, Work(Mock(), NOON, "orchestrator", "orchestrator"), remembered, target, received)
    await asyncio.sleep(0)  # until which its turn has come
    return foresight


def _moved(*answers: str) -> Instance:
    """The instance as it is written when it has been started and these steps have been answered."""
    plan, work = _folding(None, Foresight())
    plan.event(_received(Begun(id=1), place=PLACE), STARTING)
    for note in answers:
        plan.event(_received(Done(note=note), str(work.sends[-1].message_id)), MEANT)
    instance = plan.touched(ID)
    assert instance is not None
    return instance


def _asked(instance: Instance) -> str:
    """The command that it waits for an answer to."""
    assert instance.state is not None
    return str(next(each.command for each in instance.state.steps.values() if each.underway))


def _with_data(found: Instance, **changes: Any) -> Instance:
    assert found.state is not None
    return replace(found, state=replace(found.state, **changes))


_PARKED = ParkedEvent(7, ID, UUID(int=9), "work", "work.approved", "q", "{}", "early", NOON, NOON + timedelta(days=1))
ROWS: dict[str, Callable[[Instance], Instance | None]] = {
    "gone": lambda _: None,
    "moved by another": lambda found: replace(found, revision=found.revision + 1, loaded_revision=found.revision + 1),
    "the same, read anew": _with_data,
    "stuck": lambda found: _with_data(found, status=Status.STUCK),
    "ended": lambda found: _with_data(found, status=Status.ABANDONED),
    "of another version": lambda found: replace(found, saga=OLDER, version=1),
    "unreadable": lambda found: replace(found, saga=None, state=None, unreadable="torn"),
    "never started": lambda found: replace(found, state=SagaState()),
    "with another key": lambda found: replace(found, key="2"),
    "moved a moment ahead": lambda found: replace(found, moved_at=NOON + timedelta(seconds=3)),
    "moved far ahead": lambda found: replace(found, moved_at=NOON + timedelta(hours=3)),
    "started at another time": lambda found: replace(found, started_at=NOON - timedelta(days=1)),
    "in another trace": lambda found: replace(found, traceparent=ELSEWHERE, place=ELSEWHERE),
    "with something parked": lambda found: replace(found, parked=[_PARKED]),
    "written otherwise": lambda found: replace(found, written='{"id":1,"log":[] }'),
}
MESSAGES: dict[str, Callable[[Instance], tuple[Received, Target]]] = {
    "answer": lambda found: (_received(Done(note="!"), _asked(found), PLACE), MEANT),
    "answer of another trace": lambda found: (_received(Done(), _asked(found), ELSEWHERE), MEANT),
    "refusal": lambda found: (_received(Refused(), _asked(found)), MEANT),
    "answer to nothing": lambda _: (_received(Done(), "no id at all"), MEANT),
    "early": lambda _: (_received(Approved(id=1)), Target(ID, "work", "1")),
    "withdrawal": lambda _: (_received(Withdrawn(id=1)), Target(ID, "work", "1")),
    "second start": lambda _: (_received(Begun(id=1)), STARTING),
    "perhaps another's": lambda found: (_received(Done(), _asked(found)), Target(ID, "", None, certain=False)),
}


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("answers", [(), ("deep",)], ids=["goes on", "breaks"])
async def test_whatever_the_row_is_the_same_comes_of_it(message: str, answers: tuple[str, ...]) -> None:
    """As it was written, or changed in whatever way meanwhile: with and without what was foreseen."""
    last = _moved(*answers)
    received, target = MESSAGES[message](last)
    foresight = await _foreseen(last, received, target)
    for row, change in {"as it was": replace, **ROWS}.items():
        # A copy for each: an instance is changed by what is folded over it.
        one, other = (change(replace(last, parked=[])) for _ in range(2))
        assert _does(one, received, target, foresight) == _does(other, received, target, Foresight()), row


@pytest.mark.parametrize("row", ROWS)
async def test_nothing_is_foreseen_of_another_row(row: str) -> None:
    """Whatever a transition, or what is written of it, depends on: where it differs, it is decided anew."""
    last = _moved()
    received, target = MESSAGES["answer"](last)
    foresight = await _foreseen(last, received, target)
    same, other = replace(last), ROWS[row](replace(last))
    same.arrive(PLACE)
    assert foresight.of(received, same) is not None
    if other is not None:
        other.arrive(PLACE)
        assert foresight.of(received, other) is None
    assert foresight.of(replace(received), same) is None


async def test_a_start_is_foreseen_of_nothing() -> None:
    """Where no instance is remembered, one that an event starts is not there yet; any other is not known."""
    for event, target, known in ((Begun(id=1), STARTING, True), (Approved(id=1), Target(ID, "work", "1"), False)):
        received = _received(event)
        foresight = await _foreseen(None, received, target)
        fresh = Instance(ID, "work", SAGA, "1")
        assert (foresight.of(received, fresh) is not None) == known
        assert _does(None, received, target, foresight) == _does(None, received, target, Foresight())


async def test_what_a_definition_raises_is_not_foreseen() -> None:
    """It is asked again in earnest, where somebody is told of it, and the instance gets stuck."""
    last = _moved("deep")
    received = _received(Done(), _asked(last))
    foresight = await _foreseen(last, received, MEANT)
    assert foresight.of(received, replace(last)) is None
    told = _does(replace(last), received, MEANT, foresight)[0]
    assert isinstance(told, Instance)
    assert told.state is not None
    assert told.state.status is Status.STUCK
    assert "it never works" in told.state.reason


async def test_a_message_that_was_not_looked_at_in_time_is_decided_as_ever() -> None:
    """Where the caller has not waited for anything yet, nothing is foreseen."""
    last, foresight, remembered = _moved(), Foresight(), Remembered()
    remembered.keep([(last, kept(last).texts)])
    received = _received(Done(), _asked(last))
    work = Work(Mock(), NOON, "orchestrator", "orchestrator")
    foresight.look_soon(CATALOG, work, remembered, MEANT, received)
    assert foresight.of(received, replace(last)) is None


def test_a_cause_that_is_no_id_is_none() -> None:
    """Whoever sent it may write there what he likes."""
    event = Done()
    assert [arrived(_received(event, cause).envelope, event, NOON).causation_id for cause in ("x", None, str(ID))] == [
        None,
        None,
        ID,
    ]
