"""What a differing transition means: from its two sides to one sentence.

The order is that of what matters: an input that is not accepted, an instance that gets stuck, a step that came or went,
then messages, deadlines and data. Texts that differ and mean the same are no difference.
"""

from __future__ import annotations

import re
import traceback
from typing import Any

from pydantic_core import from_json

from contracts.message import Event
from contracts.registry import InvalidMessage, UnknownMessage
from orchestrator import words
from orchestrator.catalog import Catalog
from orchestrator.replay import contents, structure
from orchestrator.replay.difference import Difference, Kind
from orchestrator.replay.outcome import Failed, Outcome, Passage
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.replay.sides import Side
from orchestrator.saga.definition import Saga
from orchestrator.saga.machine import Transition, Verdict, fold, stuck
from orchestrator.saga.state import SagaState, Status
from orchestrator.saga.story import LONGEST_TRACEBACK

# What an exception says of where an object lay, of a library's version, or of how long an envelope was (one that was
# traced is longer), is not what went wrong.
_INCIDENTAL = re.compile(r" at 0x[0-9a-f]+|https://errors\.pydantic\.dev/[0-9.]+/| has [0-9]+ bytes")


def weigh(passage: Passage, outcome: Outcome | Failed) -> Difference | SagaState:
    """The difference, or the state after a transition that means the same in other words."""
    try:
        recorded = Side.of(passage.line.facts, passage.line.commands)
    except (ValueError, TypeError) as error:
        words_ = f"transition {passage.line.seq} cannot be read: {error}"
        return Difference(passage.line.seq, Kind.HISTORY, words_, words.of_input(passage.given))
    reason = recorded.fact("became_stuck")
    if isinstance(outcome, Failed):
        if reason is not None and _same_error(reason["reason"], outcome.error):
            return fold(passage.state, stuck(passage.state, passage.given, reason["reason"]).facts)
        return _raises(passage, recorded, outcome.error)
    now = Side.of(outcome.facts, outcome.commands)
    found = _whether_taken(passage, recorded, now, outcome.transition) or _whether_stuck(passage, recorded, now)
    found = found or structure.explain(passage, recorded, now) or contents.explain(passage, recorded, now)
    return found or fold(passage.state, outcome.transition.facts)


# -- the instance as a whole ---------------------------------------------------------------------------------


def not_loaded(recorded: Recorded, catalog: Catalog) -> Difference:
    """No definition to replay with."""
    versions = sorted(saga.version for saga in catalog if saga.name == recorded.name)
    there = f", only {', '.join(f'v{version}' for version in versions)}" if versions else ""
    return Difference(
        0,
        Kind.NOT_LOADED,
        f"no definition of {recorded.name} v{recorded.version} is loaded here{there}; "
        "name the module that holds it in AMENDS_SAGAS",
    )


def cannot_be_read(line: RecordedTransition, error: UnknownMessage | InvalidMessage) -> Difference:
    """The recorded event would not get past the door."""
    came = str(from_json(line.input)["type"])
    try:
        recorded = Side.of(line.facts, line.commands).told()
    except (ValueError, TypeError):
        recorded = ()
    if isinstance(error, UnknownMessage):
        sentence = f"would not accept a recorded event: {error}"
        return Difference(line.seq, Kind.NOT_ACCEPTED, sentence, came, recorded, (str(error),))
    sentence = f"cannot read a recorded event any more: {error}"
    return Difference(line.seq, Kind.UNREADABLE, sentence, came, recorded, (str(error),))


def other_key(recorded: Recorded, saga: Saga[Any], line: RecordedTransition, event: Event) -> Difference | None:
    """The start event would start another instance than this one."""
    if event.wire_type != saga.starts_on.event.wire_type:
        return None
    try:
        key = str(saga.starts_on.key(event))
    except Exception as error:  # noqa: BLE001 - a definition's own key function: what it raises is the finding
        words_ = f"the key of {event.wire_type} cannot be told any more: {_told(error)}"
        return Difference(line.seq, Kind.NOT_ACCEPTED, words_, event.wire_type)
    if key == recorded.key:
        return None
    return Difference(
        line.seq,
        Kind.NOT_ACCEPTED,
        f"{event.wire_type} would start an instance with another key",
        event.wire_type,
        (f"key: {recorded.key}",),
        (f"key: {key}",),
    )


