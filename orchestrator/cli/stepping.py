"""Going through a recorded saga by hand: forward and back in time, one transition after the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.rule import Rule

from contracts.withheld import for_people
from orchestrator.catalog import Catalog
from orchestrator.cli.pictures import WIDEST, safe, status
from orchestrator.cli.timeline import Entry, story
from orchestrator.replay.past import CannotRead, past
from orchestrator.replay.recorded import Recorded
from orchestrator.replay.waiting import waits_for
from orchestrator.saga.state import SagaState
from orchestrator.times import short

KEYS = "n next, b back, a number jumps, d data, h head, e end, q quit"
_ARROWS = {"\x1b[C": "n", "\x1b[B": "n", "\x1b[D": "b", "\x1b[A": "b", " ": "n", "\r": "n", "\n": "n", "\x04": "q"}


def step_through(recorded: Recorded, catalog: Catalog, console: Console) -> None:
    """Show a point in time, take a key (a line, where there is no terminal), show the next; until `q`."""
    told = story(recorded)
    place, with_data = 1, True
    moments = _moments(recorded, catalog)
    console.print(f"[bold]{safe(told.name)}[/] v{told.version}  {told.id}  key {safe(told.key)}", highlight=False)
    for word in _words(console):
        match word:
            case "":
                pass
            case "n":
                place = min(place + 1, len(told.entries))
            case "b":
                place = max(place - 1, 1)
            case "h":
                place = 1
            case "e":
                place = len(told.entries)
            case "d":
                with_data = not with_data
            case "q":
                return
            case number if number.isdigit() and 1 <= int(number) <= len(told.entries):
                place = int(number)
            case other:
                console.print(
                    f"{safe(repr(other))}? {KEYS}; there are transitions 1 to {len(told.entries)}", style="dim"
                )
                continue
        _show(told.entries[place - 1], len(told.entries), told.started_at, moments[place - 1], console, with_data)


def _moments(recorded: Recorded, catalog: Catalog) -> list[tuple[str, tuple[str, ...]]]:
    """For each transition the status after it, and what is waited for there."""
    try:
        been = past(recorded, catalog)
    except CannotRead as error:
        return [("unknown", (str(error),))] * len(recorded.transitions)
    states = [state or SagaState() for state in been.states[1:]]
    return [(state.status.value, waits_for(saga, state)) for saga, state in zip(been.sagas, states, strict=True)]


def _show(
    entry: Entry, last: int, began: datetime, moment: tuple[str, tuple[str, ...]], console: Console, with_data: bool
) -> None:
    rule = Rule(f"{entry.seq} of {last}, +{short(entry.at - began)}", align="left", style="dim")
    console.print(rule, width=min(console.width, WIDEST))
    took = f"  ({entry.took:.3f}s after its command)" if entry.took is not None else ""
    console.print(f"[bold]{safe(entry.source)}[/]: {safe(entry.input)}{took}", highlight=False)
    if entry.carried is not None:
        console.print(f"  carried {safe(_json(entry.carried))}", style="dim", highlight=False)
    for words in entry.moved:
        console.print(f"  {safe(words)}", style="yellow" if words in entry.notes else "", highlight=False)
    for message in entry.sent:
        carried = safe(_json(message.data))
        console.print(f"  sends [bold]{safe(message.type)}[/] [dim]{carried}[/]", highlight=False)
    if with_data and entry.data is not None:
        changed = {each.path.partition(".")[0].partition("[")[0] for each in entry.changes}
        for name, value in entry.data.items():
            line = f"{name}: {_json(value)}"
            console.print(f"  {'*' if name in changed else ' '} {safe(line)}", highlight=False)
    kind, waits_for = moment
    console.print(f"  now {status(kind)}", highlight=False)
    for each in waits_for:
        console.print(f"  waits for {safe(each)}", highlight=False)


def _json(value: Any) -> str:
    return json.dumps(for_people(value), ensure_ascii=False)


def _words(console: Console) -> Iterator[str]:
    """What the person wants: the first point is shown unasked; then keys of a terminal, or lines of a pipe."""
    yield "h"
    if not (sys.stdin.isatty() and console.is_terminal):
        for line in sys.stdin:
            yield line.strip() or "n"
        return
    console.print(KEYS, style="dim")
    while True:
        key = typer.getchar()
        if key.isdigit():
            # More digits may follow: a number ends with Enter.
            console.print(f"to {key}", end="", highlight=False)
            digits = key
            while (more := typer.getchar()).isdigit():
                digits += more
                console.print(more, end="", highlight=False)
            console.print()
            yield digits
        else:
            yield _ARROWS.get(key, key)
