"""How states, inputs, facts and commands lie in the database: JSON, by names that never change.

A history alone says all that a replay needs: every input whole, every fact, every command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError
from pydantic_core import SchemaValidator, core_schema, from_json, to_json

from contracts.message import Command, Event, Message
from contracts.registry import Registry, in_words
from messaging.envelope import text_of
from orchestrator.saga import facts as f
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import Action, DeadlinePassed, EventArrived, Input, PersonActed, ReadFailed
from orchestrator.saga.state import Direction, SagaState, Send, Status, StepState, StepStatus
from orchestrator.texts import Said, moment, quoted

_KINDS: dict[type[f.Fact], str] = {
    f.Started: "started",
    f.DataChanged: "data_changed",
    f.CommandSent: "command_sent",
    f.WaitBegun: "wait_begun",
    f.StepSucceeded: "step_succeeded",
    f.StepSkipped: "step_skipped",
    f.StepRefused: "step_refused",
    f.StepInDoubt: "step_in_doubt",
    f.StepCompensated: "step_compensated",
    f.CompensationBegun: "compensation_begun",
    f.BecameStuck: "became_stuck",
    f.Resumed: "resumed",
    f.DeadlineMoved: "deadline_moved",
    f.Migrated: "migrated",
    f.Completed: "completed",
    f.Compensated: "compensated",
    f.Abandoned: "abandoned",
    f.CameLate: "came_late",
}
_uuid: Callable[[Any], UUID] = SchemaValidator(core_schema.uuid_schema()).validate_python
_FACTS = {name: kind for kind, name in _KINDS.items()}
_FIELDS = {kind: tuple(field.name for field in fields(kind) if field.compare) for kind in _KINDS}
MISSHAPEN = (ValueError, KeyError, TypeError, IndexError, AttributeError)
"""What reading JSON of another shape than was written may raise."""
T = TypeVar("T")


class CorruptHistory(Exception):
    """A stored state, input or fact cannot be read; says which."""


LONGEST = 80
"""Characters of what is wrong with stored JSON: it may be quoted in full there."""


def why_unreadable(error: Exception) -> str:
    """What stored JSON raised, in one line that does not go on for ever."""
    if isinstance(error, ValidationError):
        return in_words(error)
    said = " ".join(str(error).split())
    said = said if len(said) <= LONGEST else f"{said[: LONGEST - 1]}…"
    return said if isinstance(error, ValueError) else f"it has another shape ({type(error).__name__}: {said})"


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A command or event that a transition sent, as the history tells it."""

    id: UUID
    type: str
    version: int
    step: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One transition of one instance, read back."""

    seq: int
    at: datetime
    input: Input
    facts: tuple[f.Fact, ...]
    commands: tuple[SentMessage, ...]


# -- writing -------------------------------------------------------------------------------------------------


def dump_input(given: Input) -> str:
    """An input with everything in it."""
    if isinstance(given, EventArrived):
        return _dump_arrived(given)
    content: dict[str, Any]
    match given:
        case DeadlinePassed(at):
            content = {"kind": "deadline", "at": at}
        case ReadFailed(at, why):
            content = {"kind": "read_failed", "at": at, "why": why}
        case PersonActed(at, action, who, why, step, answer):
            content = {"kind": "person", "at": at, "action": action, "who": who, "why": why, "step": step}
            if answer is not None:
                content |= {"type": answer.wire_type, "version": answer.wire_version, "data": answer}
            if action is Action.RESCHEDULE:
                content["due"] = given.due
            if action is Action.MIGRATE:
                content |= {"from_version": given.from_version, "to_version": given.to_version}
    return to_json(content).decode()


def _dump_arrived(given: EventArrived) -> str:
    event = given.event
    # Whoever has made it has been told of it, if its values are of other types than its contract says.
    said = event.__pydantic_serializer__.to_json(event, by_alias=True, warnings=False).decode()
    causation = "null" if given.causation_id is None else f'"{text_of(given.causation_id)}"'
    return (
        f'{{"kind":"event","at":{moment(given.at, given.at.tzinfo)},'
        f'"message_id":"{given.id_text or text_of(given.message_id)}",'
        f'"source":{quoted(given.source)},"causation_id":{causation},'
        f'"type":{quoted(event.wire_type)},"version":{event.wire_version},"data":{said}}}'
    )


def dump_message(message: Message) -> str:
    """What a message says, as it is sent and as histories tell it."""
    # By alias, because that is how the reader's contract validates.
    return message.__pydantic_serializer__.to_json(message, by_alias=True).decode()


def dump_facts(facts: Sequence[f.Fact]) -> str:
    """Facts in order."""
    return f"[{','.join([_WRITERS[type(fact)](fact) for fact in facts])}]"


def _dump_fact(fact: Any) -> str:
    kind = type(fact)
    content = {"fact": _KINDS[kind]} | {name: getattr(fact, name) for name in _FIELDS[kind]}
    return to_json(content, serialize_unknown=False).decode()


def _dump_sent(fact: f.CommandSent) -> str:
    return _sent_text(fact.step, fact.direction, fact.round, fact.attempt, fact.due, fact.due.tzinfo)


@lru_cache(maxsize=256)  # a batch's commands fall due at a few moments
def _sent_text(step: str, direction: Direction, round: int, attempt: int, due: datetime, zone: object) -> str:
    return (
        f'{{"fact":"command_sent","step":{quoted(step)},"direction":"{direction}",'
        f'"round":{round},"attempt":{attempt},"due":{moment(due, zone)}}}'
    )


def _writer(kind: type[f.Fact]) -> Callable[[Any], str]:
    beginning = f'{{"fact":"{_KINDS[kind]}"'
    match _FIELDS[kind]:
        case ("step",):
            return lambda fact: f'{beginning},"step":{quoted(fact.step)}}}'
        case ("data",):
            return lambda fact: (
                f'{beginning},"data":{fact.text or to_json(fact.data, serialize_unknown=False).decode()}}}'
            )
        case ():
            return lambda _: f"{beginning}}}"
        case _:
            return _dump_sent if kind is f.CommandSent else _dump_fact


# Nearly all facts are of a few kinds: those are written without a dictionary, at a third of the price.
_WRITERS = {kind: _writer(kind) for kind in _KINDS}


def said(send: Send) -> Said:
    """The texts of a sent message."""
    return Said(text_of(send.id), dump_message(send.message))


def dump_sends(sends: Sequence[Send], texts: Sequence[Said] | None = None) -> str:
    """The messages a transition sent; `texts` is what `said` gives for each, where that is known already."""
    if not sends:
        return "[]"
    texts = [said(send) for send in sends] if texts is None else texts
    return f"[{','.join([_dump_send(send, each) for send, each in zip(sends, texts, strict=True)])}]"


def _dump_send(send: Send, texts: Said) -> str:
    message = send.message
    compensates = "null" if send.compensates is None else f'"{text_of(send.compensates)}"'
    kind = "command" if isinstance(message, Command) else "event"
    return (
        f'{{"id":"{texts.id}","step":{quoted(send.step)},"kind":"{kind}","compensates":{compensates},'
        f'"type":{quoted(message.wire_type)},"version":{message.wire_version},"data":{texts.data}}}'
    )


def dump_progress(state: SagaState) -> str:
    """Where the instance is, without its data."""
    before = "null" if state.before is None else f'"{state.before}"'
    steps = ",".join([f"{quoted(name)}:{_dump_step(step)}" for name, step in state.steps.items()])
    reason = to_json(state.reason_before).decode() if state.reason_before else '""'
    return f'{{"before":{before},"reason_before":{reason},"steps":{{{steps}}}}}'


def _dump_step(step: StepState) -> str:
    due = step.due
    common = _common_text(
        step.status, step.round, step.attempt, due, None if due is None else due.tzinfo, step.action_round
    )
    if step.made_from is None and not step.open_ended and step.sent_as is None:
        return f"{common}null]"
    made_from = "null" if step.made_from is None else to_json(step.made_from).decode()
    # What few instances have comes last, and only where they have it.
    rare = f",{to_json(step.open_ended).decode()},{quoted(step.sent_as)}" if step.open_ended or step.sent_as else ""
    return f"{common}{made_from}{rare}]"


@lru_cache(maxsize=512)  # steps that were settled at the first attempt, and what falls due with all of a batch
def _common_text(
    status: StepStatus, round: int, attempt: int, due: datetime | None, zone: object, action_round: int
) -> str:
    when = "null" if due is None else moment(due, zone)
    return f'["{status}",{round},{attempt},{when},{action_round},'


def dump_data(data: BaseModel | None) -> str:
    """The instance's own data."""
    # By alias, as the facts are and as it is read back.
    return "null" if data is None else data.__pydantic_serializer__.to_json(data, by_alias=True).decode()


