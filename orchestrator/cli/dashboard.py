"""What is watched, on a terminal and as plain lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from messaging.commandline import counted
from orchestrator.cli.pictures import safe, status
from orchestrator.queries import Listed
from orchestrator.saga.state import Status
from orchestrator.times import short, time_of_day
from orchestrator.watching import Pile, Rates, Snapshot
from orchestrator.words import last_line

_STATUSES = [each.value for each in Status]
_ROOMY = 76
"""Columns from which on there is room for a column a status."""
_NARROW = 60
"""Columns below which an instance is told without its saga and key: its id finds them."""


def line(seen: Snapshot, rates: Rates | None) -> str:
    """One look as one line, for a log or a pipe."""
    counted = " ".join(f"{name}={seen.number(name)}" for name in _STATUSES)
    speed = f"started={rates.started:.1f}/s ended={rates.ended:.1f}/s " if rates is not None else ""
    piles = (("outbox", seen.outbox), ("deferred", seen.deferred), ("parked", seen.parked))
    waiting = f" oldest={_ago(seen.at, seen.waiting[0].updated_at)}" if seen.waiting else ""
    return (
        f"{time_of_day(seen.at)} {counted} {speed}overdue={seen.overdue}{waiting} "
        + " ".join(f"{name}={pile.rows}{_aged(pile)}" for name, pile in piles)
        + f" dead_letters={seen.dead_letters.rows}"
    )


def screenful(seen: Snapshot, rates: Rates | None, trouble: str, width: int) -> RenderableType:
    """One look as a screen; `trouble` says why it is not a fresh one."""
    parts: list[RenderableType] = [_head(seen, rates)]
    if trouble:
        parts.append(Text(trouble, style="bold red"))
    parts += [Text(), _counts(seen, width), Text(), _piles(seen)]
    if seen.waiting:
        parts += [Text(), Text("waiting longest", style="bold"), _instances(seen.waiting, seen.at, width)]
    if seen.stuck:
        parts += [Text(), Text("stuck: a person must decide", style="bold red"), _instances(seen.stuck, seen.at, width)]
    return Group(*parts)


def _head(seen: Snapshot, rates: Rates | None) -> Text:
    words = "measuring" if rates is None else f"{rates.started:.1f}/s started, {rates.ended:.1f}/s ended"
    return Text.assemble(
        (time_of_day(seen.at), "bold"), f"  {counted(seen.number(), 'saga')}, {seen.under_way} under way; {words}"
    )


def _counts(seen: Snapshot, width: int) -> RenderableType:
    if width < _ROOMY:
        return Group(*(_counted(saga, statuses) for saga, statuses in seen.sagas.items()))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("saga", overflow="fold")
    for name in _STATUSES:
        table.add_column(status(name), justify="right", no_wrap=True)
    for saga, statuses in seen.sagas.items():
        table.add_row(safe(saga), *(str(statuses.get(name, 0) or "·") for name in _STATUSES))
    return table


def _counted(saga: str, statuses: Mapping[str, int]) -> Text:
    numbers = ", ".join(f"{statuses[name]} {status(name)}" for name in _STATUSES if statuses.get(name))
    return Text.from_markup(f"[bold]{safe(saga)}[/]  {numbers or 'none'}")


def _piles(seen: Snapshot) -> Text:
    text = Text()
    for name, pile in (
        ("outbox", seen.outbox),
        ("deferred", seen.deferred),
        ("parked", seen.parked),
        ("dead letters", seen.dead_letters),
    ):
        text.append(f"{name} ", style="dim")
        text.append(str(pile.rows), style="yellow" if pile.rows else "")
        text.append(f"{_since(pile)}   ", style="dim")
    text.append("overdue ", style="dim")
    text.append(str(seen.overdue), style="yellow" if seen.overdue else "")
    return text


def _instances(found: Sequence[Listed], now: datetime, width: int) -> Table:
    # The id is copied from here and the age is compared: what is cut is the rest.
    key = max((width - 30) // 2, 12)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True, min_width=8)
    table.add_column(no_wrap=True, min_width=6, justify="right")
    if width >= _NARROW:
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=key)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(width - 22 - key, 12))
    else:
        table.add_column(overflow="fold")
    for each in found:
        words = last_line(each.reason) if each.status == Status.STUCK.value else f"at {each.step}"
        named = [f"{safe(each.name)} {safe(each.key)}"] if width >= _NARROW else []
        table.add_row(str(each.id)[:8], _ago(now, each.updated_at), *named, safe(words))
    return table


def _aged(pile: Pile) -> str:
    return "" if pile.oldest is None else f"({short(pile.oldest)})"


def _since(pile: Pile) -> str:
    return "" if pile.oldest is None else f", oldest {short(pile.oldest)}"


def _ago(now: datetime, moment: datetime) -> str:
    return short(now - moment)
