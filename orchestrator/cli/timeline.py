"""One saga's story in words: what came, what it moved, what was sent, how long each step took."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Entry:
    """One transition: `moved` and `sent` are words, `took` is the seconds since what it answers was sent."""

    seq: int
    at: datetime
    source: str
    input: str
    moved: tuple[str, ...]
    sent: tuple[str, ...]
    took: float | None
    carried: dict[str, Any]
    """The input's data and each message's, as JSON."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A parked event: it came, and nobody awaits it yet."""

    type: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Story:
    """One saga as a person wants to see it."""

    id: UUID
    name: str
    version: int
    key: str
    status: str
    step: str
    reason: str
    started_at: datetime
    updated_at: datetime
    deadline: datetime | None
    data: dict[str, Any] | None
    steps: dict[str, str]
    entries: tuple[Entry, ...]
    parked: tuple[Waiting, ...]

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return content


def story(row: Any, transitions: Sequence[Any], parked: Sequence[Any]) -> Story:
    """The story from the rows that tell it."""
    entries = []
    sent_at: dict[str, datetime] = {}
    for each in transitions:
        given, facts, commands = json.loads(each.input), json.loads(each.facts), json.loads(each.commands)
        cause = given.get("causation_id")
        begun = sent_at.get(cause) if cause else None
        for command in commands:
            sent_at.setdefault(command["id"], each.at)
        entries.append(
            Entry(
                seq=each.seq,
                at=each.at,
                source=_source(given),
                input=_input(given),
                moved=tuple(words for fact in facts if (words := _fact(fact)) is not None),
                sent=tuple(command["type"] for command in commands),
                took=(each.at - begun).total_seconds() if begun else None,
                carried={
                    "input": given.get("data"),
                    "sent": {command["type"]: command["data"] for command in commands},
                },
            )
        )
    progress = json.loads(row.progress)
    return Story(
        id=row.id,
        name=row.name,
        version=row.version,
        key=row.key,
        status=row.status,
        step=row.step,
        reason=row.reason,
        started_at=row.started_at,
        updated_at=row.updated_at,
        deadline=row.deadline,
        data=json.loads(row.data),
        steps={name: each[0] for name, each in progress["steps"].items()},
        entries=tuple(entries),
        parked=tuple(Waiting(each.type, each.parked_at, each.reason) for each in parked),
    )


def _source(given: dict[str, Any]) -> str:
    match given["kind"]:
        case "event":
            return str(given["source"])
        case "person":
            return str(given["who"])
        case _:
            return "clock"


def _input(given: dict[str, Any]) -> str:
    match given["kind"]:
        case "event":
            reason = given["data"].get("reason") if isinstance(given["data"], dict) else None
            return f"{given['type']} ({reason})" if reason else str(given["type"])
        case "person":
            step = f" {given['step']}" if given.get("step") else ""
            return f"{given['action']}{step}: {given['why']}"
        case _:
            return "deadline passed"


def _fact(fact: dict[str, Any]) -> str | None:
    step = fact.get("step")
    match fact["fact"]:
        case "command_sent" if fact["attempt"] > 1 or fact["round"] > 1:
            again = f"attempt {fact['attempt']}" + (f", round {fact['round']}" if fact["round"] > 1 else "")
            return f"{step}: {_sending(fact)} again ({again})"
        case "command_sent":
            return f"{step}: {_sending(fact)}"
        case "wait_begun":
            return f"{step}: waiting" + (f" until {fact['due'][:19]}" if fact["due"] else "")
        case "step_succeeded" | "step_skipped" | "step_refused" | "step_in_doubt" | "step_compensated":
            return f"{step}: {fact['fact'].removeprefix('step_').replace('_', ' ')}"
        case "compensation_begun":
            return f"goes back: {fact['reason']}"
        case "became_stuck":
            return f"STUCK: {_last_line(fact['reason'])}"
        case "came_late":
            return f"late: {fact['why']}"
        case "abandoned":
            return f"abandoned: {fact['reason']}"
        case "started" | "data_changed":
            return None
        case other:
            return str(other)


def _sending(fact: dict[str, Any]) -> str:
    return "compensating" if fact["direction"] == "compensation" else "sent"


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
