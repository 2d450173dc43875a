"""One life of one service: the tasks, connections and subscriptions that end together when it is killed.

A killed process runs nothing more. Python cannot take a coroutine away without running its `finally` blocks, so the
world is taken away from the coroutine first: its connections are closed and rolled back, the broker has hung up, and
whatever it still calls raises `Killed`. Only then are its tasks canceled.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


TWIN = "'"
"""What a service's second process is named with."""


class Killed(BaseException):
    """The process that makes this call is dead. No `except Exception` may hear of it."""


@dataclass
class Doom:
    """Die when `place` is reached for the `left`-th time; an empty place is any."""

    place: str
    left: int


class Severed(Protocol):
    """What a process holds open and the operating system closes when it dies."""

    def sever(self) -> None:
        """Close it from outside."""


_LIFE: ContextVar[Life | None] = ContextVar("life", default=None)


class Life:
    """One run of one service, from its start to its kill or drain."""

    def __init__(
        self,
        name: str,
        number: int,
        loop: asyncio.AbstractEventLoop,
        chance: random.Random,
        note: Callable[[str, str], None],
    ) -> None:
        self.name = name
        self.number = number
        self.dead = False
        self.doom: Doom | None = None
        self.latency = 0.0
        """Chance that an operation takes a noticeable time: where others get in between."""
        self.gone = loop.create_future()
        self._loop = loop
        self._chance = chance
        self._note = note
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._held: dict[Severed, None] = {}
        self._burial: asyncio.Task[None] | None = None
        self._context: Context = copy_context()
        self._context.run(_LIFE.set, self)

    def __repr__(self) -> str:
        return f"{self.name}#{self.number}"

    @property
    def service(self) -> str:
        """Of which service it is a process."""
        return self.name.rstrip(TWIN)

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run something inside this process."""
        return self._loop.create_task(work, name=name, context=self._context)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Remember a task that was started inside this process."""
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def hold(self, thing: Severed) -> None:
        """Remember what has to be closed from outside when the process dies."""
        self._held[thing] = None

    def release(self, thing: Severed) -> None:
        """It was closed from inside."""
        self._held.pop(thing, None)

    def reached(self, place: str) -> None:
        """The process is at `place`: raises Killed where that is the end of it, or it is dead already."""
        if self.dead:
            raise Killed(f"{self!r} is dead")
        doom = self.doom
        if doom is not None and doom.place in ("", place):
            doom.left -= 1
            if doom.left <= 0:
                self.kill(place)
                raise Killed(f"{self!r} dies at {place}")

    async def pause(self) -> None:
        """Sometimes, take a while."""
        if self.latency and self._chance.random() < self.latency:
            await asyncio.sleep(self._chance.random() ** 3 * 0.2)
            self.reached("pause")

    def kill(self, why: str) -> None:
        """End it at once, without a word to anybody."""
        if self.dead:
            return
        self.dead = True
        self._note(repr(self), f"KILLED at {why}")
        for thing in list(self._held):
            thing.sever()
        self._held.clear()
        self._burial = self._loop.create_task(self._bury(), name=f"bury {self!r}", context=Context())

    async def _bury(self) -> None:
        for _ in range(5):
            tasks = list(self._tasks)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=60)
        self.gone.set_result([repr(task) for task in self._tasks])


def life_of_this_task() -> Life | None:
    """The process whose code is running."""
    return _LIFE.get()


def adopting(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], *, context: Context | None = None, **given: Any
) -> asyncio.Task[T]:
    """A task factory: a task belongs to the process that started it."""
    task = asyncio.Task(work, loop=loop, context=context, **given)
    life = context.get(_LIFE) if context is not None else _LIFE.get()
    if life is not None:
        life.adopt(task)
    return task
