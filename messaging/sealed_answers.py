"""What handlers have answered, sealed: of all answers of a batch the keys are looked for at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from contracts.message import Event
from messaging.envelope import Envelope
from messaging.inbox import Answer, Entry, Status
from messaging.outbox_rows import outgoing

if TYPE_CHECKING:
    from messaging.sealing import Sealing
    from messaging.work import Work


@dataclass(frozen=True, slots=True)
class UnsealedAnswer:
    """The answer to a command, whose row in the batch's `sends` gets its data when the batch has been handled."""

    place: int
    message: Event
    envelope: Envelope
    command: UUID


async def seal(work: Work, sealing: Sealing) -> None:
    """Write the answers that wait for it; raises what `Sealing.written` and `outgoing` raise."""
    answers, work.unsealed = work.unsealed, []
    if not answers:
        return
    said = await sealing.written([each.message for each in answers])
    for each, data in zip(answers, said, strict=True):
        row = work.sends[each.place] = outgoing(each.message, each.envelope, data)
        work.settled[each.command] = Entry(Status.DONE, Answer(row.message_id, row.type, row.body))
