"""Inputs, facts and commands of a transition in words, for the two sides of a difference."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orchestrator.saga.inputs import DeadlinePassed, EventArrived, Input, PersonActed
from orchestrator.times import exact

Json = Mapping[str, Any]
"""A fact or a command as its JSON says it."""


def of_input(given: Input) -> str:
    """What happened: `payment.failed (card_declined) from payment`, `deadline passed`, `skip approval by bea`."""
    match given:
        case EventArrived():
            reason = getattr(given.event, "reason", None)
            told = f" ({reason})" if isinstance(reason, str) and reason else ""
            return f"{given.event.wire_type}{told} from {given.source}"
        case DeadlinePassed():
            return "deadline passed"
        case PersonActed():
            return f"{given.action.value}{f' {given.step}' if given.step else ''} by {given.who}: {given.why}"


def subject(given: Input) -> str:
    """The input as the subject of a sentence that holds for other instances too."""
    match given:
        case EventArrived():
            return given.event.wire_type
        case DeadlinePassed():
            return "the deadline"
        case PersonActed():
            return f"a person's {given.action.value}{f' of {given.step}' if given.step else ''}"


def of_fact(fact: Json, commands: Mapping[str, str]) -> str | None:
    """What a fact says; `commands` has the wire type each step was sent. None for what only changes the data."""
    step = fact.get("step")
    match fact["fact"]:
        case "started" | "data_changed":
            return None
        case "command_sent":
            again = f", attempt {fact['attempt']}" if fact["attempt"] > 1 else ""
            again += f", round {fact['round']}" if fact["round"] > 1 else ""
            doing = "compensates with" if fact["direction"] == "compensation" else "sends"
            return f"{step} {doing} {commands.get(str(step), 'a command')}{again}"
        case "wait_begun":
            return f"{step} begins to wait"
        case "step_succeeded" | "step_skipped" | "step_refused" | "step_compensated":
            return f"{step} {_VERBS[fact['fact']]}"
        case "step_in_doubt":
            return f"{step} is in doubt"
        case "compensation_begun":
            return f"goes back: {fact['reason']}"
        case "became_stuck":
            return f"becomes stuck: {last_line(fact['reason'])}"
        case "came_late":
            return f"comes late: {fact['why']}"
        case "abandoned":
            return f"is abandoned: {fact['reason']}"
        case other:
            return _by_people(fact) or _ENDS.get(other, str(other))


def _by_people(fact: Json) -> str | None:
    match fact["fact"]:
        case "migrated":
            renamed = "".join(f", {old} is called {new}" for old, new in fact["renamed"].items())
            return f"goes on as v{fact['to_version']}, was v{fact['from_version']}{renamed}"
        case "deadline_moved":
            return f"{fact['step']} has {'another deadline' if fact['due'] else 'no deadline any more'}"
        case _:
            return None


_VERBS = {
    "step_succeeded": "succeeds",
    "step_skipped": "is skipped",
    "step_refused": "is refused",
    "step_compensated": "is compensated",
}
_ENDS = {"resumed": "goes on", "completed": "completes", "compensated": "has made amends"}


def last_line(text: str) -> str:
    """Of a traceback, what was raised."""
    return text.strip().rpartition("\n")[2]


def waited(due: str | None, since: datetime) -> str:
    """How long something is waited for, from when it began until it is due."""
    return "ever" if due is None else exact(datetime.fromisoformat(due) - since)
