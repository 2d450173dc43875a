"""What a fork changes of a history: each edit is a value, and what it does to the inputs that are still to come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from contracts.message import Event
from contracts.registry import InvalidMessage, Registry, UnknownMessage
from messaging.strict_json import NotStrictJson, loads
from orchestrator.saga.inputs import DeadlinePassed, EventArrived, Input


class CannotFork(ValueError):
    """An edit that this history does not allow; says which and why."""


@dataclass(frozen=True, slots=True)
class Item:
    """An input still to come. `origin` is the transition that recorded it; None for what only the fork has."""

    given: Input
    origin: int | None
    how: str = ""
    """What was done to it: edited, duplicated, swapped, injected. Empty: as recorded."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The input of this transition never comes."""

    seq: int

    def apply(self, items: Sequence[Item], registry: Registry) -> list[Item]:
        place = _place(items, self.seq, "--drop")
        if isinstance(items[place].given, DeadlinePassed):
            raise CannotFork(
                f"--drop {self.seq}: that is a deadline, which passes by itself unless something comes first; "
                "--inject that instead"
            )
        return [*items[:place], *items[place + 1 :]]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The input of this transition comes twice. (An inbox would drop the second: here the saga itself gets it.)"""

    seq: int

    def apply(self, items: Sequence[Item], registry: Registry) -> list[Item]:
        place = _place(items, self.seq, "--duplicate")
        return [*items[: place + 1], replace(items[place], origin=None, how="duplicated"), *items[place + 1 :]]


@dataclass(frozen=True, slots=True)
class Swap:
    """Two inputs come in each other's place, and at each other's time."""

    one: int
    other: int

    def apply(self, items: Sequence[Item], registry: Registry) -> list[Item]:
        if self.one == self.other:
            raise CannotFork(f"--swap {self.one} {self.other}: that is one input; name two")
        first, second = _place(items, self.one, "--swap"), _place(items, self.other, "--swap")
        swapped = list(items)
        for place, other in ((first, items[second]), (second, items[first])):
            swapped[place] = replace(other, given=replace(other.given, at=items[place].given.at), how="swapped")
        return swapped


@dataclass(frozen=True, slots=True)
class Change:
    """A field of an input's event is something else: `path` may be dotted, `value` is JSON or else text."""

    seq: int
    path: str
    value: str

    def apply(self, items: Sequence[Item], registry: Registry) -> list[Item]:
        place = _place(items, self.seq, "--edit")
        given = items[place].given
        if not isinstance(given, EventArrived):
            raise CannotFork(f"--edit {self.seq}: that input is no event and carries nothing to edit")
        data, before = (given.event.model_dump(mode="json", by_alias=True) for _ in range(2))
        _put(data, self.path.split("."), _value(self.value, f"--edit {self.seq}"), f"--edit {self.seq}")
        event = parsed(registry, given.event.wire_type, given.event.wire_version, data, f"--edit {self.seq}")
        if event.model_dump(mode="json", by_alias=True) == before:
            raise CannotFork(f"--edit {self.seq}: {self.path} had this value already, so nothing would differ")
        edited = replace(items[place], given=replace(given, event=event), how="edited")
        return [*items[:place], edited, *items[place + 1 :]]


Edit = Drop | Duplicate | Swap | Change


def parsed(registry: Registry, wire_type: str, version: int, data: object, option: str) -> Event:
    """An event that fits its contract; raises CannotFork, naming the option that gave it."""
    try:
        event = registry.parse(wire_type, version, data)
    except (UnknownMessage, InvalidMessage) as error:
        raise CannotFork(f"{option}: {error}") from error
    if not isinstance(event, Event):
        raise CannotFork(f"{option}: {wire_type} is a command; a saga hears events only")
    return event


def newest(registry: Registry, wire_type: str, option: str) -> int:
    """The newest version of an event that is known here."""
    versions = [each.wire_version for each in registry.messages() if each.wire_type == wire_type]
    if not versions:
        known = sorted({each.wire_type for each in registry.messages() if issubclass(each, Event)})
        raise CannotFork(f"{option}: no saga here hears {wire_type!r}; they hear {', '.join(known)}")
    return max(versions)


def _place(items: Sequence[Item], seq: int, option: str) -> int:
    for place, item in enumerate(items):
        if item.origin == seq:
            return place
    there = ", ".join(str(item.origin) for item in items if item.origin is not None) or "nothing"
    raise CannotFork(f"{option} {seq}: no such input after the point of the fork, only {there}; choose another --at")


def _put(data: Any, path: Sequence[str], value: Any, option: str) -> None:
    if not isinstance(data, dict):
        raise CannotFork(f"{option}: there is no field {path[0]!r}: what it would be in has no fields")
    if path[0] not in data:
        raise CannotFork(f"{option}: there is no field {path[0]!r}; there is {', '.join(data)}")
    if len(path) > 1:
        _put(data[path[0]], path[1:], value, option)
    else:
        data[path[0]] = value


def _value(text: str, option: str) -> Any:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text  # no JSON: the text itself
    try:
        return loads(text.encode())
    except NotStrictJson as error:
        raise CannotFork(f"{option}: the value cannot be taken: {error}") from error