_COMMON = 6
"""What is told of every step; the rest only of those few that have it."""


# -- reading -------------------------------------------------------------------------------------------------


def load_state(saga: Saga[Any], *, status: str, reason: str, data: str, progress: str) -> SagaState:
    """The state an instance's row holds; raises CorruptHistory."""
    try:
        content = from_json(progress)
        steps = {
            name: StepState(
                StepStatus(each[0]),
                _a(int, each[1]),
                _a(int, each[2]),
                _moment(each[3]),
                _a(int, each[4]),
                _data(each[5], saga),
                *(_rare(each[6:]) if len(each) > _COMMON else ()),
            )
            for name, each in content["steps"].items()
        }
        return SagaState(
            status=Status(status),
            data=None if data == "null" else saga.data.model_validate_json(data),
            steps=steps,
            reason=reason,
            before=Status(content["before"]) if content["before"] else None,
            reason_before=_a(str, content["reason_before"]),
        )
    except MISSHAPEN as error:
        raise CorruptHistory(f"the state of an instance of {saga!r} cannot be read: {why_unreadable(error)}") from error


def load_input(text: str, registry: Registry) -> Input:
    """An input as it was; raises CorruptHistory, UnknownMessage, InvalidMessage."""
    try:
        content = from_json(text)
        at = aware(content["at"])
        match content["kind"]:
            case "event":
                return EventArrived(
                    at,
                    _uuid(content["message_id"]),
                    _event(content, registry),
                    _a(str, content["source"]),
                    _uuid(content["causation_id"]) if content["causation_id"] else None,
                )
            case "deadline":
                return DeadlinePassed(at)
            case "read_failed":
                return ReadFailed(at, _a(str, content["why"]))
            case "person":
                answer = _event(content, registry) if "type" in content else None
                return PersonActed(
                    at,
                    Action(content["action"]),
                    _a(str, content["who"]),
                    _a(str, content["why"]),
                    _perhaps(str, content["step"]),
                    answer,
                    _moment(content.get("due")),
                    _perhaps(int, content.get("from_version")),
                    _perhaps(int, content.get("to_version")),
                )
            case other:
                raise CorruptHistory(f"unknown kind of input {str(other)[:LONGEST]!r}")
    except MISSHAPEN as error:
        raise CorruptHistory(f"an input cannot be read: {why_unreadable(error)}") from error


