"""One batch's transaction: what a consumer reads and writes through it, and what leaves when it commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import appending, dead_letters, deferred, driver, inbox, outbox
from messaging.bulk import Outcome, Writes
from messaging.dead_letters import DeadLetter
from messaging.deferred import DeferredRow
from messaging.envelope import Envelope
from messaging.inbox import Entry, Status
from messaging.outbox_rows import OutboxRow, Pending
from messaging.relay import Relay
from messaging.sealed_answers import UnsealedAnswer
from messaging.session import BatchSession
from messaging.together import WRITES

if TYPE_CHECKING:
    from messaging.telemetry.tracing import BatchSpans

_NO_SPAN: AbstractContextManager[Any] = nullcontext()


class BatchUndone(RuntimeError):
    """A handler has rolled its session back, and with it all of its batch, its inbox rows among it."""

    def __init__(self) -> None:
        super().__init__(
            "a handler has rolled its session back, and with it what others have done in the same transaction; to have "
            "its message undone let it raise, and to undo a part of what it does itself: async with db.begin_nested()"
        )


class SavepointOpen(RuntimeError):
    """A handler has left a savepoint open: what was done since would be undone with it, and nobody told."""

    def __init__(self) -> None:
        super().__init__(
            "a handler has left a savepoint open, which takes along what it and those behind it have done since; write "
            "async with db.begin_nested(), or commit it"
        )


class Work:
    """Collects everything a batch writes, so that each table is written once, whatever the batch's size."""

    def __init__(
        self, connection: AsyncConnection, now: datetime, service: str, consumer: str, *, careful: bool = True
    ) -> None:
        self.connection = connection
        self.careful = careful or driver.dialect(connection) == "sqlite"
        """Whether each row is looked for before it is inserted. Otherwise one that is there already is a unique
        violation, which undoes the batch, for it to be done again carefully: PostgreSQL takes a quarter less for a row
        that is new, as nearly all are."""
        self.now = now
        self.service = service
        self.consumer = consumer
        self.writes = Writes()
        """Written with the next statement of the batch's own, at the latest with its outbox rows."""
        self._checks: list[tuple[Callable[[], None], Sequence[Outcome]]] = []
        self.sends: list[OutboxRow] = []
        self.unsealed: list[UnsealedAnswer] = []
        self.opened: list[str] = []
        """Texts that were opened for its handlers: no error of this batch may be told with them."""
        self.deferrals: list[DeferredRow] = []
        self.settled: dict[UUID, Entry] = {}
        self.entering: set[UUID] = set()
        """Ids that are claimed only with what has become of them: DONE, where `settled` says nothing else."""
        self.over = False
        """Whether nothing is read or written by it any more."""
        self.wake_at: datetime | None = None
        self.after_commit: list[Callable[[], None]] = []
        self.answer_ids: dict[UUID, tuple[UUID, str]] = {}
        """Ids of answers that are known already, and their texts: by the id of the command."""
        self.redriven: dict[UUID, UUID] = {}
        """Messages in hand that are dead letters of this consumer, tried again: the letter by the message's id."""
        self.causes: set[str] = set()
        """Ids of the messages that caused those acted upon: whatever their outbox says, they have arrived. A consumer
        adds them: what anybody may write into a message that it takes no notice of proves nothing."""
        self.spans: BatchSpans | None = None
        """Those of its messages, where this process traces."""
        self._letters: list[DeadLetter] = []
        self._session: BatchSession | None = None

    def session(self, info: Mapping[str, Any]) -> BatchSession:
        """The batch's one ORM session, on the batch's connection."""
        if self._session is None:
            self._session = BatchSession(self.connection, {**info, WRITES: self.writes})
        return self._session

    def span_of(self, message: UUID) -> AbstractContextManager[Any]:
        """Meanwhile that message's span is the current one, where this process traces."""
        return _NO_SPAN if self.spans is None else self.spans.current(message)

    async def catch_up(self) -> None:
        """Send what one handler has left to be written at the end: the next one is to see it."""
        await self.writes.run(self.connection)

    def letter_of(self, envelope: Envelope) -> UUID:
        """The dead letter that this message is if it fails: the one that was sent again with it, or its own."""
        return self.redriven.get(envelope.id) or dead_letters.letter_id(str(envelope.id), self.consumer)

    def check(self, check: Callable[[], None], *outcomes: Outcome) -> None:
        """Have it called when everything is written; what it raises undoes the batch.

        Where all `outcomes` have a guard, the database may look at those in its stead. Without any it is always called.
        """
        self._checks.append((check, outcomes))

    def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter and announce it."""
        self._letters.append(letter)
        self.sends.append(dead_letters.announcement(letter))

    def put_off(self, row: DeferredRow) -> None:
        """Let a message wait in `deferred`."""
        self.deferrals.append(row)
        self.wake(row.due_at)

    def wake(self, moment: datetime) -> None:
        """Something will be due then; the worker looks in time."""
        self.wake_at = moment if self.wake_at is None else min(self.wake_at, moment)

    def adopt(self, draft: Work) -> None:
        """Take over what was collected beforehand for this transaction, in a work that nothing was written by.

        What is buried or put off is not: nobody decides that beforehand.
        """
        self.writes.join(draft.writes)
        self._checks.extend(draft._checks)
        self.sends.extend(draft.sends)
        self.settled.update(draft.settled)
        self.causes.update(draft.causes)
        self.after_commit.extend(draft.after_commit)
        if draft.wake_at is not None:
            self.wake(draft.wake_at)

    async def write(self, relay: Relay | None, grace: timedelta, *, alone: bool = False) -> list[Pending]:
        """Write everything collected; returns the outbox rows to offer to the relay after the commit.

        A batch of one message, `alone`, is committed with what it writes last, where that needs no look in between.
        Raises Unforeseen where it would have needed one, and then the same is to be done again and not alone.

        Without a relay nothing is published here: the rows are the sweepers' as soon as `grace` is over.

        Raises BatchUndone where the transaction is gone: with nothing left to write it would pass for committed; and
        SavepointOpen where a savepoint was left: it ends with the session, and undoes what was done since.
        """
        emitted: list[Pending] = []
        if self._session is not None:
            if not self.connection.in_transaction():
                raise BatchUndone
            if self.connection.in_nested_transaction():
                raise SavepointOpen
            # To flush nothing takes a greenlet, too; what has changed or is to be deleted is among what it holds.
            held = self._session.sync_session
            if held.new or (held.identity_map and (held.dirty or held.deleted)):
                await self._session.flush()
            emitted = outbox.written(self._session)
        await self._claim()
        await self._forget_handled()
        if self._letters:
            await dead_letters.bury(self.connection, self._letters)
        if self.deferrals:
            await deferred.put_off(self.connection, self.consumer, self.deferrals)
        besides = {each.id for each in emitted}
        if alone and relay is not None and self._looked_at_by_the_database():
            known = relay.known() | besides
            if len(known) <= appending.MOST_KNOWN:
                relay.prepare(self.sends)
                appended, proven = await appending.append_last(
                    self.connection,
                    self.sends,
                    grace=grace,
                    known=known,
                    on_their_way=relay.on_their_way | besides,
                    beside=self.writes,
                    arrived=self.causes,
                )
                relay.arrived(proven)
                self._checks = []
                return [*emitted, *appended]
        appended = await appending.append(
            self.connection,
            self.sends,
            grace=grace,
            on_their_way=relay.on_their_way if relay else (),
            besides=besides,
            done=relay.confirmed if relay else (),
            beside=self.writes,
            arrived=self.causes,
        )
        # A check knows its batch, and the batch its checks: all of it would lie about until somebody looks for garbage.
        checks, self._checks = self._checks, []
        for check, _ in checks:
            check()
        return [*emitted, *appended]

    def _looked_at_by_the_database(self) -> bool:
        """Whether nothing has to be looked at between what is written last and the commit."""
        for _, outcomes in self._checks:
            if not outcomes or any(each.guard is None or not each.waits for each in outcomes):
                return False
        return driver.dialect(self.connection) == "postgresql"

    async def _claim(self) -> None:
        """Have the inbox written: with all else, unless that is where two who claim the same would run into."""
        entering, settled = self.entering, self.settled
        if entering:
            check, entered = inbox.enter(self.writes, self.consumer, entering, settled, self.now, careful=self.careful)
        if settled.keys() - entering:
            before = {message: entry for message, entry in settled.items() if message not in entering}
            inbox.settle(self.writes, self.consumer, before, self.now)
        if not entering:
            return
        first = bool(self.deferrals or self._letters)
        if first:
            await self.writes.run(self.connection)
        if self.careful and first:
            check()
        elif self.careful:
            self.check(check, entered)

    async def _forget_handled(self) -> None:
        """Dead letters that were tried again and neither died again nor wait for another try are none any more."""
        if not self.redriven:
            return
        buried = {letter.letter_id for letter in self._letters}
        waiting = (Status.DEFERRED, Status.STARTED)
        handled = [
            letter
            for message, letter in self.redriven.items()
            if letter not in buried and (message not in self.settled or self.settled[message].status not in waiting)
        ]
        await dead_letters.forget(self.connection, handled)
        self.sends.extend(dead_letters.resolution(letter, self.consumer, self.now) for letter in handled)

    async def close(self) -> None:
        """Let go of the session; the connection's transaction is the worker's."""
        self.over = True
        if self._session is None:
            return
        if self._session.in_nested_transaction():
            await self._session.close()
        else:
            # All that it could say to the database is the end of a savepoint.
            self._session.sync_session.close()
