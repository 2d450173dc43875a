"""What holds for every saga under every sequence of inputs: generated definitions, generated histories."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import event, given, settings
from hypothesis import strategies as st

from contracts.message import Command, Event
from orchestrator import COMPENSATE, CONTINUE, Migration, Parallel, Retry, Saga, Step, Wait, minutes, seconds
from orchestrator.saga import facts as f
from orchestrator.saga.inputs import DeadlinePassed, EventArrived, Input, PersonActed
from orchestrator.saga.machine import decide, fold
from orchestrator.saga.state import Direction, SagaState, Send, Status, StepStatus
from orchestrator.saga.steps import Kind
from tests.unit.play import Action, Play, Verdict
from tests.unit.work import (
    Approved,
    Begun,
    Do,
    Done,
    Must,
    Refused,
    Undo,
    Undone,
    Withdrawn,
    Work,
    approval,
    cancel_on_withdrawal,
    done_before,
    pause,
    pivot,
    retriable,
    step,
    work_saga,
)

ENOUGH = 300
"""Inputs after which every instance whose commands are answered must have ended."""


class Delivered(Event, type="work.delivered", key="id"):
    """What a saga may wait for after its pivot."""

    id: int


# -- generated sagas -----------------------------------------------------------------------------------------


@dataclass
class Naming:
    """Names that nothing else has."""

    taken: int = 0

    def next(self) -> str:
        """Another one."""
        self.taken += 1
        return f"s{self.taken}"


def _odd(data: Work) -> bool:
    return len(data.log) % 2 == 1


def _log_minutes(data: Work) -> timedelta:
    return minutes(len(data.log))


retries = st.builds(Retry, attempts=st.integers(1, 3), backoff=st.sampled_from([seconds(0), seconds(2)]))
times = st.sampled_from([seconds(5), seconds(30)])
whens: st.SearchStrategy[Callable[[Work], bool] | None] = st.sampled_from([None, None, _odd])


@st.composite
def compensable(draw: st.DrawFn, naming: Naming) -> Step[Work]:
    """A step before the pivot."""
    name = naming.next()
    options: dict[str, Any] = {} if draw(st.booleans()) else {"compensation": None}
    return step(
        name,
        timeout=draw(times),
        retry=draw(retries),
        compensation_retry=Retry(attempts=draw(st.integers(1, 2))),
        when=draw(whens),
        **options,
    )


@st.composite
def forward(draw: st.DrawFn, naming: Naming) -> Step[Work]:
    """A step after it."""
    name = naming.next()
    return retriable(
        name,
        timeout=draw(times),
        retry=draw(retries),
        when=draw(whens),
        on_success=lambda data, _: data.told(f"{name} done"),
    )


@st.composite
def group(draw: st.DrawFn, naming: Naming, member: Any) -> Parallel[Work]:
    """Two or three of them at once."""
    return Parallel(*[draw(member(naming)) for _ in range(draw(st.integers(2, 3)))])


@st.composite
def pauses(draw: st.DrawFn, naming: Naming) -> Any:
    """A delay, fixed or not."""
    return pause(naming.next(), minutes(1) if draw(st.booleans()) else _log_minutes, when=draw(whens))


@st.composite
def waits(draw: st.DrawFn, naming: Naming) -> Any:
    """A wait before the pivot."""
    return approval(
        naming.next(),
        timeout=draw(st.sampled_from([None, minutes(1)])),
        on_timeout=draw(st.sampled_from([COMPENSATE, CONTINUE])),
        when=draw(whens),
    )


@st.composite
def sagas(draw: st.DrawFn) -> Saga[Work]:
    """A definition with any of the stages there are, in any order that is allowed."""
    naming = Naming()
    stages: list[Any] = []
    if draw(st.booleans()):
        stages.append(done_before(naming.next()))
    kinds = ["step", "step", "group", "pause"]
    before = [draw(st.sampled_from(kinds)) for _ in range(draw(st.integers(0, 3)))]
    if draw(st.booleans()):
        before.insert(draw(st.integers(0, len(before))), "wait")
    made: dict[str, Any] = {"step": compensable, "pause": pauses, "wait": waits}
    stages += [draw(group(naming, compensable) if kind == "group" else made[kind](naming)) for kind in before]
    if draw(st.booleans()) or not stages:
        stages.append(pivot(naming.next(), timeout=draw(times), retry=draw(retries), when=draw(whens)))
        after = [draw(st.sampled_from(kinds)) for _ in range(draw(st.integers(0, 2)))]
        made["step"] = forward
        stages += [draw(group(naming, forward) if kind == "group" else made[kind](naming)) for kind in after]
        if draw(st.booleans()):
            wait: Wait[Work] = Wait(
                Delivered,
                key=lambda event: event.id,
                name=naming.next(),
                timeout=draw(st.sampled_from([None, minutes(1)])),
                on_timeout=CONTINUE,
            )
            stages.append(wait)
    return work_saga(*stages, cancel_on=cancel_on_withdrawal() if draw(st.booleans()) else None)


# -- generated inputs ----------------------------------------------------------------------------------------

ANSWERS: tuple[Event, ...] = (Done(), Done(), Done(), Refused(), Undone(), Undone())
EVENTS: tuple[Event, ...] = (Begun(id=7), Approved(id=7), Delivered(id=7), Withdrawn(id=7))


@dataclass(frozen=True)
class Happening:
    """Something that may happen: what, and numbers that pick one of what there is then."""

    what: str
    which: int
    how: int


happenings = st.builds(
    Happening,
    st.sampled_from(["answer", "answer", "answer", "deadline", "deadline", "event", "person"]),
    st.integers(0, 40),
    st.integers(0, 40),
)


def as_input(play: Play, happening: Happening) -> Input:
    """The happening as an input of this instance."""
    which, how = happening.which, happening.how
    stuck = play.state is not None and play.state.status is Status.STUCK
    if happening.what == "person" or (stuck and how % 2):
        return _person(play, which, how)
    if happening.what == "answer" and play.sent:
        # Counted from the newest, so that small numbers answer what is awaited.
        send = play.sent[-1 - which % len(play.sent)]
        return play.arrival(_right(send) if how % 3 else ANSWERS[how // 3 % len(ANSWERS)], send.id)
    if happening.what == "deadline":
        deadline = play.current.deadline if play.state is not None else None
        play.now = max(play.now, deadline or play.now) - (seconds(1) if how == 0 else seconds(0))
        return DeadlinePassed(play.now)
    return play.arrival(EVENTS[which % len(EVENTS)])


def _person(play: Play, which: int, how: int) -> PersonActed:
    waiting = play.state.current if play.state is not None else ()
    # Mostly about what is waited for; abandoning ends everything, so only one action in twelve.
    names: list[str | None] = [*waiting, *waiting, None, *play.saga.stages]
    actions = [*Action, *[Action.RETRY, Action.RESOLVE] * 3]
    answers: list[Event | None] = [None, *ANSWERS, *EVENTS]
    action, name = actions[which % len(actions)], names[how // 2 % len(names)]
    due = (None, play.now - minutes(1), play.now + minutes(7))[how % 3]
    return PersonActed(play.now, action, "bea", "she knows", name, answers[(which + how) % len(answers)], due)


def _right(send: Send) -> Event:
    match send.message:
        case Undo():
            return Undone()
        case _:
            return Done()


# -- what must hold ------------------------------------------------------------------------------------------


@dataclass
class Witness:
    """Watches an instance from outside and complains of what must not be."""

    play: Play
    commands: dict[UUID, Send] = field(default_factory=dict)
    asked: dict[tuple[str, Direction, int], UUID] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    pivot_sent: bool = False

    def saw(self, given: Input) -> None:
        """Let the input happen, and look at all that came of it."""
        play = self.play
        before, copy = play.state, fold(None, play.facts)
        transition = decide(play.saga, play.id, before, given)
        assert before is None or before == copy, "deciding changed the state it was given"
        assert transition == decide(play.saga, play.id, before, given), "deciding twice gave two results"
        if transition.verdict not in (Verdict.APPLIED, Verdict.LATE):
            assert ((), ()) == (transition.facts, transition.sends)
        play.carry_out(transition)
        if play.state is None:
            return
        assert play.state == fold(None, play.facts)
        if before is not None and before.status.terminal:
            assert before == play.state
            assert () == transition.sends
        self._never_forgotten(play.state)
        self._why(given, transition.facts)
        commands = [fact for fact in transition.facts if isinstance(fact, f.CommandSent)]
        sends = [send for send in transition.sends if isinstance(send.message, Command)]
        for fact, send in zip(commands, sends, strict=True):
            self._same_question_same_id(fact, send, before, by_a_person=isinstance(given, PersonActed))
            self._sent(send, transition.facts, before)
        if play.state.status is Status.COMPENSATED:
            self._all_undone(play.state)

    def _never_forgotten(self, state: SagaState) -> None:
        """Whoever is neither over nor stuck nor waiting without a limit has a deadline."""
        over = state.status.terminal or state.status is Status.STUCK
        if over:
            assert state.deadline is None
            return
        for name in state.current:
            asked = isinstance(self.play.saga.stages[name], Step) and not state.steps[name].open_ended
            assert not asked or state.steps[name].due is not None, f"{name} is never sent again"
        if not state.started:
            return
        if state.deadline is None:
            waiting = [self.play.saga.stages[name] for name in state.current]
            revoked = any(state.steps[name].open_ended for name in state.current)
            assert revoked or any(isinstance(stage, Wait) and stage.timeout is None for stage in waiting), state

    def _why(self, given: Input, facts: tuple[f.Fact, ...]) -> None:
        for fact in facts:
            if isinstance(fact, f.StepRefused):
                assert isinstance(given, EventArrived), "only a participant refuses"
                assert given.event == Refused()
                self.refused.add(fact.step)
            if isinstance(fact, f.StepInDoubt):
                answer = isinstance(given, EventArrived) and given.event != Withdrawn(id=7)
                assert not answer, "an answer has put another step in doubt"

    def _same_question_same_id(
        self, fact: f.CommandSent, send: Send, before: SagaState | None, *, by_a_person: bool
    ) -> None:
        assert fact.step == send.step
        question = (fact.step, fact.direction, fact.round)
        assert send.id == self.asked.setdefault(question, send.id)
        assert len(self.asked) == len(set(self.asked.values())), "one id, two questions"
        known = before.steps.get(fact.step) if before is not None else None
        underway = StepStatus.RUNNING if fact.direction is Direction.ACTION else StepStatus.COMPENSATING
        if known is not None and known.status is underway:
            given_up = known.due is None and not known.open_ended
            assert fact.round - known.round == int(given_up), "asked anew if and only if it was given up"
            assert known.due is not None or by_a_person

    def _sent(self, send: Send, facts: tuple[f.Fact, ...], before: SagaState | None) -> None:
        known = self.commands.setdefault(send.id, send)
        assert known == send, "one id, two commands"
        if isinstance(send.message, Undo):
            self._may_be_undone(send, fold(before, facts))
        elif isinstance(send.message, (Do, Must)):
            self.pivot_sent |= send.step == self.play.saga.pivot

    def _may_be_undone(self, send: Send, state: SagaState) -> None:
        saga, name = self.play.saga, send.step or ""
        happened = self._may_have_happened()
        assert name in happened, f"{name} was undone and cannot have happened"
        if self.pivot_sent:
            assert saga.pivot is not None
            assert f.StepRefused(saga.pivot) in self.play.facts, "turned back after the pivot"
        action = [each for each in self.commands.values() if each.step == name and not isinstance(each.message, Undo)]
        assert (send.compensates is None) == (not action)
        assert send.compensates is None or send.compensates in {each.id for each in action}
        place = next(number for number, stage in enumerate(saga.steps) if name in _names(stage))
        for later in saga.steps[place + 1 :]:
            for other in _names(later) & happened:
                assert state.steps[other].status is StepStatus.COMPENSATED, f"{name} was undone before {other}"

    def _may_have_happened(self) -> set[str]:
        """The steps that can be undone, were asked for or done before, and were not refused by their participant."""
        before = {stage.name for stage in self.play.saga.steps if isinstance(stage, Step) and stage.action is None}
        asked = {name for name, direction, _ in self.asked if direction is Direction.ACTION}
        return ((before | asked) - self.refused) & set(self.play.saga.compensations)

    def _all_undone(self, state: SagaState) -> None:
        left = {name for name in self._may_have_happened() if state.steps[name].status is not StepStatus.COMPENSATED}
        assert set() == left


def _names(stage: Any) -> set[str]:
    return {member.name for member in stage.steps} if isinstance(stage, Parallel) else {stage.name}


@settings(max_examples=400, derandomize=True, deadline=None)
@given(saga=sagas(), history=st.lists(happenings, max_size=30))
def test_no_history_breaks_a_rule(saga: Saga[Work], history: list[Happening]) -> None:
    """Answers in any order, repeated, wrong or late, timeouts, cancellations and people: every invariant holds."""
    witness = Witness(Play(saga))
    witness.saw(witness.play.arrival(Begun(id=7)))
    for happening in history:
        witness.saw(as_input(witness.play, happening))
    event(f"ends {witness.play.status}")


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    saga=sagas(),
    history=st.lists(happenings, max_size=12),
    refusing=st.sets(st.integers(1, 12)),
    silent=st.sets(st.integers(1, 12)),
)
def test_every_saga_whose_commands_are_answered_ends(
    saga: Saga[Work], history: list[Happening], refusing: set[int], silent: set[int]
) -> None:
    """Whatever happened before: with answers from then on, or silence where that is heeded, it ends or is stuck."""
    play = Play(saga)
    witness = Witness(play)
    witness.saw(play.arrival(Begun(id=7)))
    for happening in history:
        witness.saw(as_input(play, happening))
    for _ in range(ENOUGH):
        if play.current.status.terminal or play.current.status is Status.STUCK:
            break
        witness.saw(_next_input(play, {f"s{number}" for number in refusing}, {f"s{number}" for number in silent}))
    event(f"ends {play.status}")
    assert play.status in {"completed", "compensated", "stuck", "abandoned"}


def _next_input(play: Play, refusing: set[str], silent: set[str]) -> Input:
    for name in play.current.current:
        stage = play.saga.stages[name]
        revoked = play.current.steps[name].open_ended
        if revoked and not isinstance(stage, Step):
            return PersonActed(play.now, Action.RESOLVE, "bea", "it has lasted long enough", name)
        if isinstance(stage, Step) and (revoked or not (name in silent and stage.kind is Kind.COMPENSABLE)):
            send = play.commands(name)[-1]
            refuses = isinstance(send.message, Do) and name in refusing
            return play.arrival(Refused() if refuses else _right(send), send.id)
        if isinstance(stage, Wait) and stage.timeout is None:
            return play.arrival(Approved(id=7) if stage.event is Approved else Delivered(id=7))
    deadline = play.current.deadline
    assert deadline is not None
    play.now = max(play.now, deadline)
    return DeadlinePassed(play.now)


# -- another version ----------------------------------------------------------------------------------------


def _same(data: Work) -> Work:
    return data


def _now_called(name: str) -> str:
    return f"new_{name}"


def _renamed(stage: Any) -> Any:
    """The same stage, its functions too, under another name."""
    if isinstance(stage, Parallel):
        return Parallel(*[_renamed(member) for member in stage.steps])
    copied = copy(stage)
    copied.name = _now_called(stage.name)
    return copied


@dataclass
class Twins:
    """One instance that stays what it is, and one that gets the same inputs and is migrated on its way."""

    stays: Play
    goes: Play
    ids: dict[UUID, UUID] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    """The steps that had been sent a command before the migration."""

    @property
    def migrated(self) -> bool:
        return self.goes.saga is not self.stays.saga

    def migrate(self, newer: Saga[Work]) -> None:
        """Now the one of them goes on as the newer version."""
        self.known = {send.step or "" for send in self.stays.sent}
        self.goes.saga = newer
        crossing = PersonActed(self.stays.now, Action.MIGRATE, "bea", "v2", from_version=1, to_version=2)
        assert Verdict.APPLIED is self.goes.take(crossing).verdict

    def take(self, given: Input) -> None:
        """The same happens to both, and the same comes of it."""
        self.goes.now = self.stays.now
        transitions = self.stays.take(given), self.goes.take(self._translated(given))
        assert transitions[0].verdict == transitions[1].verdict
        for mine, others in zip(transitions[0].sends, transitions[1].sends, strict=True):
            assert mine.message == others.message
            assert others.id == self.ids.setdefault(mine.id, others.id)
            if not self.migrated or mine.step is None or mine.step in self.known:
                assert mine.id == others.id, "its participant would take it for another command"
            assert others.compensates == (self.ids[mine.compensates] if mine.compensates else None)
        assert len(set(self.ids.values())) == len(self.ids)

    def _translated(self, given: Input) -> Input:
        if isinstance(given, PersonActed) and given.step is not None and self.migrated:
            return replace(given, step=_now_called(given.step))
        if isinstance(given, EventArrived) and given.causation_id is not None:
            return replace(given, causation_id=self.ids[given.causation_id])
        return given


@settings(max_examples=300, derandomize=True, deadline=None)
@given(saga=sagas(), history=st.lists(happenings, max_size=25), moment=st.integers(0, 25))
def test_a_migrated_instance_sends_what_it_would_have_sent(
    saga: Saga[Work], history: list[Happening], moment: int
) -> None:
    """Brought to a version with other names and nothing else, at any point of any history: the same commands, those
    of steps it had begun under the same ids, and the same end.
    """
    newer = work_saga(
        *[_renamed(stage) for stage in saga.steps],
        version=2,
        cancel_on=saga.cancel_on,
        migrations=(Migration(saga, _same, steps={name: _now_called(name) for name in saga.stages}),),
    )
    twins = Twins(Play(saga), Play(saga))
    twins.take(twins.stays.arrival(Begun(id=7)))
    for number, happening in enumerate(history):
        if number == moment % len(history) and not twins.goes.current.status.terminal:
            twins.migrate(newer)
            event(f"migrated while {twins.goes.status}")
        twins.take(as_input(twins.stays, happening))
        stays, goes = twins.stays, twins.goes
        assert (stays.status, stays.current.deadline) == (goes.status, goes.current.deadline)
        assert goes.state == fold(None, goes.facts)
