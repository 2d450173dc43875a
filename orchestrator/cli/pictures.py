"""Sagas on a terminal: the listing, and how a status and a stranger's text are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.cli.json_values import plain_json
from orchestrator.queries import Listed
from orchestrator.times import clock, short
from orchestrator.words import last_line

_COLORS = {
    "running": "cyan",
    "compensating": "yellow",
    "completed": "green",
    "compensated": "magenta",
    "stuck": "bold red",
    "abandoned": "dim",
}


WHOLE = 10_000
"""Columns of what is no terminal: a program reads it, so that nothing there is cut or left out."""
_COLUMNS = ("id", "key", "status", "took", "moved", "saga")
_GAP = 2
_SHORTEST_STEP = 8


WIDEST = 160
"""Columns that two texts beside each other fill at most, however much room there is."""


def listing(found: Sequence[Listed], totals: Mapping[tuple[str, str], int], console: Console) -> None:
    """A line an instance, and the totals below."""
    left_out: list[str] = []
    if found:
        table = Table(box=None, pad_edge=False, header_style="bold")
        doing = [each.step or _short(each.reason, console.width) for each in found]
        columns, step_width = _fitting(found, doing, console.width)
        left_out = [each for each in _COLUMNS if each not in columns] + ([] if step_width else ["step"])
        for column, width in columns.items():
            table.add_column(column, no_wrap=True, min_width=width)
        if step_width:
            table.add_column("step", no_wrap=True, overflow="ellipsis", max_width=step_width)
        for each, words in zip(found, doing, strict=True):
            cells = (
                identity(each.id, console.width),
                safe(each.key),
                status(each.status),
                short(each.updated_at - each.started_at),
                clock(each.updated_at),
                f"{safe(each.name)} v{each.version}",
            )
            shown = dict(zip(_COLUMNS, cells, strict=True))
            table.add_row(*(shown[column] for column in columns), *([safe(words)] if step_width else []))
        # A key that is longer than the terminal is wide is whole all the same: the terminal breaks the line.
        whole = sum(columns.values()) + _GAP * len(columns) + step_width
        console.print(table, width=max(console.width, whole), crop=False)
    by_saga: dict[str, list[str]] = {}
    for (name, each_status), number in sorted(totals.items()):
        by_saga.setdefault(name, []).append(f"{number} {each_status}")
    words = "; ".join(f"{safe(name)} {', '.join(counted)}" for name, counted in by_saga.items())
    sentence(console, f"{len(found)} shown; in all: {words or 'no saga yet'}", style="dim")
    if left_out:
        sentence(console, f"no room for {', '.join(left_out)}: see a wider terminal, or --output json", style="dim")


def identity(id: UUID | str, room: int) -> str:
    """The beginning of an id, which every command takes for it; all of it where a program reads it."""
    return str(id) if room >= WHOLE else str(id)[:8]


def _fitting(found: Sequence[Listed], doing: Sequence[str], width: int) -> tuple[dict[str, int], int]:
    """Which columns a terminal of this width has room for, how wide each is, and how wide the step may be (0: none).

    Ids, keys and statuses are copied from here, so they are never cut; the others give way, the step last.
    """
    columns = {
        "id": len(identity(found[0].id, width)),
        "key": max(3, *(len(each.key) for each in found)),
        "status": max(6, *(len(each.status) for each in found)),
    }
    room = width - sum(columns.values()) - _GAP * (len(columns) - 1)
    step = max(4, *map(len, doing))
    for column, wide in (("took", 8), ("moved", 19), ("saga", max(len(each.name) for each in found) + 4)):
        if room < wide + step + 2 * _GAP:
            break
        columns[column] = wide
        room -= wide + _GAP
    step_width = min(step, room - _GAP)
    return columns, step_width if step_width >= _SHORTEST_STEP else 0


def sentence(console: Console, markup: str, *, style: str = "") -> None:
    """A line of words: on a terminal it breaks between two of them, elsewhere it is whole."""
    console.print(markup, style=style, highlight=False, soft_wrap=not console.is_terminal)


def listed_as_json(each: Listed) -> dict[str, Any]:
    """One instance for programs."""
    content: dict[str, Any] = plain_json(asdict(each))
    return content


def status(status: str) -> str:
    """A status in its color."""
    return f"[{_COLORS.get(status, 'default')}]{safe(status)}[/]"


def _short(text: str, room: int) -> str:
    line = last_line(text)
    return line if len(line) <= 40 or room >= WHOLE else f"{line[:39]}…"


def plain(text: str) -> str:
    """What a stranger wrote, in one line that moves no cursor and rings no bell; where nothing reads markup."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def plain_lines(text: str) -> str:
    """The same for a text of several lines, which it keeps."""
    return "\n".join(map(plain, text.split("\n")))


def safe(text: str) -> str:
    """For a terminal: what a stranger wrote moves no cursor and colors nothing."""
    return escape(plain(text))


def safe_lines(text: str) -> str:
    """The same for a text of several lines, which it keeps."""
    return escape(plain_lines(text))
