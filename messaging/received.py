"""What a worker hands to its consumer: a message that has passed every check but the consumer's own."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from contracts.message import Command, Message
from contracts.registry import InvalidMessage, Registry, UnknownMessage
from contracts.value import occurrence
from messaging.bus import Delivery
from messaging.envelope import Envelope, MalformedMessage, decode, decode_stored, frame, is_structured
from messaging.senders import Objection, Senders
from messaging.topology import COMMANDS


@occurrence
class Received:
    """A readable message and where it came from: the broker, or our own `deferred` table."""

    envelope: Envelope
    message: Message
    data: Any
    body: str
    queue: str
    attempts: int = 0
    """How often it has been tried and put off before."""
    first_at: datetime | None = None
    deferred: bool = False
    """Whether it has waited in `deferred` and its row there must be taken."""
    secrets: tuple[str, ...] = ()
    """Texts that were opened for its handler: what is written about it quotes none of them."""


class Tick(Protocol):
    """What a consumer's own poller finds due (a saga's deadline); hashable, and equal to itself at the next look."""

    @property
    def correlation_id(self) -> str:
        """That of the messages which it must not be handled beside."""


@occurrence
class Arrival:
    """One thing in the worker's hand: a delivery to settle, or a row that has come due."""

    delivery: Delivery | None = None
    received: Received | None = None
    tick: Tick | None = None


@occurrence
class Unreadable:
    """A delivery that is no message for us: why, in a word and in a sentence.

    `envelope` and `data` are there where those could be read, and only what they hold is unknown or does not fit.
    """

    delivery: Delivery
    reason: str
    error: str
    envelope: Envelope | None = None
    data: Any = None


def read(delivery: Delivery, registry: Registry, senders: Senders | None = None) -> Received | Unreadable:
    """Size, strict JSON, its sender, known type and version, schema: in this order, and only then the database.

    Who may say what is looked at where there are `senders`.
    """
    try:
        envelope, data = decode(delivery)
    except MalformedMessage as error:
        return Unreadable(delivery, error.reason, str(error))
    if senders is not None and (found := _objection(senders, envelope, delivery, registry)) is not None:
        return Unreadable(delivery, found.reason, found.why, envelope, data)
    try:
        message = registry.parse(envelope.type, envelope.version, data)
        # What we store is always a structured CloudEvent, also where a plain AMQP client sent the bare data.
        body = delivery.body.decode()
        if not is_structured(delivery):
            body = frame(envelope, body)
            # One level deeper now: what could not be read back must not be stored.
            decode_stored(body)
    except MalformedMessage as error:
        return Unreadable(delivery, error.reason, str(error))
    except UnknownMessage as error:
        return Unreadable(delivery, "unknown", str(error), envelope, data)
    except InvalidMessage as error:
        return Unreadable(delivery, "invalid", str(error), envelope, data)
    return Received(envelope, message, data, body, delivery.queue)


def _objection(senders: Senders, envelope: Envelope, delivery: Delivery, registry: Registry) -> Objection | None:
    # Before the type is known: what is unknown now is sent again by a person once its readers are deployed.
    kind = registry.class_of(envelope.type, envelope.version)
    command = delivery.exchange == COMMANDS or (kind is not None and issubclass(kind, Command))
    return senders.objection(delivery, envelope.type, command=command)


def read_stored(
    body: str,
    registry: Registry,
    *,
    queue: str,
    attempts: int,
    first_at: datetime,
) -> Received:
    """A message from our own tables; it was readable when it was stored."""
    envelope, data = decode_stored(body)
    message = registry.parse(envelope.type, envelope.version, data)
    return Received(envelope, message, data, body, queue, attempts, first_at, True)
