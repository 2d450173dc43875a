"""What a participant answers a command: sent with its batch, kept in the inbox, and sent again to who asks again."""

from __future__ import annotations

from uuid import UUID

from contracts.derived import derived_id
from contracts.message import Event
from messaging.envelope import Envelope, decode_stored, known_as, text_of
from messaging.inbox import Answer, Entry, Status
from messaging.outbox import NOT_YET
from messaging.outbox_rows import OutboxRow, outgoing
from messaging.received import Received
from messaging.sealed_answers import UnsealedAnswer
from messaging.topology import EVENTS
from messaging.work import Work


def foresee(work: Work, command: UUID) -> None:
    """Work out what the answer will be called, whatever it says."""
    work.answer_ids[command] = _named(command)


def send(work: Work, source: str, received: Received, answer: Event, *, sealed_later: bool) -> None:
    """Have an answer sent; the same command always gets it under the same id."""
    command = received.envelope
    identity, text = work.answer_ids.get(command.id) or _named(command.id)
    envelope = Envelope(
        id=identity,
        type=answer.wire_type,
        version=answer.wire_version,
        source=source,
        time=work.now,
        correlation_id=command.correlation_id,
        causation_id=command.text or text_of(command.id),
        key=answer.ordering_key or command.correlation_id,
        traceparent=command.traceparent,
    )
    known_as(envelope, text)
    if sealed_later:
        work.unsealed.append(UnsealedAnswer(len(work.sends), answer, envelope, command.id))
    row = outgoing(answer, envelope, NOT_YET if sealed_later else None)
    work.sends.append(row)
    work.settled[command.id] = Entry(Status.DONE, Answer(envelope.id, envelope.type, row.body))


def send_again(work: Work, source: str, received: Received, entry: Entry) -> None:
    """Have sent once more what a repeated command was answered, if it was."""
    if entry.answer is None:
        return
    envelope, _ = decode_stored(entry.answer.body)
    work.sends.append(
        OutboxRow(
            key=envelope.key,
            message_id=entry.answer.id,
            exchange=EVENTS,
            routing_key=entry.answer.type,
            type=entry.answer.type,
            source=source,
            correlation_id=received.envelope.correlation_id,
            body=entry.answer.body,
            created_at=work.now,
        )
    )


def _named(command: UUID) -> tuple[UUID, str]:
    identity = derived_id(command, "0")
    return identity, text_of(identity)
