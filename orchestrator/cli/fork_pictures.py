"""Two timelines of one saga beside each other: what was, and what would have been."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from contracts.withheld import for_people
from orchestrator.cli.changes import changes
from orchestrator.cli.pictures import WIDEST, safe, sentence, status
from orchestrator.cli.timeline import Entry, Sent, Story, story
from orchestrator.replay.forking import Fork
from orchestrator.times import short
from orchestrator.words import last_line

NARROW = 70
"""Columns below which two timelines have no room beside each other."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: a recorded transition, a forked one, or both that came of the same input."""

    recorded: Entry | None
    forked: Entry | None
    how: str = ""
    missing: str = ""
    """Why the recorded one has nothing beside it."""

    @property
    def same(self) -> bool:
        return (
            self.recorded is not None
            and self.forked is not None
            and self.recorded.moved == self.forked.moved
            and [(each.type, each.data) for each in self.recorded.sent]
            == [(each.type, each.data) for each in self.forked.sent]
            and self.recorded.data == self.forked.data
            and not self.how
        )


def side_by_side(found: Fork, console: Console) -> None:
    """Head, both timelines from the point of the fork, what was not heard, and how the ends differ."""
    was, is_ = story(found.recorded), story(found.forked)
    sentence(console, f"[bold]{safe(was.name)}[/] v{was.version}  {was.id}  key {safe(was.key)}")
    sentence(
        console,
        f"forked after transition {found.at} of {len(was.entries)}; nothing is sent, the history stays as it is",
    )
    console.print()
    if found.forked == found.recorded:
        sentence(console, "nothing differs: it goes as it was recorded")
        return
    draw = _beside if console.width >= NARROW else _below
    console.print(draw(list(rows(found, was, is_)), was.started_at), width=min(console.width, WIDEST))
    for each in found.unheard:
        if each.origin is None:
            sentence(console, f"[yellow]not heard[/] {safe(each.input)}: {safe(each.why)}")
    console.print()
    _ends(found, was, is_, console)


def _beside(lines: Sequence[Row], began: datetime) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("as recorded", overflow="fold", ratio=1)
    table.add_column("in the fork", overflow="fold", ratio=1)
    for row in lines:
        table.add_row(_cell(row.recorded, began, row), _other_cell(row, began))
    return table


def _below(lines: Sequence[Row], began: datetime) -> Table:
    """What would stand beside each other, below each other."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in lines:
        if row.recorded is not None:
            table.add_row("was", _cell(row.recorded, began, row))
        table.add_row("fork", _other_cell(row, began))
    return table


def rows(found: Fork, was: Story, is_: Story) -> Iterator[Row]:
    """The transitions after the point of the fork, paired by the input they came of, in the fork's order."""
    left = {entry.seq: entry for entry in was.entries if entry.seq > found.at}
    unheard = {each.origin: each.why for each in found.unheard if each.origin is not None}
    paired = {origin for origin in found.origins if origin is not None}
    forked = is_.entries[found.at :]
    for entry, origin, how in zip(forked, found.origins, found.hows, strict=True):
        # What was recorded before it and has nothing beside it comes first, so that both columns run in time.
        for seq in [seq for seq in left if origin is not None and seq < origin and seq not in paired]:
            yield Row(left.pop(seq), None, missing=unheard.get(seq, "does not come"))
        yield Row(left.pop(origin, None) if origin is not None else None, entry, how)
    for seq, entry in left.items():
        yield Row(entry, None, missing=unheard.get(seq, "does not come"))


def _other_cell(row: Row, began: datetime) -> str:
    if row.forked is None:
        return f"[dim]{safe(row.missing)}[/]"
    if row.same:
        moment = row.forked.at if row.recorded is None or row.forked.at != row.recorded.at else None
        return f"[dim]the same{f', at +{short(moment - began)}' if moment is not None else ''}[/]"
    return _cell(row.forked, began, row, how=row.how)


def _cell(entry: Entry | None, began: datetime, row: Row, *, how: str = "") -> str:
    if entry is None:
        return ""
    done = f" [bold cyan]({safe(how)})[/]" if how and how != "clock" else ""
    lines = [f"[bold]{entry.seq}[/] +{short(entry.at - began)} {safe(f'{entry.source}: {entry.input}')}{done}"]
    lines += [f"  [yellow]{safe(each)}[/]" if each in entry.notes else f"  {safe(each)}" for each in entry.moved]
    for message in entry.sent:
        lines.append(f"  sends {safe(message.type)}")
        if entry is row.forked:
            lines += [f"    {safe(words)}" for words in _otherwise(message, row.recorded)]
    text = "\n".join(lines)
    return f"[dim]{text}[/]" if row.same else text


def _otherwise(message: Sent, recorded: Entry | None) -> Iterator[str]:
    """What a message of the fork says that the one recorded beside it did not."""
    before = next((each for each in recorded.sent if each.id == message.id), None) if recorded is not None else None
    for change in changes(before.data, message.data) if before is not None else ():
        yield f"{change.path}: {json.dumps(for_people(change.before))}, here {json.dumps(for_people(change.after))}"


def _ends(found: Fork, was: Story, is_: Story, console: Console) -> None:
    sentence(console, f"as recorded  {_end(was, ())}")
    sentence(console, f"in the fork  {_end(is_, found.waits_for)}")
    for each in changes(was.data, is_.data):
        if each.kind != "added":
            sentence(console, f"  [red]- {safe(f'{each.path}: {_json(each.before)}')}[/]")
        if each.kind != "removed":
            sentence(console, f"  [green]+ {safe(f'{each.path}: {_json(each.after)}')}[/]")


def _json(value: Any) -> str:
    return json.dumps(for_people(value), ensure_ascii=False)


def _end(told: Story, waits_for: Sequence[str]) -> str:
    reason = last_line(told.reason)
    waiting = f", waits for {safe('; '.join(waits_for))}" if waits_for else ""
    return f"{status(told.status)}{f': {safe(reason)}' if reason else ''}{waiting}"
