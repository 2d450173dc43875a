"""Dead letters on a terminal and as JSON: the listing, one letter whole, what became of many."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from contracts.withheld import for_people
from orchestrator.catalog import Target
from orchestrator.cli.editing import difference
from orchestrator.cli.json_array import JsonArray
from orchestrator.cli.json_values import plain_json
from orchestrator.cli.opening import Output
from orchestrator.cli.pictures import WHOLE, identity, plain, plain_lines, safe, sentence
from orchestrator.letter_decisions import Outcome
from orchestrator.letters import Counted, Letter, State, Waiting
from orchestrator.saga.story import times
from orchestrator.times import clock, coarse
from orchestrator.words import last_line

_COLORS = {State.OPEN: "bold red", State.REDRIVEN: "yellow", State.HANDLED: "green", State.DISCARDED: "dim"}
_MOST_SHOWN = 20
_LEAST_ERROR = 16
_QUOTED = 2_000
_EXAMPLES = 5


def listing(found: Sequence[Letter], totals: Sequence[Counted], now: datetime, which: str, console: Console) -> None:
    """A line a letter, and the totals below."""
    if found:
        console.print(_table(found, now, console.width, several_states=which == "all"))
    states: Counter[str] = Counter()
    for kind in totals:
        states[kind.state.value] += kind.letters
    words = ", ".join(f"{number} {state}" for state, number in sorted(states.items())) or f"none {which}"
    sentence(console, f"{len(found)} shown; in all: {words}", style="dim")


def _table(found: Sequence[Letter], now: datetime, room: int, *, several_states: bool) -> Table:
    id_width = len(identity(found[0].id, room))
    reason, longest_type, longest_service = (
        (max(len(each.reason) for each in found), room, room) if room >= WHOLE else (17, 40, 20)
    )
    widths = {"id": id_width, "age": 4} | ({"state": 9} if several_states else {})
    widths |= {"reason": reason, "type": min(max(len(each.type or "?") for each in found), longest_type)}
    widths |= {"service": min(max(len(each.service) for each in found), longest_service), "saga": id_width, "times": 5}
    # A narrow terminal does without the less needed columns: how the error ends says more.
    while len(widths) > 4 and sum(widths.values()) + 2 * len(widths) + _LEAST_ERROR > room:
        widths.popitem()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, width in widths.items():
        least = width if name in ("id", "age", "saga", "state") else None
        table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=least, max_width=width)
    left = max(room - sum(widths.values()) - 2 * len(widths), 12)
    table.add_column("error", no_wrap=True, overflow="ellipsis", max_width=left)
    for each in found:
        cells = {
            "id": identity(each.id, room),
            "age": coarse(now - each.at),
            "reason": safe(each.reason),
            "type": safe(each.type or "?"),
            "state": f"[{_COLORS[each.state]}]{each.state.value}[/]",
            "service": safe(each.service),
            "saga": safe(identity(each.correlation_id or "", room)),
            "times": str(each.failures),
        }
        table.add_row(*(cells[name] for name in widths), safe(last_line(each.error)))
    return table


def letter(told: Letter, saga: Waiting | None, console: Console) -> None:
    """The whole story of one letter."""

    def line(name: str, words: str) -> None:
        console.print(f"{name:<9}{words}", highlight=False, soft_wrap=True)

    console.print(f"[bold]{safe(told.type or 'a message of no type')}[/] in {safe(told.service)}", highlight=False)
    line("id", str(told.id))
    line("state", f"[{_COLORS[told.state]}]{told.state.value}[/]{_decision(told)}")
    again = "" if told.failures == 1 else f"; {times(told.failures)} since {clock(told.first_at)}"
    line("failed", f"{clock(told.at)}{again}" + (f"; put off {times(told.attempts)} before" if told.attempts else ""))
    line("reason", safe(told.reason))
    line("queue", f"{safe(told.queue)}, routing key {safe(told.routing_key)}")
    line("message", safe(told.message_id or "without an id"))
    if saga is not None:
        waiting = f", waiting for {saga.step}" if saga.step else ""
        line("saga", f"{safe(saga.name)} {safe(saga.key)} is {safe(saga.status)}{safe(waiting)}  {saga.id}")
    elif told.correlation_id:
        corrected = "; the new message may be for another" if _sent_anew(told) else ""
        line("saga", f"{safe(told.correlation_id)}, of which this database knows nothing{corrected}")
    outside = {name: value for name, value in told.properties.items() if value}
    if outside:
        line("outside", safe(json.dumps(outside, ensure_ascii=False)))
    console.print("error", highlight=False)
    for words in told.error.strip().splitlines():
        console.print(f"  {safe(words)}", highlight=False, soft_wrap=True)
    _body(told, console)


def _decision(told: Letter) -> str:
    said = ""
    if told.handled_at is not None:
        said += f" by {told.service} at {clock(told.handled_at)}" if told.state is State.HANDLED else ""
    if told.decided_at is not None:
        done = "sent again" if told.redriven_as else "discarded"
        as_new = f" as a new message, {told.redriven_as}," if _sent_anew(told) else ""
        said += f"; {done}{as_new} by {told.decided_by} at {clock(told.decided_at)}: {told.decided_why}"
    return safe(said)


def _sent_anew(told: Letter) -> bool:
    return told.redriven_as is not None and str(told.redriven_as) != told.message_id


def _body(told: Letter, console: Console) -> None:
    if told.body is None:
        console.print(
            f"body     {told.size} bytes, whole only in {safe(told.service)}'s own database: set DATABASE_URL to that",
            highlight=False,
            soft_wrap=True,
        )
        return
    console.print(f"body     {told.size} bytes", highlight=False)
    try:
        readable = json.dumps(for_people(json.loads(told.body.decode())), indent=2, ensure_ascii=False)
        console.print_json(plain_lines(readable), ensure_ascii=False)
    except ValueError:
        shown = told.body[:_QUOTED]
        console.print(safe(repr(shown)) + (" …" if len(told.body) > _QUOTED else ""), highlight=False, soft_wrap=True)


class Telling:
    """What became of many letters, or would, told as they come: of however many, counts and a few examples are kept."""

    def __init__(self, output: Output, done: str, *, dry_run: bool) -> None:
        self._array = JsonArray() if output is Output.JSON else None
        self._done, self._dry_run = done, dry_run
        self._good = 0
        self._problems: dict[str, list[str]] = {}
        self._counted: Counter[str] = Counter()
        self._unlisted = 0

    @property
    def failed(self) -> bool:
        """Whether any could not be sent."""
        return bool(self._counted or self._unlisted)

    @property
    def told(self) -> int:
        """How many letters anything has become of."""
        return self._good + self._counted.total() + self._unlisted

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """A page more, which is committed."""
        named = self._named(outcomes)
        for each in outcomes:
            self._count(each)
        self._say_how_far()
        for each in outcomes if self._array is not None else named:
            self._print(each)

    def _named(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Those that were done and that a screen still has room for."""
        done = [each for each in outcomes if each.problem is None]
        return done[: max(0, _MOST_SHOWN - self._good)]

    def _count(self, each: Outcome) -> None:
        if each.problem is None:
            self._good += 1
        elif each.problem in self._counted or len(self._counted) < _MOST_SHOWN:
            self._counted[each.problem] += 1
            self._problems.setdefault(each.problem, []).append(str(each.letter)[:8])
            del self._problems[each.problem][_EXAMPLES:]
        else:
            self._unlisted += 1

    def _say_how_far(self) -> None:
        """Figures, first of all and where nobody pipes them away: the process may be killed by what comes next."""
        bad = self._counted.total() + self._unlisted
        if not self._dry_run and self._good + bad > _MOST_SHOWN:
            failed = f"; not sent again: {bad}" if bad else ""
            typer.echo(f"{self._done} so far: {self._good}{failed}", err=True)

    def _print(self, each: Outcome) -> None:
        if self._array is not None:
            self._array.add(outcome_as_json(each))
            return
        would, new = "would be " if self._dry_run else "", f" as {each.sent_as}" if each.sent_as else ""
        typer.echo(plain(f"{would}{self._done} {each.letter} {each.type or 'of no type'} ({each.service}){new}"))

    def close(self) -> None:
        """The rest, and problems by what they are, each with some ids."""
        if self._array is not None:
            self._array.close()
            return
        if self._good > _MOST_SHOWN:
            typer.echo(f"and {self._good - _MOST_SHOWN} more")
        for problem, examples in self._problems.items():
            ids = ", ".join(examples) + (", …" if self._counted[problem] > len(examples) else "")
            typer.echo(f"amends: not sent again: {ids}: {plain_lines(problem)}", err=True)
        if self._unlisted:
            typer.echo(f"amends: not sent again: {self._unlisted} more, each for yet another reason", err=True)
        if self._done == State.REDRIVEN.value and self._good and not self._dry_run:
            typer.echo("in the outbox; they leave with the running service's relay", err=True)


