"""Running a participant: the `handle` that answers commands, exactly once each.

A repeated command gets its stored answer. A compensation that overtakes its command leaves a tombstone for it. What a
handler returns is the answer; what it raises puts the message off (RetryLater, the network) or buries it.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.message import Command, Event
from contracts.registry import Registry
from messaging import answers, deferred, inbox, sealed_answers
from messaging.bisecting import HandlerFailed
from messaging.bus import Delivery
from messaging.clock import Clock, Entropy
from messaging.consumer import Act, Batch
from messaging.database import is_transient
from messaging.dead_letters import of_received
from messaging.deferred import FIRST_WAIT, backoff
from messaging.inbox import Entry, Status
from messaging.outbox import INFO, Emitting
from messaging.outside import MARGIN, OutsideCalls
from messaging.participant import Handler, Mode, Participant, RetryLater
from messaging.received import Received, Tick, Unreadable, read
from messaging.sealing import Sealing, hiding
from messaging.senders import Senders
from messaging.work import Work

PATIENCE = timedelta(hours=24)
"""How long a message is put off, all in all, before it becomes a dead letter."""


class WrongAnswer(TypeError):
    """A handler returned what its contract does not name."""


class ParticipantConsumer:
    """A participant as the worker sees it."""

    def __init__(
        self,
        participant: Participant,
        *,
        clock: Clock,
        entropy: Entropy,
        grace: timedelta = timedelta(seconds=10),
        senders: Senders | None = None,
    ) -> None:
        self._participant = participant
        self._senders = senders
        self._entropy = entropy
        self._emitting = Emitting(clock=clock, entropy=entropy, source=participant.name, grace=grace)
        self._sealing: Sealing | None = None
        self._registry = participant.registry
        self.calls = OutsideCalls()

    def seal_with(self, sealing: Sealing) -> None:
        """From now on handlers get opened what their messages hold sealed, and what they say is sealed."""
        self._sealing = sealing
        self._emitting = replace(self._emitting, sealing=sealing)
        self._registry = self._participant.registry.opened_later()

    @property
    def name(self) -> str:
        return self._participant.name

    @property
    def registry(self) -> Registry:
        return self._registry

    def read(self, delivery: Delivery) -> Received | Unreadable:
        return read(delivery, self.registry, self._senders)

    def concerns(self, received: Received) -> Sequence[str]:
        """Nothing: its correlation id and its key say all."""
        return ()

    async def due(
        self, connection: AsyncConnection, now: datetime, limit: int
    ) -> tuple[Sequence[Tick], datetime | None]:
        """Nothing comes due here but what is deferred, which the worker itself looks for."""
        return (), None

    def begin(self, work: Work, messages: Sequence[Received], ticks: Sequence[Tick]) -> Act:
        handler = self._participant.handlers.get(messages[0].envelope.type) if messages else None
        # What was put off only is handled without a wait: nothing would be made ahead of that.
        if handler is not None and handler.mode is not Mode.OUTSIDE and not all(each.deferred for each in messages):
            asyncio.get_running_loop().call_soon(self._foresee, work, messages)
        return self.handle

    def _foresee(self, work: Work, messages: Sequence[Received]) -> None:
        """Make what a handler needs whatever the inbox says, while the database looks there: nobody waits for it then.

        The session, and that it joins the transaction, are a third of what a lone message's handler would wait for.
        """
        if work.over:
            return
        work.session({INFO: self._emitting}).join()
        if len(messages) == 1:
            answers.foresee(work, messages[0].envelope.id)

    async def handle(self, work: Work, batch: Batch) -> None:
        """Answer a batch of commands and react to a batch of events."""
        for received, entry in batch.repeated:
            answers.send_again(work, self.name, received, entry)
        fresh = await self._open(work, await self._heed_compensations(work, batch.fresh))
        work.causes.update(each.envelope.causation_id for each in fresh if each.envelope.causation_id)
        for group in _groups(fresh):
            handler = self._participant.handlers.get(group[0].envelope.type)
            if handler is None:
                for each in group:
                    self._bury(work, each, "unhandled", f"{self.name} has no handler for {each.envelope.type}")
            elif handler.mode is Mode.ONE:
                await self._one_by_one(work, handler, group)
            elif handler.mode is Mode.BATCH:
                await self._all_at_once(work, handler, group)
            else:
                await self._outside(work, handler, group)
        _forget_undone(work, fresh)
        if self._sealing is not None:
            await sealed_answers.seal(work, self._sealing)

    async def fail(self, work: Work, received: Received, error: Exception) -> None:
        """Put off what may pass, bury what will not."""
        self.calls.settled(received.envelope.id)
        for opened in await self._open(work, [received]):
            self._fail(work, opened, error)
        if self._sealing is not None:
            await sealed_answers.seal(work, self._sealing)

    def _fail(self, work: Work, received: Received, error: Exception) -> None:
        if isinstance(error, RetryLater):
            self._put_off(work, received, error)
        elif is_transient(error):
            self._put_off(work, received, RetryLater(_told(error), attempts=deferred.ATTEMPTS))
        else:
            story = hiding("".join(traceback.format_exception(error)), work.opened)
            self._bury(work, received, "handler_failed", story[-8000:])

    # -- what is sealed --------------------------------------------------------------------------------------

    async def _open(self, work: Work, received: Sequence[Received]) -> list[Received]:
        """Messages as their handlers get them; what does not open is a dead letter."""
        if self._sealing is None:
            return list(received)
        found: list[Received] = []
        opened = await self._sealing.opened(received, self._participant.registry)
        for each, now in zip(received, opened, strict=True):
            if isinstance(now, Received):
                found.append(now)
                work.opened.extend(now.secrets)
            else:
                self._bury(work, each, "unopenable", str(now))
        return found

    # -- what happened before --------------------------------------------------------------------------------

    async def _heed_compensations(self, work: Work, fresh: Sequence[Received]) -> list[Received]:
        """Leave tombstones for commands that have not come yet; drop those that come with their compensation."""
        undone = {each.envelope.compensates for each in fresh} - {None}
        if not undone:
            return list(fresh)
        dropped: set[UUID] = set()
        under_way: set[UUID] = set()
        seen: set[UUID] = set()
        here = {each.envelope.id for each in fresh}
        for each in fresh:
            target = each.envelope.compensates
            if target is not None and target in here and target not in seen:
                dropped.add(target)
                work.settled[target] = Entry(Status.TOMBSTONE)
            seen.add(each.envelope.id)
            handler = self._participant.handlers.get(each.envelope.type)
            if handler is not None and handler.mode is Mode.OUTSIDE:
                under_way.add(each.envelope.id)
        elsewhere = [target for target in undone if target is not None and target not in here]
        known = await inbox.entries(work.connection, self.name, elsewhere, lock=True)
        # Left with what else is claimed: who handles the command meanwhile is a Conflict, and then known.
        left = [target for target in elsewhere if target not in known]
        work.entering.update(left)
        work.settled.update({target: Entry(Status.TOMBSTONE) for target in left})
        # A dead letter's command may come again and would be tried again: not after it has been undone.
        waiting = [target for target, entry in known.items() if entry.status in (Status.DEFERRED, Status.FAILED)]
        for target in waiting:
            work.settled[target] = Entry(Status.TOMBSTONE)
        await deferred.take(work.connection, self.name, waiting)
        kept = []
        for each in fresh:
            if each.envelope.id in dropped:
                continue
            target = each.envelope.compensates
            entry = known.get(target) if target else None
            started = entry is not None and entry.status is Status.STARTED
            if started or (target in under_way and target not in dropped):
                self._put_off(work, each, RetryLater("the command it undoes is still under way outside"))
            else:
                kept.append(each)
        return kept

    # -- three ways of calling -------------------------------------------------------------------------------

    async def _one_by_one(self, work: Work, handler: Handler, group: Sequence[Received]) -> None:
        session = work.session({INFO: self._emitting})
        for each in group:
            await work.catch_up()
            session.info[INFO] = self._emitting.caused_by(each.envelope)
            try:
                with work.span_of(each.envelope.id):
                    answer = await handler.call(each.message, session)
                self._answer(work, handler, each, answer)
            except Exception as error:  # named for the worker, whose boundary decides about it
                raise HandlerFailed([each], error) from error

    async def _all_at_once(self, work: Work, handler: Handler, group: Sequence[Received]) -> None:
        session = work.session({INFO: self._emitting})
        cause = group[0].envelope if len(group) == 1 else None
        session.info[INFO] = self._emitting.caused_by(cause)
        await work.catch_up()
        try:
            found = await handler.call([each.message for each in group], session)
            if issubclass(handler.message, Command):
                if len(found) != len(group):
                    raise WrongAnswer(f"{handler.name} got {len(group)} commands and gave {len(found)} answers")
                for each, answer in zip(group, found, strict=True):
                    if isinstance(answer, RetryLater):
                        self._put_off(work, each, answer)
                    else:
                        self._answer(work, handler, each, answer)
        except Exception as error:  # named for the worker, whose boundary decides about it
            raise HandlerFailed(group, error) from error

    async def _outside(self, work: Work, handler: Handler, group: Sequence[Received]) -> None:
        room = self.calls.room(handler)
        for each in group:
            outcome = self.calls.outcome(each.envelope.id)
            if outcome is None:
                if each.envelope.id in self.calls or room > 0:
                    self._start_outside(work, handler, each)
                    room -= 1
                else:
                    self._queue_outside(work, each)
                continue
            if outcome.error is not None:
                raise HandlerFailed([each], outcome.error)
            await work.catch_up()
            try:
                if handler.record is not None:
                    session = work.session({INFO: self._emitting})
                    session.info[INFO] = self._emitting.caused_by(each.envelope)
                    with work.span_of(each.envelope.id):
                        await handler.record(each.message, outcome.answer, session)
                self._answer(work, handler, each, outcome.answer)
            except Exception as error:  # named for the worker, whose boundary decides about it
                raise HandlerFailed([each], error) from error
            identity = each.envelope.id
            work.after_commit.append(partial(self.calls.settled, identity))

    def _start_outside(self, work: Work, handler: Handler, received: Received) -> None:
        lease = (handler.time_limit or MARGIN) + MARGIN
        row = deferred.row_of(received, work.now, lease, received.attempts, "under way outside")
        work.put_off(row)
        work.settled[received.envelope.id] = Entry(Status.STARTED)
        begun = replace(received, deferred=True, first_at=row.first_at)
        work.after_commit.append(lambda: self.calls.start(begun, handler))

    def _queue_outside(self, work: Work, received: Received) -> None:
        """As many as may wait in memory do; this one waits in the table, and that is no try."""
        wait = FIRST_WAIT * (1 + self._entropy.jitter())
        work.put_off(deferred.row_of(received, work.now, wait, received.attempts, "waits for a free call outside"))
        work.settled[received.envelope.id] = Entry(Status.DEFERRED)

    # -- what becomes of a message ---------------------------------------------------------------------------

    def _answer(self, work: Work, handler: Handler, received: Received, answer: Any) -> None:
        if isinstance(answer, handler.answers):
            self._send_answer(work, received, answer)
        elif handler.answers:
            names = " or ".join(kind.__name__ for kind in handler.answers)
            raise WrongAnswer(f"{handler.name} returned {type(answer).__name__}; its contract names {names}")
        elif answer is not None:
            raise WrongAnswer(f"{handler.name} returned {answer!r}; a handler of events returns nothing")

    def _send_answer(self, work: Work, received: Received, answer: Event) -> None:
        later = self._sealing is not None and answer.subject_field is not None
        answers.send(work, self.name, received, answer, sealed_later=later)

    def _put_off(self, work: Work, received: Received, error: RetryLater) -> None:
        tried = received.attempts + 1
        first_at = received.first_at or work.now
        reason = hiding(error.reason, work.opened)
        spent = error.attempts is not None and tried >= error.attempts
        if spent and error.otherwise is not None:
            self._answer_otherwise(work, received, error.otherwise)
            return
        if spent or work.now - first_at > PATIENCE:
            self._bury(work, received, "retries_exhausted", deferred.exhausted(tried, first_at, reason))
            return
        wait = error.after if error.after is not None else backoff(tried, self._entropy.jitter())
        work.put_off(deferred.row_of(received, work.now, wait, tried, reason))
        work.settled[received.envelope.id] = Entry(Status.DEFERRED)
        structlog.get_logger().info(
            "message_deferred",
            type=received.envelope.type,
            message_id=str(received.envelope.id),
            correlation_id=received.envelope.correlation_id,
            attempts=tried,
            seconds=round(wait.total_seconds(), 3),
            reason=reason,
        )

    def _answer_otherwise(self, work: Work, received: Received, answer: Event) -> None:
        command = received.message
        if isinstance(command, Command) and isinstance(answer, command.answers()):
            self._send_answer(work, received, answer)
        else:
            story = f"RetryLater(otherwise={type(answer).__name__}) is no answer that its contract names"
            self._bury(work, received, "handler_failed", story)

    def _bury(self, work: Work, received: Received, reason: str, error: str) -> None:
        work.bury(of_received(self.name, received, work.letter_of(received.envelope), reason, error, work.now))
        work.settled[received.envelope.id] = Entry(Status.FAILED)
        structlog.get_logger().error(
            "dead_letter",
            reason=reason,
            type=received.envelope.type,
            message_id=str(received.envelope.id),
            correlation_id=received.envelope.correlation_id,
        )


def _forget_undone(work: Work, fresh: Sequence[Received]) -> None:
    """A command that was put off in the very batch that undid it must never be tried again."""
    undone = {each.envelope.compensates for each in fresh} & {row.message_id for row in work.deferrals}
    if undone:
        work.deferrals = [row for row in work.deferrals if row.message_id not in undone]
        work.settled.update({identity: Entry(Status.TOMBSTONE) for identity in undone if identity is not None})


def _groups(fresh: Sequence[Received]) -> list[list[Received]]:
    """Messages of one type together, as far as two messages of one key keep their order."""
    if len({each.envelope.type for each in fresh}) < 2:
        return [list(fresh)] if fresh else []
    groups: list[list[Received]] = []
    open_groups: dict[str, list[Received]] = {}
    last_type: dict[str, str] = {}
    for each in fresh:
        key = each.message.ordering_key or each.envelope.correlation_id or ""
        wire_type = each.envelope.type
        if last_type.get(key, wire_type) != wire_type:
            open_groups, last_type = {}, {}
        last_type[key] = wire_type
        group = open_groups.get(wire_type)
        if group is None:
            group = open_groups[wire_type] = []
            groups.append(group)
        group.append(each)
    return groups


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
