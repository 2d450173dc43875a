"""What a person's action has done, or would do, on a terminal and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from messaging.envelope import stamp
from orchestrator.cli import timeline
from orchestrator.cli.pictures import identity, safe
from orchestrator.operations.action import Outcome, Result
from orchestrator.words import last_line

_WHOLE = ("id", "key", "saga", "result")
ROOM = 44
"""What `so` and `sent` want beside them."""
_COLORS = {Result.DONE: "green", Result.POSSIBLE: "cyan", Result.REFUSED: "bold red"}


def outcomes(found: Sequence[Outcome], console: Console) -> None:
    """A line an instance: what moves and what is sent, or why not."""
    cells = {
        "id": [identity(each.id, console.width) for each in found],
        "key": [safe(each.key) for each in found],
        "saga": [f"{safe(each.name)} v{each.version}" if each.name else "" for each in found],
        "result": [f"[{_COLORS[each.result]}]{each.result}[/]" for each in found],
        "so": ["\n".join(map(safe, _so(each))) for each in found],
        "sent": ["\n".join(map(safe, _sent(each))) for each in found],
    }
    # A narrow terminal does without what the id says as well.
    for column in ("saga", "key"):
        wide = sum(max(map(_width, cells[name]), default=0) + 2 for name in _WHOLE if name in cells)
        if wide + ROOM > console.width:
            del cells[column]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in cells:
        table.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
    for row in zip(*cells.values(), strict=True):
        table.add_row(*row)
    console.print(table)


def totals(counted: Mapping[Result, int]) -> str:
    """How many of each result."""
    return ", ".join(f"{counted[result]} {result}" for result in Result if counted.get(result))


def outcome_as_json(each: Outcome) -> dict[str, Any]:
    """One instance for programs: facts and messages whole."""
    return {
        "id": str(each.id),
        "saga": each.name,
        "version": each.version,
        "key": each.key,
        "result": each.result,
        "why": each.why,
        "was": each.was,
        "status": each.status,
        "step": each.step,
        "transitions": [
            {
                "seq": row.seq,
                "at": stamp(row.at),
                "input": json.loads(row.input),
                "facts": json.loads(row.facts),
                "sent": json.loads(row.commands),
            }
            for row in each.transitions
        ],
    }


def refusal(each: Outcome) -> str:
    """Why it was refused; of a traceback, the last line."""
    return last_line(each.why)


def _width(cell: str) -> int:
    return Text.from_markup(cell).cell_len


def _so(each: Outcome) -> list[str]:
    if each.result is Result.REFUSED:
        return [refusal(each)]
    words = [words for row in each.transitions for words in timeline.moved(row.facts)]
    return [*words, f"still {each.status}" if each.was == each.status else f"from {each.was} to {each.status}"]


def _sent(each: Outcome) -> list[str]:
    return [message["type"] for row in each.transitions for message in json.loads(row.commands)]
