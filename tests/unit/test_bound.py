"""How long somebody waits for an answer: one timer for all, and each has his own time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest

from messaging.bound import Bound


class Clockwork(asyncio.SelectorEventLoop):
    """A loop whose time passes when it is told to; only its clock and its timers are used."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self._set: list[asyncio.TimerHandle] = []

    @property
    def timers(self) -> list[float]:
        """When those will ring that are set."""
        return [each.when() for each in self._set if not each.cancelled()]

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *_: object, **__: object) -> asyncio.TimerHandle:
        self._set.append(asyncio.TimerHandle(when, callback, (), self))
        return self._set[-1]

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        """Nothing to do: who looks for timers sees it."""

    def pass_time(self, seconds: float) -> None:
        """Let timers ring, each once."""
        self.now += seconds
        due = [each for each in self._set if each.when() <= self.now and not each.cancelled()]
        self._set = [each for each in self._set if each.when() > self.now]
        for each in due:
            each._run()


@pytest.fixture
def clockwork() -> Iterator[Clockwork]:
    """Closed afterwards, as every loop."""
    loop = Clockwork()
    yield loop
    loop.close()


async def _nothing() -> None:
    """An answer that is there at once."""


async def _of(answer: asyncio.Future[object]) -> object:
    return await answer


def _waiting(bound: Bound, answer: Callable[[], Awaitable[object]], seconds: float = 60.0) -> asyncio.Task[object]:
    return asyncio.create_task(bound.wait(answer, seconds))


async def test_an_answer_that_does_not_come_in_time_is_a_timeout(clockwork: Clockwork) -> None:
    """Not a moment earlier, and the task goes on afterwards as if nobody had ever canceled it."""
    bound, never = Bound(clockwork), asyncio.get_running_loop().create_future()
    task = _waiting(bound, lambda: never)
    await asyncio.sleep(0)
    clockwork.pass_time(59.9)
    await asyncio.sleep(0)
    assert not task.done()
    clockwork.pass_time(0.2)
    with pytest.raises(TimeoutError):
        await task
    assert task.cancelling() == 0
    assert never.cancelled()


async def test_a_statement_has_its_own_time_whenever_the_timer_was_set(clockwork: Clockwork) -> None:
    """The one timer rings for the first statement, sees a later one under way, and comes back for that."""
    bound = Bound(clockwork)
    await bound.wait(_nothing, 60.0)
    clockwork.pass_time(50.0)
    late = asyncio.get_running_loop().create_future()
    task = _waiting(bound, lambda: late)
    await asyncio.sleep(0)
    clockwork.pass_time(30.0)
    await asyncio.sleep(0)
    assert not task.done()
    assert clockwork.timers == [210.0]
    late.set_result("rows")
    assert await task == "rows"


async def test_a_thousand_statements_set_one_timer(clockwork: Clockwork) -> None:
    """It rings in vain, and the next statement sets the next."""
    bound = Bound(clockwork)
    for _ in range(1_000):
        await bound.wait(_nothing, 60.0)
    assert len(clockwork.timers) == 1
    clockwork.pass_time(61.0)
    assert clockwork.timers == []
    await bound.wait(_nothing, 60.0)
    assert len(clockwork.timers) == 1


async def test_who_cancels_the_task_is_not_told_of_a_timeout(clockwork: Clockwork) -> None:
    """A statement that nobody waits for any more is canceled, in time or not."""
    bound, never = Bound(clockwork), asyncio.get_running_loop().create_future()
    task = _waiting(bound, lambda: never)
    await asyncio.sleep(0)
    task.cancel()
    clockwork.pass_time(61.0)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_waits_for_less_has_his_answer_or_none_before_the_others(clockwork: Clockwork) -> None:
    """Several wait at once, each for as long as he says."""
    bound, loop = Bound(clockwork), asyncio.get_running_loop()
    answers = [loop.create_future() for _ in range(3)]
    tasks = [_waiting(bound, partial(_of, each), s) for each, s in zip(answers, (60.0, 5.0, 60.0), strict=True)]
    await asyncio.sleep(0)
    assert clockwork.timers == [105.0]
    clockwork.pass_time(5.0)
    with pytest.raises(TimeoutError):
        await tasks[1]
    assert clockwork.timers == [160.0]
    answers[2].set_result("in time")
    assert await tasks[2] == "in time"
    clockwork.pass_time(55.0)
    with pytest.raises(TimeoutError):
        await tasks[0]
