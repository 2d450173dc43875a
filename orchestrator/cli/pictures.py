"""Sagas on a terminal: the listing, and how a status, a moment and a length of time are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.queries import Listed

_COLORS = {
    "running": "cyan",
    "compensating": "yellow",
    "completed": "green",
    "compensated": "magenta",
    "stuck": "bold red",
    "abandoned": "dim",
}


def listing(found: Sequence[Listed], totals: Mapping[tuple[str, str], int], console: Console) -> None:
    """A line an instance, and the totals below."""
    if found:
        table = Table(box=None, pad_edge=False, header_style="bold")
        # Ids and keys are copied from here: never cut. A narrow terminal does without the less needed columns.
        columns = ["id", "key", "status", "took", "moved", "saga"]
        widths = [8, max(len(each.key) for each in found), 12, 8, 19, max(len(each.name) for each in found) + 4]
        while len(columns) > 3 and sum(widths) + 2 * len(widths) + 20 > console.width:
            columns.pop()
            widths.pop()
        for column, width in zip(columns, widths, strict=True):
            table.add_column(column, no_wrap=True, min_width=width)
        table.add_column("step", no_wrap=True, overflow="ellipsis", max_width=max(console.width - sum(widths) - 14, 8))
        for each in found:
            cells = (
                str(each.id)[:8],
                escape(each.key),
                status(each.status),
                length(each.updated_at - each.started_at),
                clock(each.updated_at),
                f"{each.name} v{each.version}",
            )
            table.add_row(*cells[: len(columns)], escape(each.step or _short(each.reason)))
        console.print(table)
    by_saga: dict[str, list[str]] = {}
    for (name, each_status), number in sorted(totals.items()):
        by_saga.setdefault(name, []).append(f"{number} {each_status}")
    words = "; ".join(f"{name} {', '.join(counted)}" for name, counted in by_saga.items())
    console.print(f"{len(found)} shown; in all: {words or 'no saga yet'}", style="dim", highlight=False, soft_wrap=True)


def listed_as_json(each: Listed) -> dict[str, Any]:
    """One instance for programs."""
    content: dict[str, Any] = json.loads(json.dumps(asdict(each), default=str))
    return content


def status(status: str) -> str:
    """A status in its color."""
    return f"[{_COLORS.get(status, 'default')}]{status}[/]"


def clock(moment: datetime) -> str:
    """A moment in the reader's own time zone, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def length(length: timedelta) -> str:
    """A length of time, as exactly as it matters."""
    seconds = length.total_seconds()
    if seconds < 60:
        return f"{seconds:.2f}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m{int(seconds % 60):02d}s"
    return f"{int(seconds // 3600)}h{int(seconds % 3600 // 60):02d}m"


def _short(text: str) -> str:
    line = text.strip().rpartition("\n")[2]
    return line if len(line) <= 40 else f"{line[:39]}…"
