"""A bundle: one recorded instance in one JSON file, with all that a replay needs and no database.

A bundle is sealed with a checksum over what it says, not over how it is laid out: indenting it afresh keeps the seal,
editing it breaks it. Who edits one on purpose seals it again (`sealed_again`), and the bundle says so from then on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from orchestrator.replay.bundle_file import (
    FORMAT,
    FORMAT_VERSION,
    BundleFile,
    DefinitionPart,
    InstancePart,
    ParkedPart,
    SagaPart,
    TransitionPart,
    checksum,
    sealed,
)
from orchestrator.replay.recorded import Recorded, RecordedTransition
from orchestrator.replay.unfit import excerpt, unfit


class InvalidBundle(ValueError):
    """A file is no bundle, or none that can be read here; one line that says what is wrong and how to mend it."""


@dataclass(frozen=True, slots=True)
class ParkedMessage:
    """An event that waited for the instance when the bundle was made. `body` is the message as it came."""

    message_id: UUID
    type: str
    queue: str
    body: str
    reason: str
    parked_at: datetime
    retry_at: datetime


@dataclass(frozen=True, slots=True)
class Bundle:
    """One recorded instance, and what its definition and its contracts were when it was recorded.

    `fingerprint` and `description` are those of `orchestrator.saga.fingerprint`; `schemas` holds the JSON Schema of
    every contract involved, by `order.created.v1`; `amends` is the version of Amends that made the bundle.
    """

    recorded: Recorded
    parked: tuple[ParkedMessage, ...]
    fingerprint: str
    description: Mapping[str, Any]
    schemas: Mapping[str, Mapping[str, Any]]
    amends: str
    redacted: bool = False
    edited: bool = False
    """Whether somebody has changed it by hand since, and said so."""


# -- writing -------------------------------------------------------------------------------------------------


def as_text(bundle: Bundle) -> str:
    """The bundle as its file holds it, sealed: the same bundle always gives the same text."""
    return sealed(_file(bundle).model_dump(mode="json"))


def write_bundle(bundle: Bundle, path: Path) -> None:
    """Write the bundle's file; raises OSError. A file that is there is written over."""
    path.write_text(as_text(bundle), "utf-8")


def _file(bundle: Bundle) -> BundleFile:
    recorded = bundle.recorded
    return BundleFile(
        amends=bundle.amends,
        redacted=bundle.redacted,
        edited=bundle.edited,
        saga=SagaPart(name=recorded.name, version=recorded.version),
        instance=InstancePart.model_validate(recorded, from_attributes=True),
        history=tuple(TransitionPart.model_validate(each, from_attributes=True) for each in recorded.transitions),
        parked=tuple(ParkedPart.model_validate(each, from_attributes=True) for each in bundle.parked),
        definition=DefinitionPart(fingerprint=bundle.fingerprint, description=dict(bundle.description)),
        schemas={name: dict(schema) for name, schema in bundle.schemas.items()},
    )


# -- reading -------------------------------------------------------------------------------------------------


def read_bundle(path: Path) -> Bundle:
    """The bundle in this file. Raises InvalidBundle."""
    content = _parsed(path)
    bundle = _bundle(path, content)
    if content.get("checksum") != checksum(content):
        raise InvalidBundle(
            f"{path} was changed after it was exported: its checksum does not fit what it says; "
            f"if that was on purpose, say so with `amends seal {path}`, otherwise export the saga again"
        )
    return bundle


def sealed_again(path: Path) -> str:
    """The text of an edited bundle with a checksum that fits, marked as edited; raises InvalidBundle."""
    content = _parsed(path)
    if content.get("checksum") != checksum(content):
        content["edited"] = True
    _bundle(path, content)
    return sealed(content)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise InvalidBundle(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidBundle(f"{path} is no text: byte {error.start} is not UTF-8; name a bundle's file") from error
    except json.JSONDecodeError as error:
        raise InvalidBundle(f"{path} {_no_json(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidBundle(f"{path} is no JSON as a bundle has it: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InvalidBundle(f'{path} is JSON, but no bundle: its "format" is not "{FORMAT}"; `amends export` makes one')
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        made = content.get("amends")
        raise InvalidBundle(
            f"{path} has bundle format {version}, made by Amends {made if isinstance(made, str) else excerpt(made)}; "
            f"this one reads formats up to {FORMAT_VERSION}: use that Amends, or export the saga with this one"
        )
    return content


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _no_json(error: json.JSONDecodeError) -> str:
    if not error.doc.strip():
        return "is empty; export the saga again"
    rest = error.doc[error.pos :].strip()
    if error.msg.startswith(("Unterminated string", "Invalid \\u")) and "\n" not in rest:
        rest = ""  # within a text
    if any(word.startswith(rest) for word in ("true", "false", "null", "-")):
        return f"ends in the middle, in line {error.doc.count(chr(10)) + 1}: it was cut off; export the saga again"
    return f"is no JSON: {error.msg} in line {error.lineno}, column {error.colno}"


def _bundle(path: Path, content: dict[str, Any]) -> Bundle:
    try:
        file = BundleFile.model_validate(content)
    except ValidationError as error:
        raise InvalidBundle(f"{path}: {unfit(error)}; export the saga again, or mend it") from error
    return Bundle(
        recorded=Recorded(
            name=file.saga.name,
            version=file.saga.version,
            transitions=tuple(RecordedTransition(**each.model_dump()) for each in file.history),
            **file.instance.model_dump(),
        ),
        parked=tuple(ParkedMessage(**each.model_dump()) for each in file.parked),
        fingerprint=file.definition.fingerprint,
        description=file.definition.description,
        schemas=file.schemas,
        amends=file.amends,
        redacted=file.redacted,
        edited=file.edited,
    )
