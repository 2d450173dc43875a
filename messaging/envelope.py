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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic_core import SchemaValidator, ValidationError, core_schema, to_json

from contracts.message import Message
from contracts.value import value
from messaging.bus import Delivery
from messaging.strict_json import NotStrictJson, loads, storable

CONTENT_TYPE = "application/cloudevents+json"
MAX_BODY = 256 * 1024
MAX_HEADERS = 16 * 1024
MAX_ATTRIBUTE = 255
"""Bytes of an envelope attribute: what an AMQP short string holds."""

_PREFIXES = ("cloudEvents:", "cloudEvents_", "ce-", "ce_")
_FOREIGN_ID = uuid5(NAMESPACE_URL, "https://cloudevents.io/spec/v1.0#id")
_TEXTS = (
    "source",
    "id",
    "type",
    "compensates",
    "time",
    "correlationid",
    "causationid",
    "partitionkey",
    "traceparent",
    "redrives",
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UUID_LENGTH = 36
_quote = json.encoder.encode_basestring_ascii
_parse_uuid = SchemaValidator(core_schema.uuid_schema()).validate_python


class MalformedMessage(Exception):
    """Bytes that are no message; `reason` is a word for programs, the text a sentence for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class MessageTooLarge(ValueError):
    """A message of ours that no reader would accept; put the bulk elsewhere and send a reference."""


@value
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
    text: str = field(default="", init=False, compare=False, repr=False)
    """The id as it stands in every message, where somebody has said so (`known_as`); never in what `replace` makes."""


_set_text: Callable[[Envelope, str], None] = vars(Envelope)["text"].__set__


def known_as(envelope: Envelope, text: str) -> Envelope:
    """The same envelope, which now knows that `text` is what `text_of` makes of its id."""
    _set_text(envelope, text)
    return envelope


def encode(envelope: Envelope, message: Message, data: str | None = None) -> str:
    """The structured CloudEvent; raises MessageTooLarge past 256 KiB.

    `data` is the message's JSON, where the caller has written it already.
    """
    for name, text in (("source", envelope.source), ("key", envelope.key), ("correlation id", envelope.correlation_id)):
        # In UTF-8 a character takes at most four bytes, so most texts need no second look.
        if text is not None and len(text) * 4 > MAX_ATTRIBUTE and len(text.encode()) > MAX_ATTRIBUTE:
            raise MessageTooLarge(
                f"{envelope.type}: its {name} has {len(text.encode())} bytes, more than {MAX_ATTRIBUTE}, "
                "which AMQP and every reader refuse; use a shorter one"
            )
    if data is None:
        # By alias, because that is how the reader's contract validates.
        data = message.__pydantic_serializer__.to_json(message, by_alias=True).decode()
    body = frame(envelope, data)
    if len(body) * 4 > MAX_BODY and len(body.encode()) > MAX_BODY:
        raise MessageTooLarge(
            f"{envelope.type} {envelope.id} has {len(body.encode())} bytes, more than {MAX_BODY}; "
            "store the bulk and send a reference to it"
        )
    return body


def frame(envelope: Envelope, data: str) -> str:
    """The structured CloudEvent round data that is JSON text already, whatever its size."""
    head = (
        f'{{"specversion":"1.0","id":"{envelope.text or text_of(envelope.id)}","source":{_quote(envelope.source)},'
        f'"type":"{envelope.type}","time":"{stamp(envelope.time)}",'
        f'"datacontenttype":"application/json","dataversion":{envelope.version}'
    )
    parts = [head]
    if envelope.correlation_id is not None:
        parts.append(f',"correlationid":{_quote(envelope.correlation_id)}')
    if envelope.causation_id is not None:
        parts.append(f',"causationid":{_quote(envelope.causation_id)}')
    if envelope.key is not None:
        parts.append(f',"partitionkey":{_quote(envelope.key)}')
    if envelope.compensates is not None:
        parts.append(f',"compensates":"{text_of(envelope.compensates)}"')
    if envelope.traceparent is not None:
        parts.append(f',"traceparent":{_quote(envelope.traceparent)}')
    if envelope.redrives is not None:
        parts.append(f',"redrives":"{envelope.redrives}"')
    parts.append(f',"data":{data}}}')
    return "".join(parts)


def text_of(identity: UUID) -> str:
    """An id as it stands in every message: half as dear as `str`, but for those that a database's driver has made."""
    return to_json(identity)[1:-1].decode() if type(identity) is UUID else str(identity)


@lru_cache(maxsize=256)  # what a batch sends it sends at one moment, or a few
def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC, with a Z."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return f"{moment.isoformat()[:-6]}Z"


def decode(delivery: Delivery) -> tuple[Envelope, Any]:
    """The envelope of a delivery and its data as parsed JSON; raises MalformedMessage."""
    if len(delivery.body) > MAX_BODY:
        size = f"the body has {len(delivery.body)} bytes, more than {MAX_BODY}"
        raise MalformedMessage("oversized", delivery.malformed or size)
    if delivery.malformed is not None:
        raise MalformedMessage("malformed", delivery.malformed)
    if delivery.headers:
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
    _check_storable(attributes)
    return _envelope(attributes), content


def is_structured(delivery: Delivery) -> bool:
    """Whether the body holds the envelope too, and not the data alone."""
    given = delivery.content_type
    return given == CONTENT_TYPE or (given or "").partition(";")[0].strip().lower() == CONTENT_TYPE


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
    for name, given in headers.items():
        if name.upper() in {"CC", "BCC"}:
            # RabbitMQ 3.10 routes these past the sender's topic permissions.
            raise MalformedMessage("forbidden_header", f"the header {name} is refused")
        size += len(name) + len(str(given))
    if size > MAX_HEADERS:
        raise MalformedMessage("oversized", f"the headers have {size} characters, more than {MAX_HEADERS}")


def _binary_attributes(headers: Mapping[str, object]) -> dict[str, Any]:
    return {
        name[len(prefix) :]: given for name, given in headers.items() for prefix in _PREFIXES if name.startswith(prefix)
    }


def _native_attributes(delivery: Delivery) -> dict[str, Any]:
    moment = delivery.timestamp or _EPOCH
    return {
        "specversion": "1.0",
        "id": delivery.message_id,
        "type": delivery.type or delivery.routing_key,
        "source": delivery.app_id or "amqp",
        "time": stamp(moment),
        "correlationid": delivery.correlation_id,
        "dataversion": delivery.headers.get("dataversion", 1),
    }


def _check_storable(found: Mapping[str, Any]) -> None:
    """Headers and properties have not passed the JSON reader, which lets nothing through that cannot be stored."""
    for name in _TEXTS:
        given = found.get(name)
        if isinstance(given, str) and given != storable(given):
            raise MalformedMessage("malformed", f"the attribute {name} contains NUL or a lone surrogate")


def _envelope(found: Mapping[str, Any]) -> Envelope:
    if found.get("specversion") != "1.0":
        raise MalformedMessage("malformed", "specversion is not 1.0: this is no CloudEvent we know")
    texts = [found.get(name) for name in _TEXTS]
    if not _are_short(texts):
        _check_texts(texts)
    source, identity, wire_type, compensates, time, correlation_id, causation_id, key, traceparent, redrives = texts
    if not identity or not wire_type or not source:
        raise MalformedMessage("malformed", "a message needs an id, a type and a source")
    version = found.get("dataversion", 1)
    if isinstance(version, str) and version.isascii() and version.isdigit() and len(version) < 6:
        version = int(version)
    if not isinstance(version, int) or isinstance(version, bool):
        raise MalformedMessage("malformed", "dataversion is not a number")
    ours = _ours(identity)
    envelope = Envelope(
        ours or _identity(identity, source),
        wire_type,
        version,
        source,
        _moment(time),
        correlation_id,
        causation_id,
        key,
        _identity(compensates, source) if compensates else None,
        traceparent,
        _letter(redrives) if redrives else None,
    )
    return envelope if ours is None else known_as(envelope, identity)


def _are_short(texts: Sequence[Any]) -> bool:
    """Whether all of them together are a text of so many bytes, as they mostly are: then each is."""
    try:
        given = "".join([text for text in texts if text is not None])
    except TypeError:
        return False
    return len(given) <= MAX_ATTRIBUTE and given.isascii()


def _check_texts(texts: Sequence[Any]) -> None:
    for name, text in zip(_TEXTS, texts, strict=True):
        if text is not None and not (isinstance(text, str) and len(text.encode()) <= MAX_ATTRIBUTE):
            raise MalformedMessage("malformed", f"the attribute {name} is no text of at most {MAX_ATTRIBUTE} bytes")


def _ours(text: str) -> UUID | None:
    """The UUID that `text_of` writes so; None for any other text, and where that cannot be told at once."""
    if len(text) != _UUID_LENGTH or not text.islower():
        return None
    try:
        found: UUID = _parse_uuid(text)
    except ValidationError:
        return None
    return found


def _identity(text: str, source: str) -> UUID:
    """CloudEvents ids are any text, unique within their source; ours are UUIDs already."""
    try:
        return uuid_of(text)
    except ValueError:
        return uuid5(_FOREIGN_ID, f"{source}\n{text}")


def uuid_of(text: str) -> UUID:
    """The UUID in `text`, in any of the forms that Python reads; raises ValueError."""
    if len(text) == _UUID_LENGTH:
        try:
            # A sixth of what Python's own takes.
            found: UUID = _parse_uuid(text)
        except ValidationError:
            pass
        else:
            return found
    return UUID(text)


def _letter(text: str) -> UUID | None:
    try:
        return uuid_of(text)
    except ValueError:
        return None  # somebody else's attribute of that name


def _moment(text: str | None) -> datetime:
    if text is None:
        return _EPOCH
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is UTC:
            return moment
        # Raises OverflowError for a year-1 moment east of Greenwich.
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise MalformedMessage("malformed", f"time {text[:40]!r} is no RFC 3339 moment") from error
