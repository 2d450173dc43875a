"""Freezing contracts: the JSON Schema of a message version, once published, only ever grows by optional fields.

Somebody may still hold a message of every version: in a queue, an outbox, a history. So a schema that was frozen is
compared with what the class says today, and a change that would break a reader or a writer is refused: give the class
another version and an upcaster instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from contracts.message import Command, Message

Schema = Mapping[str, Any]
_DECORATION = frozenset({"title", "description", "examples", "$id", "$defs", "required", "properties"})
_PLACEHOLDER = object()


def messages_of(modules: Iterable[ModuleType]) -> tuple[type[Message], ...]:
    """The messages with a wire type that these modules define, ordered by wire type and version."""
    found = {
        (value.wire_type, value.wire_version): value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Message) and value.wire_type
        if value.__module__ == module.__name__
    }
    return tuple(found[name] for name in sorted(found))


def file_name(message: type[Message]) -> str:
    """Where its schema is kept: `order.created.v1.json`."""
    return f"{message.wire_type}.v{message.wire_version}.json"


def schema_of(message: type[Message]) -> dict[str, Any]:
    """Its JSON Schema; `x-amends` holds what JSON Schema has no word for."""
    schema = {"$id": f"urn:amends:{message.wire_type}:v{message.wire_version}"} | message.model_json_schema()
    about: dict[str, Any] = {"kind": "event", "key": message.key_field}
    if issubclass(message, Command):
        about["kind"] = "command"
        about["answers"] = [event.wire_type for event in message.answers()]
    return schema | {"x-amends": about}


def as_text(schema: Schema) -> str:
    """A schema as it lies in its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def breaks(frozen: Schema, current: Schema) -> list[str]:
    """What in `current` would break somebody who reads or writes by `frozen`, one sentence each."""
    return list(_breaks("", frozen, current, frozen, current))


def _breaks(place: str, old: Any, new: Any, old_root: Schema, new_root: Schema) -> Iterator[str]:
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for before, after in zip(old, new, strict=True):
            yield from _breaks(place, before, after, old_root, new_root)
    elif isinstance(old, dict) and isinstance(new, dict):
        yield from _changed_fields(place, old, new, old_root, new_root)
        for name in sorted((old.keys() | new.keys()) - _DECORATION):
            before, after = old.get(name, _PLACEHOLDER), new.get(name, _PLACEHOLDER)
            yield from _breaks(_join(place, name), before, after, old_root, new_root)
    elif old != new:
        yield f"{place} was {_short(old)} and is {_short(new)}"


def _changed_fields(place: str, old: Any, new: Any, old_root: Schema, new_root: Schema) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    needed_before, needed_after = set(old.get("required", ())), set(new.get("required", ()))
    for name, field in before.items():
        here = _join(place, name)
        if name not in after:
            yield f"{here} is gone"
        elif name in needed_after - needed_before:
            yield f"{here} was optional and is required: older messages may lack it"
        elif name in needed_before - needed_after:
            yield f"{here} was required and is optional: older readers insist on it"
        else:
            yield from _breaks(here, field, after[name], old_root, new_root)
    for name in after:
        if name not in before and name in needed_after:
            yield f"{_join(place, name)} is new and required: older messages lack it; give it a default"


def _resolved(schema: Any, root: Schema) -> Any:
    while isinstance(schema, dict) and "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]] | {
            name: value for name, value in schema.items() if name != "$ref"
        }
    return schema


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _short(value: object) -> str:
    return "not there" if value is _PLACEHOLDER else json.dumps(value)


class Freezer:
    """A directory of frozen schemas and what the classes of today say against it."""

    def __init__(self, directory: Path, messages: Iterable[type[Message]]) -> None:
        self._directory = directory
        self._messages = {file_name(message): message for message in messages}

    def refusals(self) -> list[str]:
        """Why today's classes cannot be published, one sentence each: which message, what, and what to do."""
        found = []
        for path in sorted(self._directory.glob("*.json")):
            message = self._messages.get(path.name)
            if message is None:
                found.append(
                    f"{path.name}: no class speaks this any more, but messages of it may still be on their way; "
                    "keep the class and add an upcaster"
                )
                continue
            for what in breaks(json.loads(path.read_text("utf-8")), schema_of(message)):
                found.append(
                    f"{path.name}: {what}; restore it, or give {message.__name__} "
                    f"version={message.wire_version + 1} and add an upcaster"
                )
        return found

    def outdated(self) -> list[str]:
        """The names of the files that are missing, or that say less than the classes do."""
        return [name for name, message in self._messages.items() if self._frozen(name) != as_text(schema_of(message))]

    def write(self) -> list[str]:
        """Write what is outdated; returns the names of the files. Ask for `refusals` first."""
        names = self.outdated()
        for name in names:
            (self._directory / name).write_text(as_text(schema_of(self._messages[name])), "utf-8")
        return names

    def _frozen(self, name: str) -> str | None:
        path = self._directory / name
        return path.read_text("utf-8") if path.exists() else None
