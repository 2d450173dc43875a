"""The envelope: CloudEvents 1.0 in structured JSON, with the native AMQP properties set beside it.

Three ways in: structured (`application/cloudevents+json`, what we write), binary (`cloudEvents:type` and the
like as headers, the data as body), and plain AMQP properties (message_id, type, correlation_id), so that any
client can talk to us.

Our extension attributes: `dataversion` (the contract's version), `correlationid` (the saga id), `causationid`
(the message that caused this one), `partitionkey` (the ordering key, a documented CloudEvents extension),
`compensates` (the id of the command that this command undoes), `redrives` (the id of the dead letter that is sent again
with this message), `traceparent`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from contracts.message import Message
from messaging.bus import Delivery
from messaging.strict_json import NotStrictJson, loads, storable

CONTENT_TYPE = "application/cloudevents+json"
MAX_BODY = 256 * 1024
MAX_HEADERS = 16 * 1024
MAX_ATTRIBUTE = 255
"""Bytes of an envelope attribute: what an AMQP short string holds."""

_PREFIXES = ("cloudEvents:", "cloudEvents_", "ce-", "ce_")
_FOREIGN_ID = uuid5(NAMESPACE_URL, "https://cloudevents.io/spec/v1.0#id")
_quote = json.encoder.encode_basestring_ascii


class MalformedMessage(Exception):
    """Bytes that are no message; `reason` is a word for programs, the text a sentence for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class MessageTooLarge(ValueError):
    """A message of ours that no reader would accept; put the bulk elsewhere and send a reference."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What stands around a message's data."""

    id: UUID
    type: str
    version: int
    source: str
    time: datetime
    correlation_id: str | None = None
    causation_id: str | None = None
    key: str | None = None
    compensates: UUID | None = None
    traceparent: str | None = None
    redrives: UUID | None = None


def encode(envelope: Envelope, message: Message) -> str:
    """The structured CloudEvent; raises MessageTooLarge past 256 KiB."""
    for name, text in (("source", envelope.source), ("key", envelope.key), ("correlation id", envelope.correlation_id)):
        if text is not None and len(text.encode()) > MAX_ATTRIBUTE:
            raise MessageTooLarge(
                f"{envelope.type}: its {name} has {len(text.encode())} bytes, more than {MAX_ATTRIBUTE}, "
                "which AMQP and every reader refuse; use a shorter one"
            )
    # By alias, because that is how the reader's contract validates.
    body = frame(envelope, message.__pydantic_serializer__.to_json(message, by_alias=True).decode())
    # In UTF-8 a character takes at most four bytes, so most bodies need no second look.
    if len(body) * 4 > MAX_BODY and len(body.encode()) > MAX_BODY:
        raise MessageTooLarge(
            f"{envelope.type} {envelope.id} has {len(body.encode())} bytes, more than {MAX_BODY}; "
            "store the bulk and send a reference to it"
        )
    return body


def frame(envelope: Envelope, data: str) -> str:
    """The structured CloudEvent round data that is JSON text already, whatever its size."""
    head = (
        f'{{"specversion":"1.0","id":"{envelope.id}","source":{_quote(envelope.source)},'
        f'"type":"{envelope.type}","time":"{stamp(envelope.time)}",'
        f'"datacontenttype":"application/json","dataversion":{envelope.version}'
    )
    parts = [head]
    for name, value in (
        ("correlationid", envelope.correlation_id),
        ("causationid", envelope.causation_id),
        ("partitionkey", envelope.key),
        ("compensates", envelope.compensates),
        ("traceparent", envelope.traceparent),
        ("redrives", envelope.redrives),
    ):
        if value is not None:
            parts.append(f',"{name}":{_quote(str(value))}')
    parts.append(f',"data":{data}}}')
    return "".join(parts)


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC, with a Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def decode(delivery: Delivery) -> tuple[Envelope, Any]:
    """The envelope of a delivery and its data as parsed JSON; raises MalformedMessage."""
    if len(delivery.body) > MAX_BODY:
        size = f"the body has {len(delivery.body)} bytes, more than {MAX_BODY}"
        raise MalformedMessage("oversized", delivery.malformed or size)
    if delivery.malformed is not None:
        raise MalformedMessage("malformed", delivery.malformed)
    _check_headers(delivery.headers)
    try:
        content = loads(delivery.body)
    except NotStrictJson as error:
        raise MalformedMessage("malformed", f"{error} (in the body)") from error
    if is_structured(delivery):
        if not isinstance(content, dict):
            raise MalformedMessage("malformed", "a structured CloudEvent is a JSON object")
        return _envelope(content), content.get("data")
    attributes = _binary_attributes(delivery.headers)
    if "type" not in attributes:
        attributes |= _native_attributes(delivery)
    return _envelope(attributes), content


