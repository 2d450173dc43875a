"""What a person sees while orders are placed: a moving bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

PLAIN_EVERY_SECONDS = 5.0
SILENCE_SECONDS = 1.0
"""How long the service is away before it is told: one request that failed is not worth a line."""


class Display(Protocol):
    """How far the work is, and what it waits for."""

    def progress(self, doing: str, done: int, total: int) -> None:
        """So much of it is done; whatever did not answer does so again."""

    def unanswered(self, words: str) -> None:
        """The service did not answer, as `words` say; called at every attempt."""


@contextmanager
def display_on(screen: Console) -> Iterator[Display]:
    """A moving bar on a terminal; lines elsewhere."""
    if not screen.is_terminal:
        yield Lines(screen)
        return
    # What is waited for is a long line: beside the bar it takes several short ones rather than push the bar away.
    words = Column(no_wrap=False, max_width=max(screen.width - 40, 20))
    layout = (
        TextColumn("{task.description}", table_column=words, markup=False),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*layout, console=screen) as bar:
        yield Bars(bar)


class Bars:
    """A bar for each part of the work, and below them a line for as long as the service is away."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}
        self._waiting: TaskID | None = None

    def progress(self, doing: str, done: int, total: int) -> None:
        if self._waiting is not None:
            self._bar.remove_task(self._waiting)
            self._waiting = None
        if doing not in self._tasks:
            self._tasks[doing] = self._bar.add_task(doing, total=total)
        self._bar.update(self._tasks[doing], completed=done)

    def unanswered(self, words: str) -> None:
        if self._waiting is None:
            self._waiting = self._bar.add_task(words, total=None)
        self._bar.update(self._waiting, description=words)


class Lines:
    """Lines for a log: every few seconds, at the end of each part, and ever more seldom while the service is away."""

    def __init__(self, screen: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._clock = clock
        self._spoke = clock()
        self._silent_since: float | None = None
        self._next_word = SILENCE_SECONDS

    def progress(self, doing: str, done: int, total: int) -> None:
        if self._silent_since is not None:
            if self._next_word > SILENCE_SECONDS:
                self._say("it answers again")
            self._silent_since, self._next_word = None, SILENCE_SECONDS
        if done == total or self._clock() - self._spoke >= PLAIN_EVERY_SECONDS:
            self._say(f"{doing}: {done} of {total}")

    def unanswered(self, words: str) -> None:
        now = self._clock()
        if self._silent_since is None:
            self._silent_since = now
        if now - self._silent_since >= self._next_word:
            self._next_word *= 2
            self._say(words)

    def _say(self, words: str) -> None:
        self._spoke = self._clock()
        self._screen.print(words, highlight=False, markup=False, soft_wrap=True)
