"""A played instance in words: its timeline, one line an input, and under it what moved and what was sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from contracts.message import Message
from contracts.withheld import Withheld
from orchestrator import history
from orchestrator.saga.facts import CameLate, Fact
from orchestrator.saga.inputs import DeadlinePassed, EventArrived, Input, ReadFailed
from orchestrator.saga.state import Send
from orchestrator.saga.transition import Verdict
from orchestrator.testing.playing import Moment, Playing
from orchestrator.times import exact
from orchestrator.words import READ_FAILED, last_line, noted

_LONGEST_REASON = 300


def timeline(playing: Playing[Any]) -> str:
    """Everything that has happened so far, and what has not yet."""
    began = playing.moments[0].given.at if playing.moments else playing.now
    lines = [f"saga {playing.saga.name} v{playing.saga.version}, key {playing.key}"]
    for moment in playing.moments:
        lines.append(f"  {_after(began, moment.given.at):>8}  {_input(moment.given, playing.key)}{_verdict(moment)}")
        lines += [f"{'':12}{line}" for line in _moved(moment.facts)]
        lines += [f"{'':12}-> {told(send.message, playing.key)}" for send in moment.sends]
    lines += [f"{'':12}parked, not awaited yet: {told(each.event, playing.key)}" for each in playing.parked]
    lines.append(f"  {_after(began, playing.now):>8}  now: {standing(playing)}")
    return "\n".join(lines)


def standing(playing: Playing[Any]) -> str:
    """What the instance is doing, and what it waits for until when."""
    state = playing.state
    if state is None:
        return "not started"
    words = state.status.value
    if state.current:
        words += f", waits for {', '.join(state.current)}"
    if state.deadline is not None:
        words += f" (next deadline in {exact(state.deadline - playing.now)})"
    return words + (f": {reason(state.reason)}" if state.reason else "")


def told(message: Message, key: str | None = None) -> str:
    """A message as one would write it, without the fields that only repeat the instance's `key`."""
    fields = ", ".join(f"{name}={_value(value)}" for name, value in message if not _repeats(value, key))
    return f"{type(message).__name__}({fields})"


def _repeats(value: object, key: str | None) -> bool:
    return not isinstance(value, Withheld) and str(value) == key


def listed(sends: Iterable[Send]) -> list[str]:
    """Messages one a line, each with its step."""
    return [told(send.message) + (f"   for step {send.step}" if send.step else "") for send in sends]


def reason(text: str) -> str:
    """Why, in one line: the last one of a traceback."""
    return last_line(text)[:_LONGEST_REASON]


def _value(value: object) -> str:
    fields = getattr(type(value), "model_fields", None)
    if fields is None:
        # A UUID's own repr says its type, which the field's name says already.
        return repr(str(value)) if type(value).__name__ in ("UUID", "datetime") else repr(value)
    return f"{type(value).__name__}({', '.join(f'{name}={_value(getattr(value, name))}' for name in fields)})"


def _after(began: datetime, moment: datetime) -> str:
    return f"+{exact(moment - began)}"


def _input(given: Input, key: str) -> str:
    if isinstance(given, EventArrived):
        return told(given.event, key)
    if isinstance(given, DeadlinePassed):
        return "deadline passed"
    if isinstance(given, ReadFailed):
        return READ_FAILED
    step = f" {given.step}" if given.step else ""
    answer = f" with {told(given.answer, key)}" if given.answer is not None else ""
    version = f" to v{given.to_version}" if given.to_version is not None else ""
    return f"{given.who}: {given.action.value}{step}{answer}{version} ({given.why})"


def _verdict(moment: Moment) -> str:
    match moment.verdict:
        case Verdict.APPLIED:
            return ""
        case Verdict.DUPLICATE:
            return "   [a duplicate: nothing new]"
        case _:
            return f"   [{moment.verdict.value}: {reason(moment.note)}]"


def _moved(facts: Sequence[Fact]) -> list[str]:
    # That it came late the verdict tells.
    told = json.loads(history.dump_facts([fact for fact in facts if not isinstance(fact, CameLate)]))
    return [words for fact in told if (words := noted(fact)) is not None]