def correction(told: Letter, before: object, typed: object, sent: object, sagas: Sequence[Target]) -> list[str]:
    """What a corrected message stands for, changes and concerns, in lines for whoever is to say yes."""
    lines = [f"in the place of {told.message_id or 'one without an id'}, dead letter {told.id}"]
    lines += difference(before, typed, sent) or ["its data is as it was"]
    lines += [f"for {_named(each)}" for each in sagas]
    return [plain(line) for line in lines]


def correction_as_json(outcome: Outcome, before: object, after: object, sagas: Sequence[Target]) -> dict[str, Any]:
    """The same for programs; `before` is null where it could not be read."""
    concerned = [{"id": str(each.saga_id), "name": each.name or None, "key": each.key} for each in sagas]
    return outcome_as_json(outcome) | {"before": before, "after": after, "sagas": concerned}


def _named(target: Target) -> str:
    if not target.name:
        return f"the saga that it answers  {target.saga_id}"
    starts = ", which it starts if there is none" if target.starts else ""
    return f"{target.name} {target.key}  {target.saga_id}{starts}"


def as_json(told: Letter, saga: Waiting | None = None, *, whole: bool = False) -> dict[str, Any]:
    """One letter for programs: with `whole`, its message as JSON, as text, or as base64 where it is no text."""
    plain = {name: value for name, value in asdict(told).items() if name != "body"}
    content: dict[str, Any] = plain_json(plain)
    if whole:
        content["saga"] = plain_json(asdict(saga)) if saga is not None else None
        content["body"] = _body_as_json(told.body)
    return content


def _body_as_json(body: bytes | None) -> dict[str, Any] | None:
    if body is None:
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(body).decode()}
    try:
        return {"json": json.loads(text)}
    except ValueError:
        return {"text": text}


def outcome_as_json(each: Outcome) -> dict[str, Any]:
    """What became of one letter, for programs."""
    content: dict[str, Any] = plain_json(asdict(each))
    return content
