"""What became of many instances, told while it happens: however many there are, a page of them is kept at once."""

from __future__ import annotations

from collections import Counter

import typer
from rich.console import Console

from orchestrator.cli import repair_pictures
from orchestrator.cli.json_array import JsonArray
from orchestrator.cli.opening import Output, screen
from orchestrator.cli.pictures import plain
from orchestrator.operations.action import Outcome, Result

PAGE = 500
"""Instances in one table; where there are more, another begins."""
MOST_REFUSALS = 10
"""Refusals told once more below, where they may lie pages above."""


class Telling:
    """Prints outcomes page by page, as tables or as one JSON array; `counted` are those of each result."""

    def __init__(self, output: Output, console: Console | None = None) -> None:
        self.counted: Counter[Result] = Counter()
        self._console = console or screen()
        self._array = JsonArray() if output is Output.JSON else None
        self._page: list[Outcome] = []
        self._refusals: list[Outcome] = []
        self._pages = 0

    def add(self, outcome: Outcome) -> None:
        """One more; printed with its page."""
        self.counted[outcome.result] += 1
        self._page.append(outcome)
        if outcome.result is Result.REFUSED and len(self._refusals) < MOST_REFUSALS:
            self._refusals.append(outcome)
        if len(self._page) >= PAGE:
            self._print()

    def close(self, *, totals: bool = True) -> None:
        """Print what is left and, where a person reads it, how many of each result; nothing where there was none."""
        self._print()
        if not self._pages:
            return
        if self._array is not None:
            self._array.close()
        elif totals:
            typer.echo(repair_pictures.totals(self.counted), err=True)
        if self._pages > 1 and totals:
            for each in self._refusals:
                typer.echo(plain(f"refused: {each.id} {each.key}: {repair_pictures.refusal(each)}"), err=True)

    def _print(self) -> None:
        page, self._page = self._page, []
        if not page:
            return
        self._pages += 1
        if self._array is None:
            repair_pictures.outcomes(page, self._console)
            return
        for each in page:
            self._array.add(repair_pictures.outcome_as_json(each))
