"""How a bundle lies in its file: JSON that people can read and compare, with a checksum over what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

FORMAT = "amends.bundle"
FORMAT_VERSION = 1


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _unpacked(text: str) -> object:
    """Stored JSON, so that people can read it; the text itself where it would not come back letter by letter."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value if not isinstance(value, str) and _compact(value) == text else text


def _packed(value: object) -> str:
    return value if isinstance(value, str) else _compact(value)


StoredJson = Annotated[str, BeforeValidator(_packed), PlainSerializer(_unpacked, when_used="json")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SagaPart(_Part):
    """Which saga it is."""

    name: str
    version: int


class InstancePart(_Part):
    """The instance's row."""

    id: UUID
    key: str
    status: str
    step: str
    reason: str
    data: StoredJson
    progress: StoredJson
    started_at: AwareDatetime
    updated_at: AwareDatetime
    deadline: AwareDatetime | None


class TransitionPart(_Part):
    """One row of its history."""

    seq: int
    at: AwareDatetime
    input: StoredJson
    facts: StoredJson
    commands: StoredJson


class ParkedPart(_Part):
    """One event that is parked for it."""

    message_id: UUID
    type: str
    queue: str
    body: StoredJson
    reason: str
    parked_at: AwareDatetime
    retry_at: AwareDatetime


class DefinitionPart(_Part):
    """The definition when the instance was recorded."""

    fingerprint: str
    description: dict[str, Any]


def _gapless(history: tuple[TransitionPart, ...]) -> tuple[TransitionPart, ...]:
    numbers = [each.seq for each in history]
    if numbers != list(range(1, len(numbers) + 1)):
        wrong = next((place for place, number in enumerate(numbers, 1) if number != place), 0)
        found = f"number {wrong} of them is {numbers[wrong - 1]}" if numbers else "there is none"
        raise ValueError(f"its transitions count 1, 2, 3, …, but {found}")
    return history


class BundleFile(_Part):
    """The whole file; `checksum` is of everything else, however it is laid out."""

    format: Literal["amends.bundle"] = "amends.bundle"
    format_version: Literal[1] = 1
    checksum: str = ""
    amends: str
    redacted: bool
    edited: bool
    saga: SagaPart
    instance: InstancePart
    history: Annotated[tuple[TransitionPart, ...], AfterValidator(_gapless)]
    parked: tuple[ParkedPart, ...]
    definition: DefinitionPart
    schemas: dict[str, dict[str, Any]]


def checksum(content: Mapping[str, Any]) -> str:
    """Over parsed JSON, so that laying it out afresh changes nothing."""
    said = {name: value for name, value in content.items() if name != "checksum"}
    # In ASCII: a lone surrogate in an edited file has no UTF-8.
    return "sha256:" + hashlib.sha256(json.dumps(said, sort_keys=True).encode("ascii")).hexdigest()


def sealed(content: Mapping[str, Any]) -> str:
    """The text of the file, with the checksum that fits."""
    return json.dumps({**content, "checksum": checksum(content)}, indent=2, ensure_ascii=False) + "\n"
