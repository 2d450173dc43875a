"""How long a statement may take: one timer for all of a connection, whichever of them is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from messaging.line import Bound


class Clockwork(asyncio.SelectorEventLoop):
    """A loop whose time passes when it is told to; only its clock and its timers are used."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *_: object, **__: object) -> asyncio.TimerHandle:
        self.timers.append((when, callback))
        return asyncio.TimerHandle(when, callback, (), self)

    def pass_time(self, seconds: float) -> None:
        """Let timers ring, each once."""
        self.now += seconds
        due = [each for each in self.timers if each[0] <= self.now]
        self.timers = [each for each in self.timers if each[0] > self.now]
        for _, ring in due:
            ring()


@pytest.fixture
def clockwork() -> Iterator[Clockwork]:
    """Closed afterwards, as every loop."""
    loop = Clockwork()
    yield loop
    loop.close()


async def _nothing() -> None:
    """An answer that is there at once."""


def _waiting(bound: Bound, answer: Callable[[], Awaitable[object]]) -> asyncio.Task[object]:
    return asyncio.create_task(bound.wait(answer))


async def test_an_answer_that_does_not_come_in_time_is_a_timeout(clockwork: Clockwork) -> None:
    """Not a moment earlier, and the task goes on afterwards as if nobody had ever canceled it."""
    bound, never = Bound(clockwork, 60.0), asyncio.get_running_loop().create_future()
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
    bound = Bound(clockwork, 60.0)
    await bound.wait(_nothing)
    clockwork.pass_time(50.0)
    late = asyncio.get_running_loop().create_future()
    task = _waiting(bound, lambda: late)
    await asyncio.sleep(0)
    clockwork.pass_time(30.0)
    await asyncio.sleep(0)
    assert not task.done()
    assert [when for when, _ in clockwork.timers] == [210.0]
    late.set_result("rows")
    assert await task == "rows"


async def test_a_thousand_statements_set_one_timer(clockwork: Clockwork) -> None:
    """It rings in vain, and the next statement sets the next."""
    bound = Bound(clockwork, 60.0)
    for _ in range(1_000):
        await bound.wait(_nothing)
    assert len(clockwork.timers) == 1
    clockwork.pass_time(61.0)
    assert clockwork.timers == []
    await bound.wait(_nothing)
    assert len(clockwork.timers) == 1


async def test_who_cancels_the_task_is_not_told_of_a_timeout(clockwork: Clockwork) -> None:
    """A statement that nobody waits for any more is canceled, in time or not."""
    bound, never = Bound(clockwork, 60.0), asyncio.get_running_loop().create_future()
    task = _waiting(bound, lambda: never)
    await asyncio.sleep(0)
    task.cancel()
    clockwork.pass_time(61.0)
    with pytest.raises(asyncio.CancelledError):
        await task