def load_facts(text: str, saga: Saga[Any] | None) -> tuple[f.Fact, ...]:
    """Facts as they were established by this version of the saga; without a saga, their data stays plain JSON.

    A migration is established by the version it leads to. Raises CorruptHistory.
    """
    try:
        return tuple(_fact(each, saga) for each in from_json(text))
    except MISSHAPEN as error:
        whose = "" if saga is None else f" of {saga!r}"
        raise CorruptHistory(f"a fact{whose} cannot be read: {why_unreadable(error)}") from error


def load_sends(text: str) -> tuple[SentMessage, ...]:
    """What a transition sent; raises CorruptHistory."""
    try:
        return tuple(
            SentMessage(
                UUID(each["id"]),
                _a(str, each["type"]),
                _a(int, each["version"]),
                _perhaps(str, each["step"]),
                _a(dict, each["data"]),
            )
            for each in from_json(text)
        )
    except MISSHAPEN as error:
        raise CorruptHistory(f"a sent message cannot be read: {why_unreadable(error)}") from error


def _data(value: Any, saga: Saga[Any] | None) -> Any:
    # As JSON, which is what it is: a strict model takes a UUID's text from there and not from Python.
    return value if saga is None or value is None else saga.data.model_validate_json(to_json(value))


def _event(content: Mapping[str, Any], registry: Registry) -> Event:
    message = registry.parse(content["type"], content["version"], content["data"])
    if not isinstance(message, Event):
        raise CorruptHistory(f"{content['type']} is no event")
    return message


def _fact(content: dict[str, Any], saga: Saga[Any] | None) -> f.Fact:
    kind = _FACTS[content.pop("fact")]
    for name, found in content.items():
        match name:
            case "data":
                # An instance that is migrated before it could start has none yet.
                content[name] = _data(found, saga)
            case "made_from":
                content[name] = {step: _data(each, saga) for step, each in found.items()}
            case "due":
                content[name] = _moment(found)
            case "direction":
                content[name] = Direction(found)
            case "gave_up":
                content[name] = tuple(_a(str, each) for each in _a(list, found))
            case "renamed":
                content[name] = {old: _a(str, new) for old, new in found.items()}
            case "round" | "attempt" | "from_version" | "to_version":
                content[name] = _a(int, found)
            case _:
                content[name] = _a(str, found)
    fact: f.Fact = kind(**content)
    return fact


def _moment(text: str | None) -> datetime | None:
    return None if text is None else aware(text)


def aware(text: str) -> datetime:
    """A moment as it was written; raises ValueError for one without a zone, which nothing could be compared with."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment


def _rare(each: Sequence[Any]) -> tuple[bool, str | None]:
    open_ended, sent_as = each
    return _a(bool, open_ended), _perhaps(str, sent_as)


def _a(kind: type[T], value: Any) -> T:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    return value


def _perhaps(kind: type[T], value: Any) -> T | None:
    return None if value is None else _a(kind, value)