def is_structured(delivery: Delivery) -> bool:
    """Whether the body holds the envelope too, and not the data alone."""
    return (delivery.content_type or "").partition(";")[0].strip().lower() == CONTENT_TYPE


def decode_stored(body: str) -> tuple[Envelope, Any]:
    """The same for a body we stored ourselves (deferred, parked); raises MalformedMessage too."""
    try:
        content = loads(body.encode())
    except NotStrictJson as error:
        raise MalformedMessage("malformed", f"{error} (in the body)") from error
    if not isinstance(content, dict):
        raise MalformedMessage("malformed", "a structured CloudEvent is a JSON object")
    return _envelope(content), content.get("data")


def _check_headers(headers: Mapping[str, object]) -> None:
    size = 0
    for name, value in headers.items():
        if name.upper() in {"CC", "BCC"}:
            # RabbitMQ 3.10 routes these past the sender's topic permissions.
            raise MalformedMessage("forbidden_header", f"the header {name} is refused")
        size += len(name) + len(str(value))
    if size > MAX_HEADERS:
        raise MalformedMessage("oversized", f"the headers have {size} characters, more than {MAX_HEADERS}")


def _binary_attributes(headers: Mapping[str, object]) -> dict[str, Any]:
    return {
        name[len(prefix) :]: value for name, value in headers.items() for prefix in _PREFIXES if name.startswith(prefix)
    }


def _native_attributes(delivery: Delivery) -> dict[str, Any]:
    moment = delivery.timestamp or datetime(1970, 1, 1, tzinfo=UTC)
    return {
        "specversion": "1.0",
        "id": delivery.message_id,
        "type": delivery.type or delivery.routing_key,
        "source": delivery.app_id or "amqp",
        "time": stamp(moment),
        "correlationid": delivery.correlation_id,
        "dataversion": delivery.headers.get("dataversion", 1),
    }


def _envelope(found: Mapping[str, Any]) -> Envelope:
    if found.get("specversion") != "1.0":
        raise MalformedMessage("malformed", "specversion is not 1.0: this is no CloudEvent we know")
    source = _text(found, "source") or ""
    identity = _text(found, "id")
    wire_type = _text(found, "type")
    if not identity or not wire_type or not source:
        raise MalformedMessage("malformed", "a message needs an id, a type and a source")
    version = found.get("dataversion", 1)
    if isinstance(version, str) and version.isascii() and version.isdigit() and len(version) < 6:
        version = int(version)
    if not isinstance(version, int) or isinstance(version, bool):
        raise MalformedMessage("malformed", "dataversion is not a number")
    compensates = _text(found, "compensates")
    return Envelope(
        id=_identity(identity, source),
        type=wire_type,
        version=version,
        source=source,
        time=_moment(_text(found, "time")),
        correlation_id=_text(found, "correlationid"),
        causation_id=_text(found, "causationid"),
        key=_text(found, "partitionkey"),
        compensates=_identity(compensates, source) if compensates else None,
        traceparent=_text(found, "traceparent"),
        redrives=_letter(found),
    )


def _text(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_ATTRIBUTE:
        raise MalformedMessage("malformed", f"the attribute {name} is no text of at most {MAX_ATTRIBUTE} bytes")
    if value != storable(value):
        # Headers and properties have not passed the JSON reader.
        raise MalformedMessage("malformed", f"the attribute {name} contains NUL or a lone surrogate")
    if len(value.encode()) > MAX_ATTRIBUTE:
        raise MalformedMessage("malformed", f"the attribute {name} is no text of at most {MAX_ATTRIBUTE} bytes")
    return value


def _identity(text: str, source: str) -> UUID:
    """CloudEvents ids are any text, unique within their source; ours are UUIDs already."""
    try:
        return UUID(text)
    except ValueError:
        return uuid5(_FOREIGN_ID, f"{source}\n{text}")


def _letter(found: Mapping[str, Any]) -> UUID | None:
    text = _text(found, "redrives")
    try:
        return UUID(text) if text else None
    except ValueError:
        return None  # somebody else's attribute of that name


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime(1970, 1, 1, tzinfo=UTC)
    try:
        moment = datetime.fromisoformat(text)
        # Raises OverflowError for a year-1 moment east of Greenwich.
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise MalformedMessage("malformed", f"time {text[:40]!r} is no RFC 3339 moment") from error
