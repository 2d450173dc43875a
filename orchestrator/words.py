"""What came to an instance and what followed from it in words: inputs, facts, reasons; callers only lay them out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orchestrator.saga.inputs import DeadlinePassed, EventArrived, Input, PersonActed, ReadFailed
from orchestrator.times import clock, exact

Json = Mapping[str, Any]
"""A fact or a command as its JSON says it."""


READ_FAILED = "its row could not be read"
"""What happened, where an instance is stuck because of that."""


def of_input(given: Input) -> str:
    """What happened: `payment.failed (card_declined) from payment`, `deadline passed`, `skip approval by bea`."""
    match given:
        case EventArrived():
            reason = getattr(given.event, "reason", None)
            told = f" ({reason})" if isinstance(reason, str) and reason else ""
            return f"{given.event.wire_type}{told} from {given.source}"
        case DeadlinePassed():
            return "deadline passed"
        case ReadFailed():
            return READ_FAILED
        case PersonActed():
            return f"{given.action.value}{f' {given.step}' if given.step else ''} by {given.who}: {given.why}"


def subject(given: Input) -> str:
    """The input as the subject of a sentence that holds for other instances too."""
    match given:
        case EventArrived():
            return given.event.wire_type
        case DeadlinePassed():
            return "the deadline"
        case ReadFailed():
            return "the row that could not be read"
        case PersonActed():
            return f"a person's {given.action.value}{f' of {given.step}' if given.step else ''}"


def noted(fact: Json) -> str | None:
    """A fact as a note in a timeline: `dig: sent again (attempt 2)`. None for what only changes the data."""
    match fact["fact"]:
        case "command_sent":
            doing = "compensating" if fact["direction"] == "compensation" else "sent"
            tries = _tries(fact)
            return f"{fact['step']}: {doing}" + (f" again ({', '.join(tries)})" if tries else "")
        case "wait_begun":
            return f"{fact['step']}: waiting" + (f" until {_due(fact)}" if fact["due"] else "")
        case "deadline_moved":
            return f"{fact['step']}: " + (f"due {_due(fact)}" if fact["due"] else _NO_DEADLINE)
        case "migrated":
            return _migrated(fact)
        case _:
            return _said(fact, as_note=True)


def of_fact(fact: Json, commands: Mapping[str, str]) -> str | None:
    """A fact as a sentence; `commands` has the wire type each step was sent. None for what only changes the data."""
    match fact["fact"]:
        case "command_sent":
            doing = "compensates with" if fact["direction"] == "compensation" else "sends"
            return ", ".join((f"{fact['step']} {doing} {commands.get(str(fact['step']), 'a command')}", *_tries(fact)))
        case "wait_begun":
            return f"{fact['step']} begins to wait"
        case "deadline_moved":
            return f"{fact['step']} has {'another deadline' if fact['due'] else _NO_DEADLINE}"
        case "migrated":
            return _migrated(fact) + "".join(f", {old} is called {new}" for old, new in fact["renamed"].items())
        case _:
            return _said(fact, as_note=False)


_SILENT = frozenset({"started", "data_changed"})
_NO_DEADLINE = "no deadline any more"
_SAID = {
    "step_succeeded": ("succeeded", "succeeds"),
    "step_skipped": ("skipped", "is skipped"),
    "step_refused": ("refused", "is refused"),
    "step_in_doubt": ("in doubt", "is in doubt"),
    "step_compensated": ("compensated", "is compensated"),
    "compensation_begun": ("goes back", "goes back"),
    "became_stuck": ("STUCK", "becomes stuck"),
    "came_late": ("late", "comes late"),
    "abandoned": ("abandoned", "is abandoned"),
    "resumed": ("resumed", "goes on"),
    "completed": ("completed", "completes"),
    "compensated": ("compensated", "has made amends"),
}
"""Each fact that says nothing but a step or a reason: in a note, and in a sentence."""


def _said(fact: Json, *, as_note: bool) -> str | None:
    name = fact["fact"]
    if name in _SILENT:
        return None
    note, sentence = _SAID.get(name, (str(name), str(name)))
    if "step" in fact:
        return f"{fact['step']}: {note}" if as_note else f"{fact['step']} {sentence}"
    why = fact.get("reason", fact.get("why"))
    if why is None:
        return note if as_note else sentence
    # What it is stuck for may be a traceback.
    return f"{note if as_note else sentence}: {last_line(why) if name == 'became_stuck' else why}"


def _tries(fact: Json) -> list[str]:
    return [f"{what} {fact[what]}" for what in ("attempt", "round") if fact[what] > 1]


def _migrated(fact: Json) -> str:
    return f"goes on as v{fact['to_version']}, was v{fact['from_version']}"


def _due(fact: Json) -> str:
    return clock(datetime.fromisoformat(fact["due"]))


def last_line(text: str) -> str:
    """Of a traceback, what was raised."""
    return text.strip().rpartition("\n")[2]


def waited(due: str | None, since: datetime) -> str:
    """How long something is waited for, from when it began until it is due."""
    return "ever" if due is None else exact(datetime.fromisoformat(due) - since)
