"""python -m deploy.state_diagram: how a saga and its steps move, found by trying everything on the machine itself.

A small saga is driven through every input its machine accepts, from every state that this leads to; the arrows are the
transitions that were seen. They are written between the markers in docs/architecture.md; `--check` only compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Never
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from contracts.message import Command, Event
from orchestrator.saga import facts as f
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import Action, DeadlinePassed, EventArrived, Input, PersonActed
from orchestrator.saga.machine import Transition, decide, evolve, fold, stuck
from orchestrator.saga.state import Direction, SagaState, StepState, StepStatus, saga_id, step_command_id
from orchestrator.saga.steps import PIVOT, RETRIABLE, Cancel, Retry, Start, Step, Wait, seconds

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
MOST_ATTEMPTS = 2
"""Attempts past this one, and rounds past the first, lead to nothing new where retries end with it."""

Arrow = tuple[str, str, str]
"""From, to, and what leads there in words."""


class _Began(Event, type="drawing.began"):
    key: str = "1"


class _Withdrawn(Event, type="drawing.withdrawn"):
    key: str = "1"


class _Approved(Event, type="drawing.approved"):
    key: str = "1"


class _Done(Event, type="drawing.done"):
    pass


class _Refused(Event, type="drawing.refused"):
    pass


class _Undone(Event, type="drawing.undone"):
    pass


class _Do(Command[_Done, _Refused], type="drawing.do"):
    pass


class _Must(Command[_Done, Never], type="drawing.must"):
    pass


class _Undo(Command[_Undone, Never], type="drawing.undo"):
    pass


class _Nothing(BaseModel):
    model_config = ConfigDict(frozen=True)


def _nothing(_event: _Began) -> _Nothing:
    return _Nothing()


def _do(_data: _Nothing) -> _Do:
    return _Do()


def _must(_data: _Nothing) -> _Must:
    return _Must()


def _undo(_data: _Nothing) -> _Undo:
    return _Undo()


def _never(_data: _Nothing) -> bool:
    return False


_TWICE = Retry(attempts=2, backoff=seconds(1))

_SAGA = Saga(
    name="drawing",
    version=1,
    data=_Nothing,
    starts_on=Start(_Began, _nothing, key=lambda event: event.key),
    cancel_on=Cancel(_Withdrawn, key=lambda event: event.key),
    steps=(
        Step("compensable", _do, compensation=_undo, retry=_TWICE, compensation_retry=_TWICE),
        Step("needless", _do, when=_never),
        Wait(_Approved, key=lambda event: event.key, name="wait", timeout=seconds(1)),
        Step("pivot", _do, kind=PIVOT, retry=_TWICE),
        Step("retriable", _must, kind=RETRIABLE, retry=_TWICE),
    ),
)
_ID = saga_id(_SAGA.name, 1)
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def explore() -> tuple[list[Arrow], list[Arrow]]:
    """Every move of a saga, and every move of a step, that any input can cause; sorted."""
    sagas: set[Arrow] = set()
    steps: set[Arrow] = set()
    seen = set()
    waiting: list[SagaState | None] = [None]
    while waiting:
        state = waiting.pop()
        for given, transition in _everything(state):
            _note(state, given, transition, sagas, steps)
            after = fold(state, transition.facts)
            if transition.facts and _shape(after) not in seen:
                seen.add(_shape(after))
                waiting.append(after)
    return sorted(sagas), sorted(steps)


def _everything(state: SagaState | None) -> Iterator[tuple[Input, Transition]]:
    """Every input that there is in this state, with what it causes."""
    now = (state.deadline if state is not None else None) or _BEGIN
    for given in _inputs(state, now):
        yield given, decide(_SAGA, _ID, state, given)
    # A function of the saga's own may raise at any input.
    broken = EventArrived(now, _ID, _Began(), "x")
    if state is None or not state.status.terminal:
        yield broken, stuck(state, broken, "its own code raised")


def _inputs(state: SagaState | None, now: datetime) -> Iterator[Input]:
    for event in (_Began(), _Withdrawn(), _Approved()):
        yield EventArrived(now, _ID, event, "x")
    yield DeadlinePassed(now)
    if state is None:
        return
    for name, step in state.steps.items():
        if step.attempt:
            for answer in (_Done(), _Refused(), _Undone()):
                yield EventArrived(now, _ID, answer, "x", _command(name, step))
    for action in Action:
        about_a_step = action in (Action.RETRY, Action.SKIP, Action.RESOLVE, Action.RESCHEDULE)
        for named in (None, *state.current) if about_a_step else (None,):
            for given in (None, _Done(), _Approved()) if action is Action.SKIP else (None,):
                yield PersonActed(now, action, "ann", "why", named, given)


def _command(name: str, step: StepState) -> UUID:
    undoing = step.status in (StepStatus.COMPENSATING, StepStatus.COMPENSATED)
    return step_command_id(_ID, name, step, Direction.COMPENSATION if undoing else Direction.ACTION, step.round)


def _shape(state: SagaState) -> Any:
    """What distinguishes states for us: neither the time nor how often a command was sent beyond the first few."""
    steps = tuple(
        (name, each.status, min(each.attempt, MOST_ATTEMPTS), each.due is None, each.open_ended)
        for name, each in sorted(state.steps.items())
    )
    return state.status, state.before, state.data is None, steps


def _note(state: SagaState | None, given: Input, done: Transition, sagas: set[Arrow], steps: set[Arrow]) -> None:
    current = state or SagaState()
    why = _why(given, done)
    first = "[*]" if state is None else current.status.value
    for fact in done.facts:
        after = evolve(current, fact)
        for name, step in after.steps.items():
            before = current.steps.get(name)
            if before is None or before.status is not step.status:
                steps.add(("[*]" if before is None else before.status.value, step.status.value, _step_why(fact)))
        current = after
    if done.facts and first != current.status.value:
        sagas.add((first, current.status.value, why))


def _why(given: Input, done: Transition) -> str:
    kinds = {type(fact) for fact in done.facts}
    if isinstance(given, PersonActed):
        return f"a person: {given.action.value}"
    if isinstance(given, DeadlinePassed) and f.StepSkipped in kinds and f.CompensationBegun in kinds:
        return "a wait without its event"
    for kind, words in (
        (f.BecameStuck, _stuck_why(done)),
        (f.StepRefused, "a refusal"),
        (f.StepInDoubt, "no answer"),
        (f.Completed, "the last step succeeded"),
        (f.Compensated, "the last compensation was answered"),
        (f.Started, "its start event"),
    ):
        if kind in kinds and not (kind is f.StepInDoubt and isinstance(given, EventArrived)):
            return words
    return "an event that cancels it"


def _stuck_why(done: Transition) -> str:
    for fact in done.facts:
        if isinstance(fact, f.BecameStuck) and not fact.gave_up:
            return "its own code raised"
        if isinstance(fact, f.BecameStuck):
            unanswered = "never answered" in fact.reason
            return "a compensation without an answer" if unanswered else "an answer against its contract"
    return ""


def _step_why(fact: f.Fact) -> str:
    match fact:
        case f.CommandSent(direction=Direction.ACTION):
            return "its command is sent"
        case f.CommandSent():
            return "its compensation is sent"
        case f.WaitBegun():
            return "a wait or a delay begins"
        case f.StepSucceeded():
            return "success"
        case f.StepSkipped():
            return "not needed, or a wait that ended without its event"
        case f.StepRefused():
            return "a refusal"
        case f.StepInDoubt():
            return "no answer, or the saga turns back meanwhile"
        case f.StepCompensated():
            return "undone"
        case _:
            return type(fact).__name__


def diagram(arrows: list[Arrow]) -> str:
    """The arrows as a mermaid state diagram, one for each pair of states."""
    together: dict[tuple[str, str], list[str]] = {}
    for first, last, why in arrows:
        together.setdefault((first, last), []).append(why)
    lines = ["```mermaid", "stateDiagram-v2"]
    for (first, last), reasons in sorted(together.items()):
        people = [each.removeprefix("a person: ") for each in reasons if each.startswith("a person: ")]
        others = [each for each in reasons if not each.startswith("a person: ")]
        words = [*others, *([f"a person ({', '.join(people)})"] if people else [])]
        lines.append(f"    {first} --> {last}: {' / '.join(words)}")
    states = {last for _, last in together}
    leaving = {first for first, _ in together}
    lines += [f"    {state} --> [*]" for state in sorted(states - leaving)]
    return "\n".join([*lines, "```"])


def rewritten(text: str) -> str:
    """The page with both diagrams as they are now; raises LookupError where a marker is missing."""
    for name, arrows in zip(("saga", "step"), explore(), strict=True):
        pattern = re.compile(rf"(<!-- {name} states -->\n).*?(<!-- /{name} states -->)", re.DOTALL)
        if not pattern.search(text):
            raise LookupError(f"{PAGE} has no markers <!-- {name} states --> and <!-- /{name} states -->")
        drawn = diagram(arrows)
        text = pattern.sub(lambda found, drawn=drawn: f"{found[1]}{drawn}\n{found[2]}", text)  # type: ignore[misc]
    return text


def main(arguments: list[str]) -> int:
    """Write the diagrams; with `--check` return 1 where what is there differs."""
    there = PAGE.read_text(encoding="utf-8")
    wanted = rewritten(there)
    if arguments == ["--check"]:
        if there == wanted:
            return 0
        print(f"amends: {PAGE} is not how the machine moves; run python -m deploy.state_diagram", file=sys.stderr)
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
