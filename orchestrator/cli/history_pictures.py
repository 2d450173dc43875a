"""One saga's story on a terminal: head, steps, timeline, what is parked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from contracts.withheld import for_people
from orchestrator.cli.changes import Change
from orchestrator.cli.pictures import safe, safe_lines, status
from orchestrator.cli.timeline import Entry, Story
from orchestrator.times import clock, short
from orchestrator.words import last_line

TABLE_WIDTH = 100
"""Columns below which a table of transitions would break every word."""


def story(told: Story, console: Console, *, with_data: bool, with_messages: bool) -> None:
    """The whole story; `with_data` tells how the data changed, `with_messages` what inputs and commands carried."""
    console.print(f"[bold]{safe(told.name)}[/] v{told.version}  {told.id}", highlight=False)
    console.print(f"key      {safe(told.key)}", highlight=False)
    waiting = f", waiting for {told.step}" if told.step else ""
    console.print(f"status   {status(told.status)}{safe(waiting)}", highlight=False)
    reason = told.reason.strip()
    if reason:
        console.print(f"reason   {safe(last_line(reason))}", highlight=False)
    took = short(told.updated_at - told.started_at)
    console.print(f"started  {clock(told.started_at)}, last moved {clock(told.updated_at)} ({took})", highlight=False)
    if told.deadline is not None:
        console.print(f"deadline {clock(told.deadline)}", highlight=False)
    steps = ", ".join(f"{name} {each.replace('_', ' ')}" for name, each in told.steps.items())
    console.print(f"steps    {safe(steps) or 'none reached'}", highlight=False)
    console.print()
    if with_data or with_messages or console.width < TABLE_WIDTH:
        for each in told.entries:
            for indent, line in _lines(each, told.started_at, with_data=with_data, with_messages=with_messages):
                _print(console, indent, line)
    else:
        console.print(_table(told.entries, told.started_at))
    for event in told.parked:
        words = f"parked   {event.type} since {clock(event.at)}: {event.reason}"
        console.print(safe(words), style="yellow", highlight=False)
    if "\n" in reason:
        console.print(f"\n{safe_lines(reason)}", style="dim", highlight=False, soft_wrap=True)


def _table(entries: Sequence[Entry], began: datetime) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("#", "after", "from", "came", "so", "sent", "took"):
        table.add_column(column, overflow="fold", no_wrap=column in ("#", "after", "took"))
    for each in entries:
        table.add_row(
            str(each.seq),
            f"+{short(each.at - began)}",
            safe(each.source),
            safe(each.input),
            "\n".join(_moved(each)),
            "\n".join(safe(message.type) for message in each.sent),
            _took(each),
        )
    return table


def _lines(entry: Entry, began: datetime, *, with_data: bool, with_messages: bool) -> Iterator[tuple[int, str]]:
    """One transition below the other, where there is no room beside it; each line with its indent."""
    took = f", {_took(entry)} after its command" if entry.took is not None else ""
    yield 0, f"[bold]{entry.seq}[/]  +{short(entry.at - began)}  {safe(f'{entry.source}: {entry.input}')}{took}"
    if with_messages and entry.carried is not None:
        yield 5, f"[dim]{safe(_json(entry.carried))}[/]"
    for words in _moved(entry):
        yield 3, words
    for message in entry.sent:
        yield 3, f"sends {safe(message.type)}"
        if with_messages:
            yield 5, f"[dim]{safe(_json(message.data))}[/]"
    if with_data:
        for words in _difference(entry.changes):
            yield 3, words


def _print(console: Console, indent: int, line: str) -> None:
    if console.is_terminal:
        console.print(Padding(Text.from_markup(line), (0, 0, 0, indent)))
    else:
        # A file is read by programs too: one line there is one line.
        console.print(" " * indent + line, highlight=False, soft_wrap=True)


def _took(entry: Entry) -> str:
    return f"{entry.took:.3f}s" if entry.took is not None else ""


def _moved(entry: Entry) -> Iterator[str]:
    for words in entry.moved:
        yield f"[yellow]{safe(words)}[/]" if words in entry.notes else safe(words)


def _difference(changed: Sequence[Change]) -> Iterator[str]:
    for each in changed:
        if each.kind != "added":
            yield f"[red]- {safe(f'{each.path}: {_json(each.before)}')}[/]"
        if each.kind != "removed":
            yield f"[green]+ {safe(f'{each.path}: {_json(each.after)}')}[/]"


def _json(value: Any) -> str:
    return json.dumps(for_people(value), ensure_ascii=False)
