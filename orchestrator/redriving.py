"""A dead letter as a message that can be sent again: the same one, or a corrected one in its place.

Sent again, it keeps its message id and its body. What is added is one attribute, `redrives`, which names the letter: by
that name the service in which it died knows it as its own and handles it again, unless its inbox says that this has
been done. Every other reader drops it. A corrected one names its letter too, but its id follows from the letter and its
data: by that every reader knows it as a new message.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.message import Message
from contracts.registry import Registry, UnknownMessage
from messaging.bus import Delivery
from messaging.envelope import MAX_ATTRIBUTE, MAX_BODY, Envelope, MalformedMessage, decode, frame, is_structured
from messaging.outbox_rows import OutboxRow
from messaging.redriven import correction_id
from messaging.senders import BAD_SIGNATURE, UNBELIEVED, Senders
from messaging.strict_json import NotStrictJson, loads
from messaging.topology import COMMANDS, EVENTS, exchange_of
from orchestrator.letters import Letter
from orchestrator.sharding import EXCHANGE as SHARDS

FORBIDDEN = "forbidden_header"


class Undeliverable(Exception):
    """This letter cannot be sent again like this; says why, and what can be done."""


def again(letter: Letter, now: datetime, senders: Senders | None = None) -> OutboxRow:
    """The message as it was, for the exchange it belongs to. Raises Undeliverable.

    It leaves as the orchestrator's, who may say everything: what was refused for its sender only if `senders`, who may
    say what by now, let it through.
    """
    body = _whole(letter)
    if letter.reason == FORBIDDEN:
        raise Undeliverable(
            "it came with a header that routes past permissions; send what is right of it with --edit, or discard it"
        )
    delivery = _delivery(letter, body)
    try:
        envelope, _ = decode(delivery)
    except MalformedMessage as error:
        raise Undeliverable(f"no reader will ever read it ({error}); send a corrected one with --edit") from error
    if letter.reason in UNBELIEVED:
        _vouched(letter, delivery, envelope, senders)
    text = _marked(body.decode(), letter.id) if is_structured(delivery) else _framed(envelope, body.decode(), letter.id)
    return _row(envelope, text, _exchange(letter), _routing_key(letter, envelope), now)


def corrected(letter: Letter, data: object, registry: Registry, now: datetime) -> tuple[OutboxRow, bool]:
    """A new message with this data in the letter's place, and whether a contract known here vouches for it.

    Its id follows from the letter and the data, so that the same correction is one message however often it is sent.
    Raises Undeliverable, and InvalidMessage where the data breaks its contract.
    """
    editable(letter)
    exchange = _exchange(letter)
    before = _envelope_of(letter)
    text = json.dumps(data, ensure_ascii=False)
    try:
        loads(text.encode("utf-8", errors="surrogatepass"))
    except NotStrictJson as error:
        raise Undeliverable(f"what is to be sent cannot be read: {error}") from error
    known, key = True, before.key
    try:
        key = registry.parse(before.type, before.version, data).ordering_key or key
    except UnknownMessage:
        known = False
    if key is not None and len(key.encode()) > MAX_ATTRIBUTE:
        raise Undeliverable(f"its key would have {len(key.encode())} bytes, more than {MAX_ATTRIBUTE}")
    envelope = replace(
        before,
        id=correction_id(letter.id, data),
        time=now,
        # A saga knows an answer by the command that caused it: an answer goes on naming that.
        causation_id=before.causation_id or letter.message_id or str(letter.id),
        key=key,
        redrives=letter.id,
    )
    body = frame(envelope, text)
    if len(body.encode()) > MAX_BODY:
        raise Undeliverable(f"what is to be sent has {len(body.encode())} bytes, more than {MAX_BODY}")
    return _row(envelope, body, exchange, _routing_key(letter, envelope), now), known


def as_contract(letter: Letter, data: object, registry: Registry) -> Message | None:
    """This data as the letter's message, of the version it was written in; None where its contract is not known here.

    Raises Undeliverable, and InvalidMessage where the data breaks its contract.
    """
    before = _envelope_of(letter)
    try:
        return registry.as_written(before.type, before.version, data)
    except UnknownMessage:
        return None


def editable(letter: Letter) -> None:
    """Raise Undeliverable where no corrected message can take the letter's place."""
    if _exchange(letter) == COMMANDS:
        raise Undeliverable(
            "a command cannot be edited: its saga waits for the answer to exactly this one and would not know the "
            "answer to another. Mend its handler and redrive it as it is; or have the saga send it again "
            "(`amends retry`), or settle the step by hand (`amends skip`)"
        )


def data_of(letter: Letter) -> Any:
    """What the message says, as parsed JSON. Raises Undeliverable where it cannot be read."""
    try:
        return decode(_delivery(letter, _whole(letter)))[1]
    except MalformedMessage as error:
        raise Undeliverable(f"it cannot be read ({error}); give the whole of it, with --edit @FILE") from error


