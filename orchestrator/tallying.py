"""What histories say of a saga's steps: commands sent, answered, refused, given up, and how long answers took.

Reads the stored JSON, whose names never change, and needs no definition: a history can be counted long after its code.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator.replay.recorded import Recorded

LONGEST_REASON = 80
_ENDS = ("completed", "compensated", "abandoned")


@dataclass(slots=True)
class StepTally:
    """One step in all the histories so far.

    `sent` counts commands of the step's action, `retried` the repetitions of its action and its compensation,
    `timed_out` how often a deadline of either passed without an answer. `took` are seconds from a command's first
    sending (or the beginning of a wait) to its answer (or its end).
    """

    sent: int = 0
    answered: int = 0
    timed_out: int = 0
    retried: int = 0
    compensated: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """Histories counted so far: `steps` as they were first reached, `took` seconds from start to end.

    `unreadable` are those of the instances whose history is not as an engine writes it.
    """

    instances: int = 0
    unreadable: int = 0
    steps: dict[str, StepTally] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)

    def add(self, recorded: Recorded) -> None:
        """Count one more history."""
        self.instances += 1
        try:
            self._add(recorded)
        except (ValueError, KeyError, TypeError):
            self.unreadable += 1

    def _add(self, recorded: Recorded) -> None:
        # All of it is read before any of it is counted.
        lines = [(each.at, json.loads(each.input), json.loads(each.facts)) for each in recorded.transitions]
        began: dict[str, datetime] = {}
        for at, given, facts in lines:
            for fact in facts:
                self._count(fact, given, at, began)
            if any(fact["fact"] in _ENDS for fact in facts):
                self.took.append(_between(lines[0][0], at))

    def _count(self, fact: dict[str, Any], given: dict[str, Any], at: datetime, began: dict[str, datetime]) -> None:
        kind = fact["fact"]
        if kind == "became_stuck" and given["kind"] == "deadline":
            for name in fact["gave_up"]:
                self._step(name).timed_out += 1
        if "step" not in fact:
            return
        name = fact["step"]
        step = self._step(name)
        match kind:
            case "command_sent":
                self._sent(step, fact, given, at, began)
            case "wait_begun":
                began[name] = at
            case "step_succeeded" | "step_refused" | "step_skipped":
                self._settled(step, fact, given, at, began.pop(name, None))
            case "step_in_doubt":
                began.pop(name, None)
                step.timed_out += given["kind"] == "deadline"
            case "step_compensated":
                step.compensated += 1

    def _sent(
        self, step: StepTally, fact: dict[str, Any], given: dict[str, Any], at: datetime, began: dict[str, datetime]
    ) -> None:
        if fact["attempt"] > 1:
            step.retried += 1
            step.timed_out += given["kind"] == "deadline"
        elif fact["direction"] == "action":
            step.sent += 1
            began[fact["step"]] = at

    def _settled(
        self, step: StepTally, fact: dict[str, Any], given: dict[str, Any], at: datetime, since: datetime | None
    ) -> None:
        if since is None:
            return  # done before the saga started, or not needed
        if fact["fact"] == "step_skipped":
            step.timed_out += given["kind"] == "deadline"
            return
        if given["kind"] == "event":
            step.answered += 1
        if fact["fact"] == "step_refused":
            step.refusals[_reason(given)] += 1
        if given["kind"] != "person":
            step.took.append(_between(since, at))

    def _step(self, name: str) -> StepTally:
        return self.steps.setdefault(name, StepTally())


def _between(since: datetime, at: datetime) -> float:
    """Seconds; 0 where the process that moved it first had a clock far ahead of the next one's."""
    return max((at - since).total_seconds(), 0.0)


def _reason(given: dict[str, Any]) -> str:
    data = given.get("data")
    reason = data.get("reason") if isinstance(data, dict) else None
    return reason[:LONGEST_REASON] if isinstance(reason, str) and reason else str(given.get("type", given["kind"]))
