"""One saga's story in words: what came, what it moved, what was sent, how long each step took.

Told from a recorded instance alone, so that it is the same from a database and from a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.withheld import for_people
from orchestrator.cli.changes import Change, changes
from orchestrator.cli.json_values import plain_json
from orchestrator.history import MISSHAPEN, CorruptHistory, why_unreadable
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.words import READ_FAILED, noted

CLOCK = "clock"
ORCHESTRATOR = "orchestrator"
DEADLINE = "deadline passed"


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that a transition sent: a command to `to`, the service its name begins with, or an event to all."""

    id: str
    type: str
    step: str | None
    command: bool
    attempt: int
    data: Any

    @property
    def to(self) -> str:
        return self.type.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Entry:
    """One transition: `moved` is in words, `took` is the seconds since what it answers was first sent.

    `kind` is that of the input: event, deadline, person or read_failed. `notes` are those words of `moved` that a
    person must not miss: late, stuck, abandoned, goes back.
    """

    seq: int
    at: datetime
    kind: str
    source: str
    input: str
    carried: Any
    """What the input carried, as JSON."""
    moved: tuple[str, ...]
    notes: tuple[str, ...]
    sent: tuple[Sent, ...]
    took: float | None
    data: dict[str, Any] | None
    """The saga's data after this transition."""
    changes: tuple[Change, ...]
    """What this transition has changed in it."""


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
        content: dict[str, Any] = plain_json(asdict(self))
        return content


def story(recorded: Recorded, parked: Sequence[Waiting] = ()) -> Story:
    """The story of a recorded instance, and of what is parked for it; raises CorruptHistory where it cannot be read."""
    try:
        return _story(recorded, parked)
    except MISSHAPEN as error:
        raise CorruptHistory(f"saga {recorded.id} cannot be read: {why_unreadable(error)}") from error


def _story(recorded: Recorded, parked: Sequence[Waiting]) -> Story:
    progress = json.loads(recorded.progress)
    return Story(
        id=recorded.id,
        name=recorded.name,
        version=recorded.version,
        key=recorded.key,
        status=recorded.status,
        step=recorded.step,
        reason=recorded.reason,
        started_at=recorded.started_at,
        updated_at=recorded.updated_at,
        deadline=recorded.deadline,
        data=json.loads(recorded.data),
        steps={name: each[0] for name, each in progress["steps"].items()},
        entries=tuple(_entries(recorded.transitions)),
        parked=tuple(parked),
    )


def _entries(transitions: Sequence[RecordedTransition]) -> Iterable[Entry]:
    sent_at: dict[str, datetime] = {}
    data: dict[str, Any] | None = None
    for each in transitions:
        given, facts, commands = json.loads(each.input), json.loads(each.facts), json.loads(each.commands)
        begun = sent_at.get(given.get("causation_id") or "")
        for command in commands:
            sent_at.setdefault(command["id"], each.at)
        before, data = data, _data_after(data, facts)
        yield Entry(
            seq=each.seq,
            at=each.at,
            kind=given["kind"],
            source=_source(given),
            input=_input(given),
            carried=given.get("data"),
            moved=tuple(words for fact in facts if (words := noted(fact)) is not None),
            notes=tuple(words for fact in facts if fact["fact"] in _NOTED and (words := noted(fact)) is not None),
            sent=tuple(_sent(command, facts) for command in commands),
            took=max((each.at - begun).total_seconds(), 0.0) if begun else None,
            data=data,
            changes=changes(before, data),
        )


_NOTED = ("compensation_begun", "became_stuck", "came_late", "abandoned")


def _data_after(data: dict[str, Any] | None, facts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    for fact in facts:
        if fact["fact"] in ("started", "data_changed"):
            data = fact["data"]
    return data


def _sent(command: Mapping[str, Any], facts: Sequence[Mapping[str, Any]]) -> Sent:
    step = command["step"]
    attempts = [each["attempt"] for each in facts if each["fact"] == "command_sent" and each["step"] == step]
    attempt = max(attempts, default=1)
    return Sent(command["id"], command["type"], step, command["kind"] == "command", attempt, command["data"])


def _source(given: dict[str, Any]) -> str:
    match given["kind"]:
        case "event":
            return str(given["source"])
        case "person":
            return str(given["who"])
        case "read_failed":
            return ORCHESTRATOR
        case _:
            return CLOCK


def _input(given: dict[str, Any]) -> str:
    match given["kind"]:
        case "event":
            reason = given["data"].get("reason") if isinstance(given["data"], dict) else None
            return f"{given['type']} ({for_people(reason)})" if reason else str(given["type"])
        case "person":
            step = f" {given['step']}" if given.get("step") else ""
            return f"{given['action']}{step}: {given['why']}"
        case "read_failed":
            return READ_FAILED
        case _:
            return DEADLINE


def moved(facts: str) -> tuple[str, ...]:
    """Facts, as a history holds them, in words."""
    return tuple(words for fact in json.loads(facts) if (words := noted(fact)) is not None)
