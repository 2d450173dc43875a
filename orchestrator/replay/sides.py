"""The two sides of one transition as JSON: what was recorded, and what this checkout would have recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from contracts.message import Message
from contracts.registry import InvalidMessage, Registry, UnknownMessage
from orchestrator import history, words
from orchestrator.changed import Changed
from orchestrator.replay.shapes import meaningful
from orchestrator.saga.definition import Saga

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Side:
    """Facts and commands of one side. Raises ValueError where the texts are no JSON of their kind."""

    facts: tuple[Json, ...]
    commands: tuple[Json, ...]

    @classmethod
    def of(cls, facts: str, commands: str) -> Side:
        found, sent = _objects(facts, {"fact"}), _objects(commands, {"id", "type", "version", "data"})
        return cls(found, sent)

    def fact(self, name: str) -> Json | None:
        """The first fact of this name."""
        return next((each for each in self.facts if each["fact"] == name), None)

    @property
    def moves(self) -> tuple[Json, ...]:
        """What moved: the facts without data and moments."""
        return tuple(_move(each) for each in self.facts if each["fact"] != "data_changed")

    @property
    def types(self) -> dict[str, str]:
        """The wire type of what each step was sent."""
        return {each["step"]: each["type"] for each in self.commands if each["step"]}

    @property
    def data(self) -> Any:
        """The data the transition leaves, where it touches it; None elsewhere."""
        found = [each["data"] for each in self.facts if each["fact"] in {"started", "data_changed", "migrated"}]
        return found[-1] if found else None

    def told(self) -> tuple[str, ...]:
        """The whole side in words, a line for each fact and each event announced."""
        moved = [words.of_fact(each, self.types) for each in self.facts]
        announced = [f"announces {each['type']}" for each in self.commands if not each["step"]]
        return tuple([each for each in moved if each is not None] + announced)


def _move(fact: Json) -> Json:
    move = {name: value for name, value in fact.items() if name not in {"data", "due"}}
    if isinstance(fact.get("made_from"), dict):
        move["made_from"] = sorted(fact["made_from"])  # of which steps it is data
    return move


def _objects(text: str, wanted: set[str]) -> tuple[Json, ...]:
    found = from_json(text)
    if not isinstance(found, list) or not all(isinstance(each, dict) and wanted <= each.keys() for each in found):
        raise ValueError(f"it is no list of objects with {', '.join(sorted(wanted))}")
    return tuple(found)


def data_changes(recorded: Any, now: Any, saga: Saga[Any]) -> list[Changed]:
    """Where the data differs in meaning; raises ValueError where the recorded one does not fit any more."""

    def read(value: Any) -> str:
        return history.dump_data(None if value is None else saga.data.model_validate_json(to_json(value)))

    return meaningful(recorded, now, read)


def message_changes(recorded: Mapping[str, Any], now: Mapping[str, Any], registry: Registry) -> list[Changed]:
    """Where two messages of one id differ in meaning."""

    def read(value: Any) -> str:
        try:
            message: Message = registry.parse(recorded["type"], recorded["version"], value)
        except (UnknownMessage, InvalidMessage):
            return to_json(value).decode()
        return to_json(message).decode()

    return meaningful(recorded["data"], now["data"], read)
