"""Which of the messages in a batch are to be acted on: each id once, in the transaction that acts on it.

An event is claimed before it is acted on. A command is looked for then, and claimed with its answer: its row is written
once, and whoever finds it taken by that time undoes the batch and does it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from contracts.message import Command
from messaging import dead_letters, deferred, inbox, redriven
from messaging.bulk import Outcome
from messaging.inbox import Entry, Status
from messaging.received import Received, Unreadable
from messaging.senders import UNBELIEVED
from messaging.work import Work

Repeated = list[tuple[Received, Entry]]


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that lies in `work.writes`, and is made when these run."""

    work: Work
    taken: list[Received]
    """The consumer's already: they have waited in `deferred`."""
    first: Mapping[UUID, Received]
    again: Mapping[UUID, UUID]
    events: Outcome
    """Those of the first that are events and have been claimed, where that is done carefully."""
    commands: Mapping[UUID, Received]
    known: Outcome
    """Which of the commands lie in the inbox."""

    @property
    def messages(self) -> list[Received]:
        """Those that may turn out to be the consumer's to act on."""
        return [*self.taken, *self.first.values()]

    async def made(self) -> tuple[list[Received], Repeated]:
        """Which of them are the consumer's to act on, and which have been acted on before."""
        work, first = self.work, self.first
        if first:
            await work.writes.run(work.connection)
        entering = self.commands.keys() - inbox.known(self.known, work.consumer)
        work.entering.update(entering)
        claimed = entering.union(self.events.values if work.careful else self.first.keys() - self.commands.keys())
        if len(claimed) == len(first):  # nearly always: nothing has to be looked for then
            work.redriven.update(self.again)
            return self.messages, []
        fresh = [*self.taken, *(each for each in first.values() if each.envelope.id in claimed)]
        work.redriven.update({message: letter for message, letter in self.again.items() if message in claimed})
        before = [each for each in first.values() if each.envelope.id not in claimed]
        failed, repeated = await _claim_again(work, before, self.again)
        return fresh + failed, repeated


async def claim(work: Work, readable: Sequence[Received]) -> Claim:
    """Claim these messages, but for what a person has sent again to another service."""
    taken = await _claim_deferred(work, [each for each in readable if each.deferred])
    first = _first(each for each in readable if not each.deferred)
    again = await redriven.readable(work.connection, work.consumer, first.values())
    first = {
        message: each
        for message, each in first.items()
        if message in again or not redriven.meant_for_another(each.envelope, each.data)
    }
    commands = {message: each for message, each in first.items() if isinstance(each.message, Command)}
    known = inbox.look(work.writes, commands)
    events = first.keys() - commands.keys()
    claimed = inbox.claim_with(work.writes, work.consumer, events, work.now, careful=work.careful)
    return Claim(work, taken, first, again, claimed, commands, known)


async def bury(work: Work, unreadable: Sequence[Unreadable]) -> None:
    """Keep what nobody can read, once each, however often it is delivered, unless a person has sent it again."""
    if not unreadable:
        return
    name = work.consumer
    again = await redriven.unreadable(work.connection, name, unreadable)
    letters = {
        letter: dead_letters.of_unreadable(name, each, letter, work.now)
        for each in unreadable
        if each in again
        or each.envelope is None
        or each.reason in UNBELIEVED
        or not redriven.meant_for_another(each.envelope, each.data)
        for letter in (again.get(each) or dead_letters.unreadable_id(each, name),)
    }
    fresh = await inbox.claim(work.connection, name, letters, work.now, Status.FAILED)
    for identity, letter in letters.items():
        if identity in fresh or identity in again.values():
            structlog.get_logger().warning(
                "dead_letter", reason=letter.reason, type=letter.type, error=letter.error, queue=letter.queue
            )
            work.bury(letter)


def _first(messages: Iterable[Received]) -> dict[UUID, Received]:
    """Each message id once, as it came first."""
    first: dict[UUID, Received] = {}
    for each in messages:
        first.setdefault(each.envelope.id, each)
    return first


async def _claim_deferred(work: Work, waited: Sequence[Received]) -> list[Received]:
    if not waited:
        return []
    taken = await deferred.take(work.connection, work.consumer, {each.envelope.id for each in waited})
    first = _first(each for each in waited if each.envelope.id in taken)
    work.settled.update({identity: Entry(Status.DONE) for identity in first})
    work.redriven.update(await redriven.readable(work.connection, work.consumer, first.values(), unmarked=True))
    return list(first.values())


async def _claim_again(
    work: Work, before: Sequence[Received], again: Mapping[UUID, UUID]
) -> tuple[list[Received], Repeated]:
    """What the inbox knows already: answered or dropped, unless it has failed and is to be tried again."""
    failed: list[Received] = []
    repeated: Repeated = []
    if not before:
        return failed, repeated
    name = work.consumer
    known = await inbox.entries(work.connection, name, [each.envelope.id for each in before], lock=True)
    for each in before:
        message, entry = each.envelope.id, known.get(each.envelope.id)
        if entry is None:
            continue
        if message in again and entry.status not in (Status.DEFERRED, Status.STARTED):
            work.redriven[message] = again[message]
        if entry.status is Status.FAILED and (message in again or isinstance(each.message, Command)):
            # A person has sent it again, or whoever still waits for the answer; the handler may have been mended.
            work.redriven.setdefault(message, dead_letters.letter_id(str(message), name))
            failed.append(each)
            work.settled[message] = Entry(Status.DONE)
        else:
            repeated.append((each, entry))
    # Whoever repeats a command goes on until it is answered; a handled event comes again for hours at most.
    commands = [each.envelope.id for each, _ in repeated if isinstance(each.message, Command)]
    await inbox.touch(work.connection, name, commands, work.now)
    return failed, repeated
