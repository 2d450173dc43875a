"""Given a saga and its start event, when this happens, then that: a test of a definition, with a virtual clock.

    given(FULFILL_ORDER, OrderCreated(...))
        .expect(AuthorizePayment).refuses(PaymentFailed(order_id=ORDER, reason="card_declined"))
        .expect(CancelOrder(order_id=ORDER, reason="card_declined")).answers(OrderCanceled(order_id=ORDER))
        .expect_compensated(FulfillmentFailed(order_id=ORDER, reason="card_declined"))

It runs the machine that the orchestrator runs, and nothing else: no database, no broker, no time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Generic, Literal, Self, TypeVar, cast

from pydantic import BaseModel

from contracts.message import Event, Message
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.saga.state import SagaState, Send, Status
from orchestrator.saga.steps import D, Kind, Step
from orchestrator.saga.transition import Transition, Verdict
from orchestrator.testing.answering import Answering
from orchestrator.testing.expectations import Ledger
from orchestrator.testing.playing import START, Moment, Playing
from orchestrator.testing.telling import listed, reason, standing, timeline

Deed = Literal[
    "retry",
    "skip",
    "compensate",
    "resolve",
    "cancel",
    "abandon",
    "reschedule",
    Action.RETRY,
    Action.SKIP,
    Action.COMPENSATE,
    Action.RESOLVE,
    Action.CANCEL,
    Action.ABANDON,
    Action.RESCHEDULE,
]
"""What `person` does: everything but a migration, which `migrates_to` does."""

E = TypeVar("E", bound=BaseModel)


def given(saga: Saga[D], event: Event, *, at: datetime = START) -> Scenario[D]:
    """A scenario of one instance that this event has just started; `at` is what its clock shows.

    Raises ValueError where the event does not start the saga.
    """
    start = saga.starts_on
    if event.wire_type != start.event.wire_type:
        raise ValueError(f"{saga!r} starts on {start.event.__name__}, not on {type(event).__name__}")
    return Scenario(Playing(saga, str(start.key(event)), at), event)


class Scenario(Generic[D]):
    """One instance under test. Everything but the properties returns the scenario itself, to be chained.

    What was sent need not all be expected: `expect_nothing` and `expect_no_others` ask for that. Each method raises
    ExpectationFailed where the saga, or the test, is wrong.
    """

    def __init__(self, playing: Playing[D], event: Event) -> None:
        self._playing = playing
        playing.event(event)
        self._ledger = Ledger(playing)
        self._answering = Answering(playing, self._ledger)

    # -- then ------------------------------------------------------------------------------------------------

    def expect(self, message: Message | type[Message]) -> Self:
        """This message, or one of this class, was sent.

        Expectations go forward in time; among the messages of one transition (a parallel group) their order is free.
        """
        __tracebackhide__ = True
        self._ledger.expect(message)
        return self

    def expect_nothing(self) -> Self:
        """What happened last has sent nothing, or nothing more than what was expected since."""
        __tracebackhide__ = True
        self._none(self._ledger.left_since(), "expected   nothing more to be sent")
        return self

    def expect_no_others(self) -> Self:
        """Every message of the whole scenario has been expected; a repetition of one that was needs no other."""
        __tracebackhide__ = True
        self._none(self._ledger.left_over(), "expected   every message that was sent to be named by an expectation")
        return self

    def expect_completed(self, event: Event | type[Event] | None = None) -> Self:
        """The saga has completed, and has announced it with this event."""
        __tracebackhide__ = True
        return self._ended(Status.COMPLETED, event)

    def expect_compensated(self, event: Event | type[Event] | None = None) -> Self:
        """Amends are made, and were announced with this event."""
        __tracebackhide__ = True
        return self._ended(Status.COMPENSATED, event)

    def expect_abandoned(self) -> Self:
        """A person has ended it as it was."""
        __tracebackhide__ = True
        return self._ended(Status.ABANDONED, None)

    def expect_stuck(self, because: str = "") -> Self:
        """A person must decide, for a reason with these words in it."""
        __tracebackhide__ = True
        self._is(Status.STUCK)
        if because not in self.reason:
            self._ledger.fail(f"expected   stuck because of {because!r}\nit is stuck because of {reason(self.reason)}")
        return self

    def expect_waiting(self, *steps: str) -> Self:
        """These steps, waits and delays are what the saga waits for, and nothing else."""
        __tracebackhide__ = True
        if sorted(steps) != sorted(self._state.current):
            self._ledger.fail(
                f"expected   to wait for {', '.join(steps) or 'nothing'}\nit is      {standing(self._playing)}"
            )
        return self

    def expect_late(self, because: str = "") -> Self:
        """What came last was too late: recorded, and nothing changed."""
        __tracebackhide__ = True
        return self._became(Verdict.LATE, because)

    def expect_parked(self, because: str = "") -> Self:
        """What came last is awaited by nobody yet, and kept until it is."""
        __tracebackhide__ = True
        return self._became(Verdict.PARKED, because)

    # -- when ------------------------------------------------------------------------------------------------

    def answers(self, event: Event, *, to: str | None = None) -> Self:
        """The participant answers its command with success.

        It is the command expected just before, or the only one under way that this event answers; `to` names the step
        where that is not enough.
        """
        __tracebackhide__ = True
        self._answering.answer(event, to)
        return self

    def refuses(self, event: Event, *, to: str | None = None) -> Self:
        """The participant refuses its command; which one, as for `answers`."""
        __tracebackhide__ = True
        self._answering.refuse(event, to)
        return self

    def answers_late(self, event: Event, *, to: str | None = None) -> Self:
        """A participant answers or refuses a command for which nobody waits any more."""
        __tracebackhide__ = True
        self._answering.answer_late(event, to)
        return self

    def receives(self, event: Event) -> Self:
        """An event comes that answers no command: one a wait waits for, one that cancels, the start once more."""
        __tracebackhide__ = True
        self._answering.receive(event)
        return self

    def advance(self, duration: timedelta) -> Self:
        """Time passes, and nobody says anything; each deadline on the way is taken up at its own moment."""
        if duration < timedelta(0):
            raise ValueError(f"{duration} is no time that can pass; time goes forward")
        self._ledger.turn()
        self._playing.pass_time(duration)
        self._ledger.note()
        return self

    def silent(self) -> Self:
        """Nobody answers for as long as it takes: until something is given up, has run out, or has passed."""
        __tracebackhide__ = True
        before = self._situation
        self._ledger.turn()
        while self._situation == before:
            self._check_that_silence_ends()
            self._playing.next_deadline()
        self._ledger.note()
        return self

    def person(
        self,
        action: Deed,
        step: str | None = None,
        *,
        answer: Event | None = None,
        due: timedelta | None = None,
        who: str = "a person",
        why: str = "a test",
        refused: str | None = None,
    ) -> Self:
        """A person decides: retry, skip (with an answer), compensate, resolve, cancel, abandon, reschedule.

        `due` is how long from now a rescheduled step has; without it, its deadline is revoked.

        With `refused`, it is not possible, for a reason with these words in it; otherwise it must be.
        """
        __tracebackhide__ = True
        if due is not None and action != Action.RESCHEDULE:
            raise ValueError(f"{action} moves no deadline; due= belongs to reschedule")
        deed = Action(action)
        if deed is Action.MIGRATE:
            raise ValueError("a migration needs the definition it goes to: .migrates_to(NEW_SAGA)")
        self._ledger.turn()
        playing = self._playing
        moment = None if due is None else playing.now + due
        transition = playing.take(PersonActed(playing.now, deed, who, why, step, answer, moment))
        self._ledger.note()
        self._possible(f"{action} by {who}", transition, refused)
        return self

    def migrates_to(
        self, saga: Saga[E], *, who: str = "a person", why: str = "a test", refused: str | None = None
    ) -> Scenario[E]:
        """A person brings the instance to another version of its saga, by the Migration which that one lists.

        With `refused`, it is not possible, for a reason with these words in it, and the instance stays as it is.
        Raises ValueError where this is not another version of the same saga.
        """
        __tracebackhide__ = True
        playing = self._playing
        if saga.name != playing.saga.name or saga.version == playing.saga.version:
            raise ValueError(f"{playing.saga.name!r} cannot migrate to {saga.name!r} v{saga.version}")
        self._ledger.turn()
        start = playing.saga.version
        crossing = PersonActed(playing.now, Action.MIGRATE, who, why, from_version=start, to_version=saga.version)
        transition = playing.migrate(saga, crossing)
        self._ledger.note()
        self._possible(f"migrate to v{saga.version} by {who}", transition, refused)
        return cast(Scenario[E], self)

    # -- what can be seen ------------------------------------------------------------------------------------

    @property
    def data(self) -> D:
        """What the saga knows now. Raises LookupError where its own code raised at the start."""
        if self._state.data is None:
            raise LookupError(f"{self._playing.saga!r} has no data: {reason(self.reason)}")
        data: D = self._state.data
        return data

    @property
    def status(self) -> str:
        """running, compensating, completed, compensated, stuck or abandoned."""
        return self._state.status.value

    @property
    def reason(self) -> str:
        """Why it goes back or is stuck."""
        return self._state.reason

    @property
    def steps(self) -> Mapping[str, str]:
        """What became of each step, wait and delay that was reached."""
        return {name: step.status.value for name, step in self._state.steps.items()}

    @property
    def now(self) -> datetime:
        """What the virtual clock shows."""
        return self._playing.now

    @property
    def due(self) -> timedelta | None:
        """How long until something happens by itself; None where nothing will."""
        deadline = self._state.deadline
        return None if deadline is None else deadline - self.now

    @property
    def sent(self) -> Sequence[Message]:
        """Every message sent so far, repetitions too."""
        return tuple(each.message for each in self._ledger.sends)

    @property
    def transitions(self) -> Sequence[Moment]:
        """Every input so far, with its verdict, its facts and what it sent."""
        return tuple(self._playing.moments)

    @property
    def recorded(self) -> Recorded:
        """The instance and its history as the orchestrator would have stored them."""
        return self._playing.recorded

    @property
    def timeline(self) -> str:
        """The story so far, in words."""
        return timeline(self._playing)

    def __repr__(self) -> str:
        return f"<Scenario: {self._playing.saga.name} is {standing(self._playing)}>"

    # -- working ---------------------------------------------------------------------------------------------

    @property
    def _state(self) -> SagaState:
        return self._playing.state or SagaState()

    @property
    def _situation(self) -> tuple[object, ...]:
        statuses = {name: step.status for name, step in self._state.steps.items()}
        return self._state.status, self._state.current, statuses

    def _check_that_silence_ends(self) -> None:
        __tracebackhide__ = True
        if self._state.deadline is None:
            self._ledger.fail(
                "expected   something to happen by itself\nbut        no deadline is set: it waits for ever"
            )
        stages = [self._playing.saga.stages.get(name) for name in self._state.current]
        for stage in stages:
            if isinstance(stage, Step) and stage.kind is not Kind.COMPENSABLE and self._state.status is Status.RUNNING:
                self._ledger.fail(
                    f"expected   {stage.name} to be given up\nbut        a {stage.kind.value} step never is: "
                    "its command is sent again for ever; say how long: .advance(minutes(5))"
                )

    def _possible(self, deed: str, transition: Transition, refused: str | None) -> None:
        __tracebackhide__ = True
        if (transition.verdict is Verdict.REFUSED) is (refused is None):
            expected = "to be possible" if refused is None else f"to be refused because of {refused!r}"
            note = f"it is refused: {reason(transition.note)}" if refused is None else "it was possible"
            self._ledger.fail(f"expected   {deed} {expected}\nbut        {note}")
        if refused is not None and refused not in transition.note:
            self._ledger.fail(f"expected   a refusal because of {refused!r}\nit was     {transition.note}")

    def _none(self, left: Sequence[Send], words: str) -> None:
        __tracebackhide__ = True
        if left:
            self._ledger.fail("\n".join((words, "but        these were", *(f"           {x}" for x in listed(left)))))

    def _is(self, status: Status) -> None:
        __tracebackhide__ = True
        if self._state.status is not status:
            self._ledger.fail(f"expected   {status.value}\nit is      {standing(self._playing)}")

    def _ended(self, status: Status, event: Event | type[Event] | None) -> Self:
        __tracebackhide__ = True
        self._is(status)
        if event is not None and not self._ledger.expected(event):
            self._ledger.expect(event)
        return self

    def _became(self, verdict: Verdict, because: str) -> Self:
        __tracebackhide__ = True
        last = self._ledger.came
        if last is None:
            self._ledger.fail(f"expected   what came last to be {verdict.value}\nbut        nothing came")
        if last.verdict is not verdict or because not in last.note:
            named = f" because of {because!r}" if because else ""
            note = f": {reason(last.note)}" if last.note else ""
            self._ledger.fail(
                f"expected   what came last to be {verdict.value}{named}\nit was     {last.verdict.value}{note}"
            )
        return self
