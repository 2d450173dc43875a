"""Whether stored messages and data still parse under the contracts of this checkout, and still mean the same.

What Amends itself has written (saga data, histories, outbox) must read back to what was written: a field that is
stored and has no place in the contract any more would be lost, one that came later must have a default. What others
have written (parked events, dead letters) must parse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from contracts.registry import InvalidMessage, Registry, UnknownMessage
from messaging.envelope import MalformedMessage, decode_stored
from orchestrator import history
from orchestrator.changed import MISSING, Changed, changes
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.definition import Saga


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something stored that does not fit. `where` is the table, `row` names the row, `sentence` what is wrong."""

    where: str
    row: str
    type: str
    sentence: str


def in_history(recorded: Recorded, registry: Registry) -> Iterator[Trouble]:
    """What came in and what was sent, in every transition. What was sent is read elsewhere: here it may be unknown."""
    for line in recorded.transitions:
        row = f"{recorded.id} #{line.seq}"
        for read, text in ((_came, line.input), (_sent, line.commands)):
            try:
                contents = read(text)
            except (ValueError, TypeError) as error:
                yield Trouble("saga_history", row, "", f"transition {line.seq} cannot be read: {_line(error)}")
                continue
            for wire_type, version, data in contents:
                if read is _sent and not registry.speaks(wire_type):
                    continue
                sentence = _written(wire_type, version, data, registry)
                if sentence is not None:
                    yield Trouble("saga_history", row, wire_type, sentence)


def in_data(recorded: Recorded, saga: Saga[Any]) -> Iterator[Trouble]:
    """The instance's own data."""
    if recorded.data == "null":
        return
    try:
        written = history.dump_data(saga.data.model_validate_json(recorded.data))
    except (ValueError, KeyError, TypeError, IndexError) as error:  # as a row is read: its validators are the user's
        yield Trouble(
            "saga", str(recorded.id), saga.name, f"the data does not fit {saga.data.__name__}: {_line(error)}"
        )
        return
    sentence = _changed(from_json(recorded.data), from_json(written))
    if sentence is not None:
        yield Trouble("saga", str(recorded.id), saga.name, sentence)


def in_body(where: str, row: str, body: str, registry: Registry, *, ours: bool) -> Trouble | None:
    """A whole stored message; `ours` where this orchestrator has written it, so that nothing in it may get lost.

    A type that nobody here speaks is no trouble: dead letters of other services are not ours to read.
    """
    try:
        envelope, data = decode_stored(body)
    except MalformedMessage as error:
        return Trouble(where, row, "", f"cannot be read: {_line(error)}")
    if not ours and not registry.speaks(envelope.type):
        return None
    sentence = _written(envelope.type, envelope.version, data, registry, ours=ours)
    return None if sentence is None else Trouble(where, row, envelope.type, sentence)


_Content = tuple[str, int, Any]
"""Wire type, version and data of a message, as a history holds it."""


def _came(text: str) -> list[_Content]:
    """The message of an input, where it has one; raises ValueError or TypeError where Amends writes no such text."""
    given = from_json(text)
    if not isinstance(given, dict):
        raise TypeError("an input is no JSON object")
    return [_content(given)] if "type" in given else []


def _sent(text: str) -> list[_Content]:
    """The messages that a transition sent; raises ValueError or TypeError where Amends writes no such text."""
    sent = from_json(text)
    if not isinstance(sent, list):
        raise TypeError("what was sent is no JSON list")
    return [_content(each) for each in sent]


def _content(told: object) -> _Content:
    match told:
        case {"type": str(wire_type), "version": int(version), "data": data}:
            return wire_type, version, data
    raise ValueError("a message without type, version or data")


def _written(wire_type: str, version: int, data: Any, registry: Registry, *, ours: bool = True) -> str | None:
    try:
        message = registry.parse(wire_type, version, data)
    except (UnknownMessage, InvalidMessage) as error:
        return _line(error)
    if not ours or message.wire_version != version:
        return None  # an upcaster says what the old version means; its text is another one by design
    text = message.__pydantic_serializer__.to_json(message, by_alias=True)
    sentence = None if text == to_json(data) else _changed(data, from_json(text))
    return None if sentence is None else f"{wire_type} v{version}: {sentence}"


def _changed(stored: Any, read: Any) -> str | None:
    """What would be lost or read as something else; a field that is filled in by a default is neither."""
    found = [each for each in changes(stored, read) if each.before is not MISSING]
    if not found:
        return None
    return "; ".join(_told(each) for each in found[:3]) + ("; …" if len(found) > 3 else "")


def _told(change: Changed) -> str:
    if change.after is MISSING:
        return f"{change.path} is stored and has no place in the contract any more"
    kinds = type(change.before).__name__, type(change.after).__name__
    as_kind = f" ({kinds[0]}, now {kinds[1]})" if kinds[0] != kinds[1] else ""
    return f"{change.path} is read as something else{as_kind}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