def _vouched(letter: Letter, delivery: Delivery, envelope: Envelope, senders: Senders | None) -> None:
    """Raise Undeliverable where its sender may still not say it, or nothing proves who that is."""
    if letter.reason == BAD_SIGNATURE and (senders is None or senders.signatures is None):
        raise Undeliverable(
            "nothing proved who sent it; where a key was missing, set AMENDS_SIGNING=require and AMENDS_PUBLIC_KEYS "
            "here as the services have them by now, or send what is right of it with --edit"
        )
    if senders is None:
        raise Undeliverable(
            "its sender might not say it; where that was a mistake, set AMENDS_CHECK_SENDERS and AMENDS_SENDERS here "
            "as the services have them by now, or send what is right of it with --edit"
        )
    command = _exchange(letter) == COMMANDS
    found = senders.objection(delivery, envelope.type, command=command)
    if found is not None:
        setting = "AMENDS_PUBLIC_KEYS" if found.reason == BAD_SIGNATURE else "AMENDS_SENDERS"
        raise Undeliverable(f"{found.why} ({setting}); send what is right of it with --edit, or discard it")


def _whole(letter: Letter) -> bytes:
    if letter.body is None:
        raise Undeliverable(
            f"only {letter.service}'s own database has its {letter.size} bytes whole; "
            f"run the same command there: set DATABASE_URL to {letter.service}'s"
        )
    return letter.body


def _delivery(letter: Letter, body: bytes) -> Delivery:
    """The letter as it was delivered, so that it is read by the same rules."""
    headers = letter.properties.get("headers")
    return Delivery(
        queue=letter.queue,
        tag=0,
        body=body,
        exchange=letter.exchange,
        routing_key=letter.routing_key,
        message_id=_outside(letter, "message_id") or letter.message_id,
        type=letter.type,
        content_type=_outside(letter, "content_type"),
        correlation_id=letter.correlation_id,
        app_id=_outside(letter, "app_id"),
        user_id=_outside(letter, "user_id"),
        timestamp=_moment(_outside(letter, "timestamp")),
        headers={
            name: value
            for name, value in (headers.items() if isinstance(headers, dict) else ())
            if name.upper() not in ("CC", "BCC")
        },
    )


def _outside(letter: Letter, name: str) -> str | None:
    value = letter.properties.get(name)
    return value if isinstance(value, str) else None


def _moment(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _envelope_of(letter: Letter) -> Envelope:
    """The dead message's envelope, or what its outside tells of it where its inside cannot be read."""
    try:
        return decode(_delivery(letter, letter.body or b""))[0]
    except MalformedMessage:
        pass
    if not letter.type:
        raise Undeliverable("nothing tells of which type it was; have its sender send it again, and discard this one")
    source = _outside(letter, "app_id") or letter.service
    return Envelope(letter.id, letter.type, 1, source, letter.at, letter.correlation_id)


def _marked(body: str, letter: UUID) -> str:
    """The same structured CloudEvent, naming its letter; nothing else of its text is touched if that can be."""
    content = json.loads(body)
    if content.get("redrives") == str(letter):
        return body
    if "redrives" in content:
        return _fitting(json.dumps(content | {"redrives": str(letter)}, ensure_ascii=False))
    head, brace, rest = body.partition("{")
    return _fitting(f'{head}{brace}"redrives":"{letter}",{rest}')


def _framed(envelope: Envelope, data: str, letter: UUID) -> str:
    return _fitting(frame(replace(envelope, redrives=letter), data))


def _fitting(body: str) -> str:
    if len(body.encode()) > MAX_BODY:
        raise Undeliverable(f"it is too large to name its letter ({MAX_BODY} bytes at most); have its sender split it")
    return body


def _exchange(letter: Letter) -> str:
    """Where messages of its queue are published."""
    exchange = exchange_of(letter.queue)
    if exchange is not None:
        return exchange
    if letter.exchange in (COMMANDS, EVENTS):
        return letter.exchange
    raise Undeliverable("nothing tells on which exchange it was published; have its sender send it again")


def _routing_key(letter: Letter, envelope: Envelope) -> str:
    """The key it was published with; what was handed on between shards has their number instead."""
    return envelope.type if letter.exchange == SHARDS or not letter.routing_key else letter.routing_key


def _row(envelope: Envelope, body: str, exchange: str, routing_key: str, now: datetime) -> OutboxRow:
    return OutboxRow(
        key=envelope.key,
        message_id=envelope.id,
        exchange=exchange,
        routing_key=routing_key,
        type=envelope.type,
        source=envelope.source,
        correlation_id=envelope.correlation_id,
        body=body,
        created_at=now,
    )
