"""What became of many instances, told while it happens: however many there are, a page of them is kept at once."""

from __future__ import annotations

import sys
from collections import Counter

import typer
from rich.console import Console

from orchestrator.cli import repair_pictures
from orchestrator.cli.json_array import JsonArray
from orchestrator.cli.opening import Output, screen
from orchestrator.cli.pictures import plain
from orchestrator.operations.action import Outcome, Result

PAGE = 500
"""Instances in one table of what would happen; where there are more, another begins."""
SCREENFUL = 10
"""Instances, some two lines each, in one table of what has happened: more are never done and not yet told."""
MOST_REFUSALS = 10
"""Refusals told once more below, where they may lie pages above."""


class Telling:
    """Prints outcomes, a table a page or one JSON array, item by item; `counted` are those of each result.

    For what is performed `page` is SCREENFUL: a process may be killed, and what it has done must be known.
    """

    def __init__(self, output: Output, console: Console | None = None, *, page: int = PAGE) -> None:
        self.counted: Counter[Result] = Counter()
        self._console = console or screen()
        self._array = JsonArray() if output is Output.JSON else None
        self._page: list[Outcome] = []
        self._most = page
        self._refusals: list[Outcome] = []
        self._told = 0

    def interleaved(self, number: int) -> bool:
        """Whether a terminal sees some of so many outcomes before the last: where a bar would stand in their way."""
        if self._array is not None:
            return sys.stdout.isatty()
        return self._console.is_terminal and number >= self._most

    def add(self, outcome: Outcome) -> None:
        """One more; of a table, printed with its page."""
        self.counted[outcome.result] += 1
        self._told += 1
        if outcome.result is Result.REFUSED and len(self._refusals) < MOST_REFUSALS:
            self._refusals.append(outcome)
        if self._array is not None:
            self._array.add(repair_pictures.outcome_as_json(outcome))
            return
        self._page.append(outcome)
        if len(self._page) >= self._most:
            self._print()

    def close(self, *, totals: bool = True) -> None:
        """Print what is left and, where a person reads it, how many of each result; of none, an empty array."""
        self._print()
        if self._array is not None:
            self._array.close()
        elif self._told and totals:
            typer.echo(repair_pictures.totals(self.counted), err=True)
        if self._told > self._most and totals:
            for each in self._refusals:
                typer.echo(plain(f"refused: {each.id} {each.key}: {repair_pictures.refusal(each)}"), err=True)

    def _print(self) -> None:
        page, self._page = self._page, []
        if page:
            repair_pictures.outcomes(page, self._console)
