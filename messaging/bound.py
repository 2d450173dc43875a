"""How long somebody waits for an answer, without a timer for each wait."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class Bound:
    """Waits of one kind, and one timer for all of them: it is set anew when it rings, and not once a wait.

    `asyncio.timeout` sets a timer and takes it back, some forty calls; an answer mostly comes long before.
    """

    __slots__ = ("_expired", "_loop", "_rings", "_timer", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[asyncio.Task[object], float] = {}
        """Whoever waits, and until when, in the loop's time."""
        self._expired: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._rings = math.inf
        """When it does."""

    async def wait(self, answer: Callable[[], Awaitable[T]], seconds: float) -> T:
        """What comes of `answer`; raises TimeoutError where nothing does in time. A task waits once at a time here."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can wait for an answer")
        before = task.cancelling()
        self._waiting[task] = until = self._loop.time() + seconds
        if until < self._rings:
            self._set(until)
        try:
            return await answer()
        except asyncio.CancelledError:
            if task in self._expired and task.uncancel() <= before:
                raise TimeoutError from None
            raise
        finally:
            del self._waiting[task]
            if self._expired:
                self._expired.discard(task)

    def _set(self, until: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings = until
        self._timer = self._loop.call_at(until, self._look)

    def _look(self) -> None:
        self._timer, self._rings = None, math.inf
        now = self._loop.time()
        for task, until in self._waiting.items():
            if until <= now and task not in self._expired:
                self._expired.add(task)
                task.cancel()
        left = [until for task, until in self._waiting.items() if task not in self._expired]
        if left:
            self._set(min(left))
