"""Differences in what is said where everything moves alike: messages, deadlines, data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pydantic_core import from_json

from contracts.withheld import for_people
from orchestrator import history, words
from orchestrator.changed import MISSING, Changed
from orchestrator.replay.difference import Difference, Kind
from orchestrator.replay.outcome import Passage
from orchestrator.replay.sides import Json, Side, data_changes, message_changes
from orchestrator.saga.steps import Kind as StepKind
from orchestrator.saga.steps import Step
from orchestrator.times import exact

Finding = tuple[Kind, str, tuple[str, ...], tuple[str, ...]]


def explain(passage: Passage, recorded: Side, now: Side) -> Difference | None:
    """All that differs, the messages first; None where the texts mean the same."""
    found = [
        *_messages(passage, recorded, now),
        *_deadlines(passage, recorded, now),
        *_data(passage, recorded, now),
        *_made_from(passage, recorded, now),
    ]
    if not found:
        return None
    return Difference(
        passage.line.seq,
        found[0][0],
        "; ".join(sentence for _, sentence, _, _ in found),
        words.of_input(passage.given),
        tuple(line for each in found for line in each[2]),
        tuple(line for each in found for line in each[3]),
    )


# -- messages ------------------------------------------------------------------------------------------------


def _messages(passage: Passage, recorded: Side, now: Side) -> Iterator[Finding]:
    before = {each["id"]: each for each in recorded.commands}
    after = {each["id"]: each for each in now.commands}
    for identity in dict.fromkeys((*before, *after)):
        was, is_ = before.get(identity), after.get(identity)
        if was is None and is_ is not None:
            yield Kind.OTHER_COMMAND, f"{is_['type']} is {_verb(is_)} here", (), (f"{_verb(is_)}: {is_['type']}",)
        elif is_ is None and was is not None:
            yield (
                Kind.OTHER_COMMAND,
                f"{was['type']} is not {_verb(was)} any more",
                (f"{_verb(was)}: {was['type']}",),
                (),
            )
        elif was is not None and is_ is not None:
            yield from _message(passage, was, is_)


def _message(passage: Passage, was: Json, is_: Json) -> Iterator[Finding]:
    if was["type"] != is_["type"]:
        who = f"{is_['step']} sends" if is_["step"] else "the end is announced with"
        sentence = f"{who} {is_['type']} instead of {was['type']}"
        yield Kind.OTHER_COMMAND, sentence, (_whole(was),), (_whole(is_),)
        return
    found = message_changes(was, is_, passage.registry)
    if was["version"] != is_["version"] and found:
        sentence = f"{is_['type']} is sent as v{is_['version']} instead of v{was['version']}"
        yield Kind.OTHER_COMMAND, sentence, (_whole(was),), (_whole(is_),)
    elif found:
        yield Kind.COMMAND_FIELD, f"{is_['type']} carries {_told(found)}", *_sides(found)
    if was.get("compensates") != is_.get("compensates"):
        sides = (f"undoes: {was.get('compensates')}",), (f"undoes: {is_.get('compensates')}",)
        yield Kind.OTHER_COMMAND, f"{is_['type']} undoes another command", *sides


def _verb(message: Json) -> str:
    return "sent" if message["step"] else "announced"


def _whole(message: Json) -> str:
    return f"{message['type']} v{message['version']} {json.dumps(for_people(message['data']), ensure_ascii=False)}"


# -- deadlines -----------------------------------------------------------------------------------------------


def _deadlines(passage: Passage, recorded: Side, now: Side) -> Iterator[Finding]:
    for was, is_ in zip(_due(recorded), _due(now), strict=True):
        if was["due"] == is_["due"]:
            continue
        sides = (f"{was['step']}: due {was['due']}",), (f"{is_['step']}: due {is_['due']}",)
        yield Kind.DEADLINE, _deadline(passage, was, is_), *sides


def _due(side: Side) -> Sequence[Json]:
    return [each for each in side.facts if "due" in each]


def _deadline(passage: Passage, was: Json, is_: Json) -> str:
    since = passage.given.at
    before, after = words.waited(was["due"], since), words.waited(is_["due"], since)
    if is_["fact"] == "wait_begun":
        return f"{is_['step']} waits for {after} instead of {before}"
    if is_["fact"] == "deadline_moved":
        return f"{is_['step']} is due after {after} instead of {before}"
    what = "compensation" if is_["direction"] == "compensation" else "command"
    whose = f"attempt {is_['attempt']} of {is_['step']}'s {what}"
    hint = _attempts(passage.saga.stages.get(is_["step"]), is_, before)
    return f"the answer to {whose} is awaited for {after} instead of {before}{hint}"


def _attempts(step: object, fact: Json, before: str) -> str:
    """A hint where it is the number of attempts that makes the difference: after the last one nothing is added."""
    if not isinstance(step, Step):
        return ""
    back = fact["direction"] == "compensation"
    bounded = back or step.kind is StepKind.COMPENSABLE
    attempts = (step.compensation_retry if back else step.retry).attempts
    if bounded and fact["attempt"] == attempts:
        return " (here it is the last attempt)"
    if before == exact(step.timeout):
        return " (recorded as the last attempt, and here it is not)"
    return ""


# -- data ----------------------------------------------------------------------------------------------------


def _data(passage: Passage, recorded: Side, now: Side) -> Iterator[Finding]:
    before, after = recorded.data, now.data
    if before is None and after is None:
        return
    # A side that leaves the data alone keeps what was there.
    if before is None or after is None:
        kept = from_json(history.dump_data(passage.state.data if passage.state else None))
        before, after = (kept if before is None else before), (kept if after is None else after)
    yield from _compared(passage, f"{_migrated(now)}the data", before, after)


def _made_from(passage: Passage, recorded: Side, now: Side) -> Iterator[Finding]:
    """What a migration made of the data of commands under way; a later answer may leave no other trace of it."""
    before, after = recorded.fact("migrated"), now.fact("migrated")
    if before is None or after is None:
        return
    for step, data in after["made_from"].items():
        what = f"{_migrated(now)}what {step}'s command was made from"
        for kind, sentence, was, is_ in _compared(passage, what, before["made_from"][step], data):
            yield kind, sentence, tuple(f"{step}: {each}" for each in was), tuple(f"{step}: {each}" for each in is_)


def _migrated(side: Side) -> str:
    fact = side.fact("migrated")
    return "" if fact is None else f"migrated to v{fact['to_version']}, "


def _compared(passage: Passage, what: str, before: Json | None, after: Json | None) -> Iterator[Finding]:
    try:
        found = data_changes(before, after, passage.saga)
    except ValueError as error:
        problem = history.why_unreadable(error)
        yield (
            Kind.UNREADABLE,
            f"the recorded data does not fit {passage.saga.data.__name__} any more: {problem}",
            (),
            (),
        )
        return
    if found:
        yield Kind.DATA, f"{what} has {_told(found)}", *_sides(found)


# -- saying it -----------------------------------------------------------------------------------------------


def _told(found: Sequence[Changed]) -> str:
    """`another amount.amount and no detail any more`."""
    parts = []
    for each in found:
        if each.before is MISSING:
            parts.append(f"{each.path}, which is new")
        elif each.after is MISSING or each.after is None:
            parts.append(f"no {each.path} any more")
        else:
            parts.append(f"another {each.path}")
    return " and ".join(parts)


def _sides(found: Sequence[Changed]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(_side(each.path, each.before) for each in found), tuple(_side(each.path, each.after) for each in found)


def _side(path: str, value: object) -> str:
    return f"{path}: {'nothing' if value is MISSING else json.dumps(for_people(value), ensure_ascii=False)}"
