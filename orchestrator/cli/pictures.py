"""Sagas on a terminal: the listing and one saga's story."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.cli.timeline import Entry, Story
from orchestrator.queries import Listed

_COLORS = {
    "running": "cyan",
    "compensating": "yellow",
    "completed": "green",
    "compensated": "magenta",
    "stuck": "bold red",
    "abandoned": "dim",
}


_COLUMNS = ("id", "key", "status", "took", "moved", "saga")
_GAP = 2
_SHORTEST_STEP = 8


def listing(found: Sequence[Listed], totals: Mapping[tuple[str, str], int], console: Console) -> None:
    """A line an instance, and the totals below."""
    if found:
        table = Table(box=None, pad_edge=False, header_style="bold")
        columns, step_width = _fitting(found, console.width)
        for column, width in columns.items():
            table.add_column(column, no_wrap=True, min_width=width)
        if step_width:
            table.add_column("step", no_wrap=True, overflow="ellipsis", max_width=step_width)
        for each in found:
            cells = (
                str(each.id)[:8],
                escape(each.key),
                _status(each.status),
                _length(each.updated_at - each.started_at),
                _clock(each.updated_at),
                f"{each.name} v{each.version}",
            )
            shown = dict(zip(_COLUMNS, cells, strict=True))
            doing = [escape(each.step or _short(each.reason))] if step_width else []
            table.add_row(*(shown[column] for column in columns), *doing)
        # A key that is longer than the terminal is wide is whole all the same: the terminal breaks the line.
        whole = sum(columns.values()) + _GAP * len(columns) + step_width
        console.print(table, width=max(console.width, whole), crop=False)
    by_saga: dict[str, list[str]] = {}
    for (name, status), number in sorted(totals.items()):
        by_saga.setdefault(name, []).append(f"{number} {status}")
    words = "; ".join(f"{name} {', '.join(counted)}" for name, counted in by_saga.items())
    console.print(f"{len(found)} shown; in all: {words or 'no saga yet'}", style="dim", highlight=False, soft_wrap=True)


def _fitting(found: Sequence[Listed], width: int) -> tuple[dict[str, int], int]:
    """Which columns a terminal of this width has room for, how wide each is, and how wide the step may be (0: none).

    Ids, keys and statuses are copied from here, so they are never cut; the others give way, the step last.
    """
    columns = {
        "id": 8,
        "key": max(3, *(len(each.key) for each in found)),
        "status": max(6, *(len(each.status) for each in found)),
    }
    room = width - sum(columns.values()) - _GAP * (len(columns) - 1)
    step = max(4, *(len(each.step or _short(each.reason)) for each in found))
    for column, wide in (("took", 8), ("moved", 19), ("saga", max(len(each.name) for each in found) + 4)):
        if room < wide + step + 2 * _GAP:
            break
        columns[column] = wide
        room -= wide + _GAP
    step_width = min(step, room - _GAP)
    return columns, step_width if step_width >= _SHORTEST_STEP else 0


def listed_as_json(each: Listed) -> dict[str, Any]:
    """One instance for programs."""
    content: dict[str, Any] = json.loads(json.dumps(asdict(each), default=str))
    return content


def story(told: Story, console: Console, *, with_data: bool) -> None:
    """Head, steps, timeline, and what is parked."""
    console.print(f"[bold]{told.name}[/] v{told.version}  {told.id}", highlight=False)
    console.print(f"key      {escape(told.key)}", highlight=False)
    waiting = f", waiting for {told.step}" if told.step else ""
    console.print(f"status   {_status(told.status)}{escape(waiting)}", highlight=False)
    if told.reason:
        console.print(f"reason   {escape(told.reason.strip())}", highlight=False)
    length = _length(told.updated_at - told.started_at)
    console.print(
        f"started  {_clock(told.started_at)}, last moved {_clock(told.updated_at)} ({length})", highlight=False
    )
    if told.deadline is not None:
        console.print(f"deadline {_clock(told.deadline)}", highlight=False)
    steps = ", ".join(f"{name} {status.replace('_', ' ')}" for name, status in told.steps.items())
    console.print(f"steps    {escape(steps) or 'none reached'}", highlight=False)
    console.print()
    console.print(_timeline(told.entries, told.started_at, with_data=with_data))
    for each in told.parked:
        console.print(f"parked   {each.type} since {_clock(each.at)}: {escape(each.reason)}", style="yellow")
    if with_data:
        console.print("data")
        console.print_json(json.dumps(told.data))


def _timeline(entries: Sequence[Entry], began: datetime, *, with_data: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("#", "after", "from", "came", "so", "sent", "took"):
        table.add_column(column, overflow="fold", no_wrap=column in ("#", "after", "took"))
    for each in entries:
        table.add_row(
            str(each.seq),
            f"+{_length(each.at - began)}",
            escape(each.source),
            escape(each.input),
            "\n".join(escape(words) for words in each.moved),
            "\n".join(each.sent),
            f"{each.took:.3f}s" if each.took is not None else "",
        )
        if with_data:
            table.add_row(
                "", "", "", escape(json.dumps(each.carried["input"])), "", escape(json.dumps(each.carried["sent"]))
            )
    return table


def _status(status: str) -> str:
    return f"[{_COLORS.get(status, 'default')}]{status}[/]"


def _clock(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _length(length: timedelta) -> str:
    seconds = length.total_seconds()
    if seconds < 60:
        return f"{seconds:.2f}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m{int(seconds % 60):02d}s"
    return f"{int(seconds // 3600)}h{int(seconds % 3600 // 60):02d}m"


def _short(text: str) -> str:
    line = text.strip().rpartition("\n")[2]
    return line if len(line) <= 40 else f"{line[:39]}…"
