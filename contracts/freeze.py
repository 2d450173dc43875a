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
from contracts.places import sealed_for

Schema = Mapping[str, Any]
# Words for people, and what is compared by itself.
_ELSEWHERE = frozenset({"title", "description", "examples", "deprecated", "$id", "$defs", "required", "properties"})
_ABOUT = "x-amends"
_SEALED = frozenset({"sealed", "carried"})
_SEALING = _SEALED | {"subject"}
_ABSENT = object()


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
    if message.subject_field is not None:
        about["subject"] = message.subject_field
        about["sealed"] = [each.path for each in sealed_for(message)]
        carried = {each.path: [f"{of.type} {of.field}" for of in each.carried] for each in sealed_for(message)}
        if any(carried.values()):
            about["carried"] = {path: sorted(said) for path, said in carried.items() if said}
    return schema | {_ABOUT: about}


def as_text(schema: Schema) -> str:
    """A schema as it lies in its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def breaks(frozen: Schema, current: Schema) -> list[str]:
    """What in `current` would break somebody who reads or writes by `frozen`, one sentence each."""
    return list(_Comparison(frozen, current).of("", frozen, current))


class _Comparison:
    """Of two schemas, following their references, each pair of them once."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old = old
        self._new = new
        self._followed: set[tuple[str, str]] = set()

    def of(self, place: str, old: Any, new: Any) -> Iterator[str]:
        """The changes between two parts that lie in one place."""
        references = (_reference(old), _reference(new))
        if any(references):
            if references in self._followed:
                return
            self._followed.add(references)
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            for before, after in zip(old, new, strict=True):
                yield from self.of(place, before, after)
        elif isinstance(old, dict) and isinstance(new, dict):
            yield from self._fields(place, old, new)
            own = _SEALED if place == _ABOUT else frozenset()
            if place == _ABOUT and "subject" in old:
                yield from self._sealed(old, new)
            for name in sorted((old.keys() | new.keys()) - _ELSEWHERE - own - _begun(place, old)):
                yield from self.of(_join(place, name), old.get(name, _ABSENT), new.get(name, _ABSENT))
        elif old != new:
            yield f"{place} was {_short(old)} and is {_short(new)}"

    def _sealed(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
        before, after = old.get("sealed", []), new.get("sealed", [])
        for path in before:
            if path not in after:
                yield f"{path} was sealed and is not, so what is under way does not open"
        for path, said in old.get("carried", {}).items():
            for each in said:
                if path in after and each not in new.get("carried", {}).get(path, []):
                    yield f"{each} was carried to {path} and is not, so what is under way does not open"
        for path in after:
            if path not in before and self._knew(path):
                yield f"{path} was not sealed and is, but older readers take no tokens there"

    def _knew(self, path: str) -> bool:
        """Whether a place is no newer than the old schema."""
        parts: list[Any] = [self._old]
        for name in path.split("."):
            parts = [inside for each in parts for inside in _inside(_resolved(each, self._old), name, self._old)]
        return bool(parts)

    def _fields(self, place: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed_before, needed_after = set(old.get("required", ())), set(new.get("required", ()))
        for name, field in before.items():
            here = _join(place, name)
            if name not in after:
                yield f"{here} is gone"
            elif name in needed_after - needed_before:
                yield f"{here} was optional and is required, but older messages may lack it"
            elif name in needed_before - needed_after:
                yield f"{here} was required and is optional, but older readers insist on it"
            else:
                yield from self.of(here, field, after[name])
        for name in sorted(after.keys() - before.keys()):
            here = _join(place, name)
            if name in needed_after:
                yield f"{here} is new and required, but older messages lack it"
            elif old.get("additionalProperties") is False:
                yield f"{here} is new, but older readers refuse fields they do not know"


def _inside(schema: Any, name: str, root: Schema) -> Iterator[Any]:
    """What lies in a field of this name, or (`*`) in an array or a mapping, by each of a place's types."""
    if not isinstance(schema, dict):
        return
    for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from _inside(_resolved(each, root), name, root)
    found = [schema.get("properties", {}).get(name)]
    if name == "*":
        found = [schema.get("items"), *schema.get("prefixItems", ()), schema.get("additionalProperties")]
    yield from (each for each in found if isinstance(each, dict))


def _begun(place: str, old: dict[str, Any]) -> frozenset[str]:
    """What a contract may begin to say of itself: values are sealed only once all of its readers take that."""
    return _SEALING if place == _ABOUT and "subject" not in old else frozenset()


def _reference(schema: Any) -> str:
    return str(schema.get("$ref", "")) if isinstance(schema, dict) else ""


def _resolved(schema: Any, root: Schema) -> Any:
    while reference := _reference(schema):
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        schema = root["$defs"][reference.rpartition("/")[2]] | beside
    return schema


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _short(value: object) -> str:
    return "not there" if value is _ABSENT else json.dumps(value)


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
            mend = (
                f"restore it, or leave {message.__name__} as it was and make a class with "
                f"version={message.wire_version + 1} and an upcaster"
            )
            broken = breaks(json.loads(path.read_text("utf-8")), schema_of(message))
            found.extend(f"{path.name}: {what}; {mend}" for what in broken)
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
