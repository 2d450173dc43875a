"""Which command an event answers: the one expected just before, or the only one that can be meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from contracts.message import Command, Event
from orchestrator.saga.state import Direction, SagaState, awaited_command_id
from orchestrator.saga.steps import Cancel, Start, Step, Wait
from orchestrator.testing.expectations import Ledger
from orchestrator.testing.playing import Playing
from orchestrator.testing.telling import standing


@dataclass(frozen=True, slots=True)
class Asked:
    """A command somebody may answer: its id, its step, its class."""

    id: UUID
    step: str
    command: type[Command[Any, Any]]

    def succeeds_with(self, event: Event) -> bool:
        return _same(self.command.success_type, event)

    def fails_with(self, event: Event) -> bool:
        return _same(self.command.failure_type, event)


class Answering:
    """Finds the command an event answers, and hands the event to the instance."""

    def __init__(self, playing: Playing[Any], ledger: Ledger) -> None:
        self._playing = playing
        self._ledger = ledger

    def answer(self, event: Event, to: str | None) -> None:
        """Success."""
        __tracebackhide__ = True
        self._check_step(to)
        found = [each for each in self._under_way() if each.succeeds_with(event)]
        if not found and any(each.fails_with(event) for each in self._under_way()):
            self._ledger.fail(f"{type(event).__name__} is how a command is refused; write .refuses(...)")
        self._hand_over(event, found, to)

    def refuse(self, event: Event, to: str | None) -> None:
        """A business refusal."""
        __tracebackhide__ = True
        self._check_step(to)
        found = [each for each in self._under_way() if each.fails_with(event)]
        if not found and any(each.succeeds_with(event) for each in self._under_way()):
            self._ledger.fail(f"{type(event).__name__} means success; write .answers(...)")
        self._hand_over(event, found, to)

    def answer_late(self, event: Event, to: str | None) -> None:
        """An answer nobody waits for any more."""
        __tracebackhide__ = True
        self._check_step(to)
        awaited = {each.id for each in self._under_way()}
        found = [each for each in self._sent() if each.id not in awaited and _answers(each, event)]
        if not found and any(_answers(each, event) for each in self._under_way()):
            self._ledger.fail(
                f"{type(event).__name__} is not late: it is waited for; write .answers(...) or .refuses(...)"
            )
        self._hand_over(event, found, to)

    def receive(self, event: Event) -> None:
        """An event that answers no command."""
        __tracebackhide__ = True
        saga = self._playing.saga
        keys: list[Start[Any] | Wait[Any] | Cancel[Any]] = [saga.starts_on, *saga.waits]
        if saga.cancel_on is not None:
            keys.append(saga.cancel_on)
        heard = [each for each in keys if _same(each.event, event)]
        if not heard:
            names = ", ".join(each.event.__name__ for each in keys)
            hint = "; to answer a command, write .answers(...)" if _any_answer(self._sent(), event) else ""
            self._ledger.fail(f"{saga!r} does not listen for {type(event).__name__}, only for {names}{hint}")
        key = str(heard[0].key(event))
        if key != self._playing.key:
            self._ledger.fail(f"{type(event).__name__} is for the instance {key}; this one is {self._playing.key}")
        self._ledger.turn()
        self._playing.event(event)
        self._ledger.note()

    # -- which one -------------------------------------------------------------------------------------------

    def _hand_over(self, event: Event, found: Sequence[Asked], to: str | None) -> None:
        __tracebackhide__ = True
        chosen = [each for each in found if to in (None, each.step)]
        if to is None and len(chosen) > 1:
            chosen = [each for each in chosen if each.id == self._ledger.last] or chosen
        if not chosen:
            self._ledger.fail(self._nobody(event, to))
        if len(chosen) > 1:
            steps = ", ".join(each.step for each in chosen)
            self._ledger.fail(
                f"{type(event).__name__} may answer several commands, of the steps {steps}: expect the one you mean "
                f'just before, or say to="{chosen[0].step}"'
            )
        self._ledger.turn()
        asked = chosen[0]
        self._playing.event(event, asked.id, uuid5(asked.id, "0"))
        self._ledger.note()

    def _nobody(self, event: Event, to: str | None) -> str:
        name = type(event).__name__
        if to is not None:
            return f"{to} has no command under way that {name} answers: the saga is {standing(self._playing)}"
        hint = ""
        if _any_answer(self._sent(), event):
            hint = "; nobody waits for that answer any more: if that is what you mean, write .answers_late(...)"
        elif any(
            _same(each.event, event) for each in (*self._playing.saga.waits, self._playing.saga.cancel_on) if each
        ):
            hint = "; it is an event the saga listens for: write .receives(...)"
        return f"{name} answers no command that is under way{hint}"

    def _check_step(self, to: str | None) -> None:
        __tracebackhide__ = True
        stages = self._playing.saga.stages
        if to is not None and to not in stages:
            self._ledger.fail(f"there is no step {to!r} in {self._playing.saga!r}; it has {', '.join(stages)}")

    def _under_way(self) -> list[Asked]:
        state = self._playing.state or SagaState()
        found = []
        for name in state.current:
            if not isinstance(self._playing.saga.stages.get(name), Step):
                continue
            step = state.steps[name]
            identity = awaited_command_id(self._playing.id, name, step)
            if identity is None:
                continue
            back = step.awaiting is Direction.COMPENSATION
            commands = self._playing.saga.compensations if back else self._playing.saga.commands
            found.append(Asked(identity, name, commands[name]))
        return found

    def _sent(self) -> list[Asked]:
        found = {
            send.id: Asked(send.id, send.step, type(send.message))
            for send in self._ledger.sends
            if send.step is not None and isinstance(send.message, Command)
        }
        return list(found.values())


def _same(kind: type[Event] | None, event: Event) -> bool:
    # By wire type, not by class, as in the machine.
    return kind is not None and kind.wire_type == event.wire_type


def _answers(asked: Asked, event: Event) -> bool:
    return asked.succeeds_with(event) or asked.fails_with(event)


def _any_answer(asked: Iterable[Asked], event: Event) -> bool:
    return any(_answers(each, event) for each in asked)
