"""The relay: getting committed outbox rows to the broker.

Two paths out. The process that committed the rows publishes them at once from memory (`offer`) and deletes them
in its next transaction (`delete_with`); an independent sweeper, in every process, claims rows whose owner
has left them lying past their grace. Both keep the order of a key: a row is not published while an older row of
its key is pending, and a poisonous row holds back its own key and no other. The sweeper is in `messaging.sweeping`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress

import structlog

from messaging import bulk, claims, outbox_rows, schema
from messaging.bulk import Writes
from messaging.bus import Answers, Bus, Outgoing, Receipt
from messaging.clock import Checkpoint, Clock, no_checkpoint
from messaging.database import DATABASE_ERRORS, Database, in_words, is_transient
from messaging.departures import Departures
from messaging.outbox_rows import OutboxRow, Pending, as_message
from messaging.slices import SLICE
from messaging.sweeping import Sweeper

MOST_OFFERED = 2_000
"""Rows offered and not yet published beyond which a worker slows down."""
MOST_HELD = 20_000
"""Rows offered and not yet published beyond which further ones are left in the table: memory has an end."""


class Relay:
    """One service's way from its outbox to the broker.

    Belongs to one event loop; `offer` may be called from any thread.
    """

    def __init__(
        self,
        database: Database,
        bus: Bus,
        clock: Clock,
        *,
        interval: float = 0.5,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self._database = database
        self._bus = bus
        self._checkpoint = checkpoint
        self._turn = asyncio.Lock()
        self._offered: list[Pending] = []
        self._behind: list[Pending] = []
        """Rows offered before those of their keys that they follow."""
        self._listening = asyncio.Lock()
        """Held while something that was offered is being published, or heard of."""
        self._written: tuple[Sequence[Pending], Answers] | None = None
        """Rows that are written, and what waits for what the broker says of them."""
        self._ready: tuple[list[OutboxRow], list[Outgoing]] = [], []
        """Messages that were made while their rows were being committed."""
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.get_ident()
        self._departures = Departures()
        self.on_their_way = self._departures.on_their_way
        self.confirmed = self._departures.confirmed
        self._sweeper = Sweeper(
            database, bus, clock, self._departures, self._turn, interval=interval, checkpoint=checkpoint
        )

    # -- the fast path ---------------------------------------------------------------------------------------

    def offer(self, pending: Sequence[Pending]) -> bool:
        """Publish these committed rows, in the order they are offered; returns whether they are written already.

        They are where nothing stands before them: a turn of the loop less for whoever waits for them. Otherwise the
        relay's own task writes them soon; and it waits for what the broker says of them in any case.
        """
        if threading.get_ident() != self._thread and self._loop is not None:
            # The rows are committed; after the loop has ended, a sweeper elsewhere or the next start sends them.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.offer, pending)
            return False
        if not pending:
            return True
        ids = [each.id for each in pending]
        if len(self._offered) < MOST_HELD:
            self._departures.come(ids)
            try:
                written = self._write_now(pending)
            except BaseException:
                # Nobody would look at them any more: they would be on their way for ever.
                self._departures.withdraw(ids)
                raise
            if not written:
                self._offered.extend(pending)
        else:
            written = False
            self._departures.withdraw(ids)
        self._wake.set()
        return written

    def _write_now(self, pending: Sequence[Pending]) -> bool:
        """Have them written at once, if the relay has nothing else in hand and none of them is behind another row."""
        busy = self._listening.locked() or self._turn.locked()
        if busy or self._written is not None or self._offered or self._behind:
            return False
        if any(not each.checked or self._departures.may_be_pending(each.after) for each in pending):
            return False
        if len(outbox_rows.waves(pending)) > 1:
            return False
        rows = [each.row for each in pending]
        ready, messages = self._ready
        answers = self._bus.send_now(messages if ready == rows else [as_message(each) for each in rows])
        self._ready = [], []
        if answers is None:
            return False
        self._written = (pending, answers)
        return True

    def prepare(self, rows: Sequence[OutboxRow]) -> None:
        """Have these made ready, which are about to be committed and offered, as soon as the caller waits for that."""
        if rows:
            asyncio.get_running_loop().call_soon(self._make_ready, list(rows))

    def _make_ready(self, rows: list[OutboxRow]) -> None:
        self._ready = rows, [as_message(each) for each in rows]
        self._bus.prepare(self._ready[1])

    def expect(self, pending: Sequence[Pending]) -> None:
        """These rows are about to be committed; `offer` or `withdraw` follows, and what follows them waits for it."""
        self._departures.expect([each.id for each in pending])

    def withdraw(self, pending: Sequence[Pending]) -> None:
        """The transaction of rows that were expected has failed; if it has committed all the same, they are swept."""
        self._departures.withdraw([each.id for each in pending])
        self._wake.set()

    def known(self) -> set[int]:
        """Rows that this process is sending, or has sent and not deleted yet."""
        return self.on_their_way | self.confirmed

    def arrived(self, ids: Sequence[int]) -> None:
        """Whoever sent these rows, their messages have been answered: they are deleted with what we have sent."""
        self._departures.arrived(ids)

    async def room(self) -> None:
        """Wait a while when far more is offered than the broker takes, so that the outbox does not outgrow it.

        Only a while: in one process, the consumer that must commit our messages may be waiting for us.
        """
        if len(self._offered) > MOST_OFFERED:
            self._drained.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._drained.wait()

    async def _publish(self, pending: Sequence[Pending]) -> None:
        """Publish committed rows; whatever is not confirmed stays in the outbox for the sweeper."""
        held: set[str | None] = set()
        try:
            async with self._turn:
                for wave in outbox_rows.waves(pending):
                    await self._publish_wave(wave, held)
        finally:
            self.on_their_way.difference_update(each.id for each in pending)

    async def _publish_wave(self, wave: Sequence[Pending], held: set[str | None]) -> None:
        """Publish one wave, but for rows behind one that was not confirmed; their keys are added to `held`."""
        ready = []
        for each in wave:
            # An older row may have failed, or be on its way with the sweeper, whose turn comes after ours.
            if each.key in held or self._departures.may_be_pending(each.after):
                self._leave(each, held)
            else:
                ready.append(each)
        self._note(ready, await self._bus.publish([as_message(each.row) for each in ready]), held)

    def _note(self, sent: Sequence[Pending], receipts: Sequence[Receipt], held: set[str | None]) -> None:
        self._checkpoint("published")
        for each, receipt in zip(sent, receipts, strict=True):
            self.on_their_way.discard(each.id)
            if receipt is Receipt.CONFIRMED:
                self.confirmed.add(each.id)
            else:
                self._leave(each, held)

    def _leave(self, pending: Pending, held: set[str | None]) -> None:
        """Leave a row, and all that follow it with its key, to the sweeper."""
        self._departures.fail(pending.id)
        if pending.key is not None:
            held.add(pending.key)

    def delete_with(self, writes: Writes) -> set[int]:
        """Delete what is confirmed, with what else the caller writes; returns the ids, for `deleted` or `kept`."""
        return self._departures.delete_with(writes)

    def deleted(self, ids: set[int]) -> None:
        """The transaction that deleted these rows has committed."""
        self._departures.deleted(ids)

    def kept(self, ids: set[int]) -> None:
        """The transaction that was to delete these rows has failed."""
        self._departures.kept(ids)

    # -- life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Publish what is offered and sweep what was left lying, until `stop`."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        both = (
            asyncio.create_task(self._run_offers(), name="relay offers"),
            asyncio.create_task(self._sweeper.run(), name="relay sweeps"),
        )
        try:
            # Whichever dies takes the process with it: what it had in hand would otherwise be nobody's.
            await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in both:
                if not task.done():
                    task.cancel()
            ended = await asyncio.gather(*both, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    def stop(self) -> None:
        self._stopping = True
        self._sweeper.stop()
        self._wake.set()

    async def flush(self) -> None:
        """Publish what is still offered and delete what is confirmed; the last thing before closing."""
        await self._publish_offered()
        await self.forget_confirmed()

    async def forget_confirmed(self) -> None:
        """Delete what is confirmed, so that nobody sends it again."""
        await self._sweeper.forget_confirmed()

    async def sweep(self) -> int:
        """Claim rows past their grace, publish them, delete the confirmed; returns how many were claimed."""
        return await self._sweeper.sweep()

    async def _run_offers(self) -> None:
        while not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            await self._publish_offered()

    async def _publish_offered(self) -> None:
        # Whoever flushes waits for what the relay's own task has in hand.
        async with self._listening:
            await self._hear()
            await self._publish_all()

    async def _hear(self) -> None:
        """Wait for what the broker says of rows that are written already."""
        if self._written is None:
            return
        (pending, answers), self._written = self._written, None
        try:
            self._note(pending, await answers(), set())
        finally:
            self.on_their_way.difference_update(each.id for each in pending)

    async def _publish_all(self) -> None:
        if self._behind:
            # What they follow has a lower number: it was there when they were written.
            self._offered = sorted((*self._behind, *self._offered), key=lambda each: each.id)
            self._behind.clear()
        held: set[str | None] = set()
        while self._offered:
            taken, self._offered = self._offered[:SLICE], self._offered[SLICE:]
            taken = self._departures.part(taken, self._behind, held)
            try:
                ready = await self._without_older(taken)
            except DATABASE_ERRORS as error:
                if not is_transient(error):
                    raise
                # The rows are committed; the sweeper will find them when the database is back.
                structlog.get_logger().warning("relay_cannot_look", error=in_words(error))
                ready = []
            left = {each.id for each in taken} - {each.id for each in ready}
            for identity in left:
                # A later slice may hold rows that were written behind these.
                self._departures.fail(identity)
            self.on_their_way.difference_update(left)
            await self._publish(ready)
            self._drained.set()

    async def _without_older(self, taken: Sequence[Pending]) -> list[Pending]:
        """Leave out rows behind an older one of their key that somebody else must send first."""
        mine = {each.id for each in taken}
        keys = sorted({each.row.key for each in taken if not each.checked and each.row.key is not None})
        if not keys:
            return list(taken)
        async with self._database.reading() as connection:
            rows = await bulk.select(connection, (schema.outbox.c.key, schema.outbox.c.id), schema.outbox.c.key, keys)
        gaps = claims.gaps(rows, mine, self.confirmed)
        # Some of a key's rows may be older than the gap: those leave, the younger ones wait.
        return [each for each in taken if claims.before(each, gaps)]