# -- taken, late, stuck --------------------------------------------------------------------------------------


def _whether_taken(passage: Passage, recorded: Side, now: Side, transition: Transition) -> Difference | None:
    was_late, is_late = recorded.fact("came_late"), now.fact("came_late")
    what = _subject(passage)
    if not now.facts:
        why = transition.note or _WHY_NOT.get(transition.verdict, "nothing would follow from it")
        return _difference(passage, Kind.NOT_ACCEPTED, f"would not accept {what}: {why}", recorded, (why,))
    if is_late and not was_late:
        return _difference(passage, Kind.NOT_ACCEPTED, f"{what} would come late: {is_late['why']}", recorded, now)
    if was_late and not is_late:
        return _difference(passage, Kind.OUTCOME, f"would accept {what}, which came late", recorded, now)
    return None


_WHY_NOT = {Verdict.DUPLICATE: "nothing is new in it, or nothing is due yet"}


def _whether_stuck(passage: Passage, recorded: Side, now: Side) -> Difference | None:
    was, is_ = recorded.fact("became_stuck"), now.fact("became_stuck")
    if is_ and not was:
        reason = words.last_line(is_["reason"])
        return _difference(passage, Kind.BECOMES_STUCK, f"would become stuck: {reason}", recorded, now)
    if was and not is_:
        reason = words.last_line(was["reason"])
        return _difference(passage, Kind.NO_LONGER_STUCK, f"no longer becomes stuck ({reason})", recorded, now)
    if was and is_ and was["reason"] != is_["reason"]:
        reason = words.last_line(is_["reason"])
        return _difference(
            passage, Kind.BECOMES_STUCK, f"would become stuck for another reason: {reason}", recorded, now
        )
    return None


def _raises(passage: Passage, recorded: Side, error: Exception) -> Difference:
    told = _told(error)
    already = passage.state is not None and passage.state.status is Status.STUCK
    verb = "would stay stuck" if already else "would become stuck"
    if recorded.fact("became_stuck") is not None:
        verb = "would become stuck for another reason"
    return _difference(passage, Kind.BECOMES_STUCK, f"{verb}: {told}", recorded, (*_where(error), f"raises {told}"))


def _where(error: Exception) -> tuple[str, ...]:
    frames = traceback.extract_tb(error.__traceback__)
    return (f"{frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name}",) if frames else ()


def _told(error: Exception) -> str:
    return " ".join("".join(traceback.format_exception_only(error)).split())


def _same_error(recorded: str, error: Exception) -> bool:
    """Whether a recorded traceback ends with this exception; its frames and their lines are nobody's promise."""
    told = "".join(traceback.format_exception_only(error)).replace("\x00", "\ufffd")
    said, says = (_INCIDENTAL.sub("", text) for text in (recorded, told))
    if len(told) > LONGEST_TRACEBACK and recorded.endswith("\n") and told.endswith(recorded):
        return True  # of an exception that is too long to be kept whole, the end is
    return said.endswith(says) and _begins_there(said[: -len(says)])


def _begins_there(before: str) -> bool:
    """Whether what was raised begins after this part of a traceback: it follows the code of a frame, which is indented.

    A message that has several lines, or another exception's longer name, may end like what is raised now.
    """
    above, _, rest = before.rpartition("\n")
    # The first line may have lost its beginning, and its indent with it.
    return not rest and ("\n" not in above or above.rpartition("\n")[2].startswith("  "))


# -- saying it -----------------------------------------------------------------------------------------------


def _subject(passage: Passage) -> str:
    return words.subject(passage.given)


def _difference(passage: Passage, kind: Kind, sentence: str, recorded: Side, now: Side | tuple[str, ...]) -> Difference:
    there = now.told() if isinstance(now, Side) else now
    return Difference(passage.line.seq, kind, sentence, words.of_input(passage.given), recorded.told(), there)
