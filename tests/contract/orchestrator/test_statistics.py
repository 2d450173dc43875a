"""Figures worked out by hand, and the same on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Retry, Saga, seconds
from orchestrator.replay.recorded import Recorded
from orchestrator.statistics import Durations, SagaStatistics, StepStatistics, statistics
from tests.contract.messaging.bench import NOON
from tests.contract.orchestrator.office import Office
from tests.contract.orchestrator.records import store
from tests.unit.begun import RecordedPlay
from tests.unit.work import Done, Refused, Undone, Work, done_before, pivot, step, work_saga

near: Any = pytest.approx
NOW = NOON + timedelta(seconds=100)


def _patient(**options: Any) -> Saga[Work]:
    return work_saga(
        done_before("order"),
        step("dig", timeout=seconds(10), retry=Retry(attempts=2, backoff=seconds(2))),
        pivot("sign"),
        **options,
    )


def _undone(play: RecordedPlay, at: float) -> None:
    """Answer the compensations that are under way, until there is none."""
    while play.status == "compensating":
        (name,) = play.current.current
        play.at(at).answer(name, Undone())


def _six() -> list[Recorded]:
    """Two completed, two refused, one never answered, one answered at its second try and then waiting."""
    saga = _patient()
    one, two, three, four, five, six = (RecordedPlay(saga, number) for number in range(1, 7))
    one.at(1).answer("dig", Done())
    one.at(3).answer("sign", Done())
    two.at(2).answer("dig", Done())
    two.at(6).answer("sign", Done())
    three.at(4).answer("dig", Refused(reason="no_time"))
    _undone(three, 4)
    four.deadlines(2)  # after 12 seconds, and after 10 more
    _undone(four, 23)
    five.at(5).answer("dig", Refused(reason="too_deep"))
    _undone(five, 5)
    six.deadline()
    six.at(15).answer("dig", Done())
    return [each.recorded for each in (one, two, three, four, five, six)]


async def test_the_figures_are_those_worked_out_by_hand(office: Office) -> None:
    """Counts, refusals by reason, timeouts, repetitions, and percentiles that were really measured."""
    await store(office.database, _six())
    async with office.database.reading() as connection:
        (found,) = await statistics(connection, NOW)
    assert found == SagaStatistics(
        saga="work",
        statuses={"compensated": 3, "completed": 2, "running": 1},
        ended_per_second=near(0.05),
        sampled=6,
        unreadable=0,
        # 3, 4, 5, 6 and 23 seconds
        duration=Durations(5, 5.0, 23.0, 23.0),
        steps=(
            StepStatistics("order", 0, 0, 0, {}, 0, 0, 3, Durations(0, None, None, None)),
            StepStatistics(
                step="dig",
                sent=6,
                answered=5,
                refused=2,
                reasons={"no_time": 1, "too_deep": 1},
                timed_out=3,
                retried=2,
                compensated=1,
                # 1, 2, 4, 5 and 15 seconds
                duration=Durations(5, 4.0, 15.0, 15.0),
            ),
            StepStatistics(
                step="sign",
                sent=3,
                answered=2,
                refused=0,
                reasons={},
                timed_out=0,
                retried=0,
                compensated=0,
                # 2 and 4 seconds
                duration=Durations(2, 2.0, 4.0, 4.0),
            ),
        ),
    )
    assert found.instances == 6


async def test_only_what_moved_since_then_counts(office: Office) -> None:
    """Counts, throughput and steps are of the two instances that moved in the last ninety seconds."""
    await store(office.database, _six())
    async with office.database.reading() as connection:
        (found,) = await statistics(connection, NOW, since=NOON + timedelta(seconds=10))
        none = await statistics(connection, NOW, since=NOON + timedelta(seconds=24))
    assert found.statuses == {"compensated": 1, "running": 1}
    assert found.ended_per_second == near(1 / 90)
    assert (found.sampled, found.duration) == (2, Durations(1, 23.0, 23.0, 23.0))
    assert [(each.step, each.sent, each.timed_out) for each in found.steps] == [
        ("order", 0, 0),
        ("dig", 2, 3),
        ("sign", 1, 0),
    ]
    assert none == []


async def test_each_saga_has_its_own_figures_and_its_own_sample(office: Office) -> None:
    """A frequent saga does not crowd a rare one out, and counts are exact whatever is sampled."""
    other = RecordedPlay(_patient(name="other"), 1)
    await store(office.database, [*_six(), other.recorded])
    async with office.database.reading() as connection:
        found = await statistics(connection, NOW, sample=2)
        (only,) = await statistics(connection, NOW, name="other")
    assert [(each.saga, each.instances, each.sampled) for each in found] == [("other", 1, 1), ("work", 6, 2)]
    assert only == found[0]
