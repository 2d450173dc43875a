"""What the history of an instance says of its end, of its being stuck, and of what came too late."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from orchestrator.diagnosis.findings import Late, Stuck, StuckBy
from orchestrator.diagnosis.raised import raised
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.state import Status
from orchestrator.words import READ_FAILED


def stuck(recorded: Recorded) -> Stuck | None:
    """Why it is stuck, if it is: by the last transition that made it so."""
    if recorded.status != Status.STUCK:
        return None
    for each in reversed(recorded.transitions):
        for fact in json.loads(each.facts):
            if fact["fact"] != "became_stuck":
                continue
            given, steps, reason = json.loads(each.input), tuple(fact["gave_up"]), fact["reason"]
            if given["kind"] == "read_failed":
                return Stuck(StuckBy.UNREADABLE, each.at, _told(given), reason, ())
            if not steps:
                return Stuck(StuckBy.EXCEPTION, each.at, _told(given), reason, (), raised(reason))
            # A person's action that leaves something undecided says again what the saga was stuck with.
            by = StuckBy.CONTRACT if "its contract does not allow" in reason else StuckBy.NO_ANSWER
            return Stuck(by, each.at, _told(given), reason, steps)
    return None


def ended_at(recorded: Recorded) -> datetime | None:
    """When it ended, if it has: later transitions are of what came late."""
    ends = ("completed", "compensated", "abandoned")
    for each in recorded.transitions:
        if any(fact["fact"] in ends for fact in json.loads(each.facts)):
            return each.at
    return None


def late(recorded: Recorded) -> Iterator[Late]:
    """What was recorded and changed nothing, oldest first."""
    for each in recorded.transitions:
        for fact in json.loads(each.facts):
            if fact["fact"] == "came_late":
                yield Late(_told(json.loads(each.input)), each.at, fact["why"])


def _told(given: Mapping[str, Any]) -> str:
    match given["kind"]:
        case "event":
            return str(given["type"])
        case "person":
            return f"{given['action']} by {given['who']}"
        case "read_failed":
            return READ_FAILED
        case _:
            return "its deadline"
