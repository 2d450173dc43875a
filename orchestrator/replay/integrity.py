"""Whether a recording agrees with itself: no gap, every text readable, and its facts fold to the row of its instance.

None of it needs the definition's code: what is found here, no change of code can have caused.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json, to_json

from orchestrator import history
from orchestrator.replay.difference import Difference, Kind
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.definition import Saga
from orchestrator.saga.machine import fold
from orchestrator.saga.state import SagaState


def gap(after: int, found: int) -> Difference:
    """A transition is missing, or is there twice."""
    what = f"transition {after + 1} is missing" if found > after + 1 else f"transition {found} is there twice"
    place = f"after {after} comes {found}" if after else f"the history begins with {found}"
    return Difference(found, Kind.HISTORY, f"the history has a gap: {what} ({place})")


def unreadable(seq: int, error: history.CorruptHistory) -> Difference:
    """A text of the history is not what Amends writes."""
    return Difference(seq, Kind.HISTORY, f"transition {seq} cannot be read: {error}")


def row(recorded: Recorded, saga: Saga[Any], state: SagaState | None) -> Difference | None:
    """Whether the instance's row is what its history folds to."""
    if state is None:
        return Difference(
            0, Kind.HISTORY, "the history is empty: an instance has at least the transition it began with"
        )
    same_texts = (
        recorded.data == history.dump_data(state.data)
        and recorded.progress == history.dump_progress(state)
        and recorded.status == state.status.value
        and recorded.reason == state.reason
    )
    if not same_texts and not _means(recorded, saga, state):
        return _differing(recorded, state)
    if recorded.deadline != state.deadline:
        return _row(("deadline",), (f"deadline: {recorded.deadline}",), (f"deadline: {state.deadline}",))
    return None


def broken(recorded: Recorded) -> Difference | None:
    """What is wrong with the recording itself, found from its own facts alone."""
    state: SagaState | None = None
    for before, line in enumerate(recorded.transitions):
        if line.seq != before + 1:
            return gap(before, line.seq)
        try:
            state = fold(state, history.load_facts(line.facts, None))
        except history.CorruptHistory as error:
            return unreadable(line.seq, error)
    return None if state is None or _is_row(recorded, state) else _differing(recorded, state)


def _is_row(recorded: Recorded, state: SagaState) -> bool:
    try:
        return (
            recorded.status == state.status.value
            and recorded.reason == state.reason
            and from_json(recorded.data) == state.data
            and from_json(recorded.progress) == from_json(history.dump_progress(state))
        )
    except ValueError:
        return False


def _means(recorded: Recorded, saga: Saga[Any], state: SagaState) -> bool:
    """Whether row and state are the same to this definition, where a later one has given the data new defaults."""
    try:
        return state == history.load_state(
            saga, status=recorded.status, reason=recorded.reason, data=recorded.data, progress=recorded.progress
        )
    except history.CorruptHistory:
        return False


def _differing(recorded: Recorded, state: SagaState) -> Difference:
    data = to_json(state.data).decode()
    sides = [
        (name, f"{name}: {stored}", f"{name}: {folded}")
        for name, stored, folded in (
            ("status", recorded.status, state.status.value),
            ("reason", recorded.reason, state.reason),
            ("data", recorded.data, data),
            ("progress", recorded.progress, history.dump_progress(state)),
        )
        if stored != folded
    ]
    names, stored, folded = zip(*sides, strict=True)
    return _row(names, stored, folded)


def _row(names: tuple[str, ...], stored: tuple[str, ...], folded: tuple[str, ...]) -> Difference:
    words = f"the instance's row is not what its history folds to: another {', '.join(names)}"
    return Difference(0, Kind.HISTORY, words, "", stored, folded)
