"""The relay: getting committed outbox rows to the broker.

Two paths out. The process that committed the rows publishes them at once from memory (`offer`) and deletes them
in its next transaction (`delete_with`); an independent sweeper, in every process, claims rows whose owner
has left them lying past their grace. Both keep the order of a key: a row is not published while an older row of
its key is pending, and a poisonous row holds back its own key and no other.

Never a cursor over serial ids: a row that commits late would be missed.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import bulk, claims, schema
from messaging.bulk import Writes
from messaging.bus import Bus, Outgoing, Receipt
from messaging.claims import LEASE, Claim
from messaging.clock import Checkpoint, Clock, no_checkpoint
from messaging.database import DATABASE_ERRORS, Database, in_words, is_transient
from messaging.departures import Departures
from messaging.outbox_rows import Pending, as_message, waves

MOST_OFFERED = 2_000
"""Rows offered and not yet published beyond which a worker slows down."""
MOST_HELD = 20_000
"""Rows offered and not yet published beyond which further ones are left in the table: memory has an end."""
SLICE = 500
"""Rows published together: as many as a RabbitMQ channel should have unconfirmed."""
FROM_THE_BEGINNING = 1.0
"""Seconds after which a sweeper that has a backlog before it looks at what came in behind it."""


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
        self._clock = clock
        self._interval = interval
        self._checkpoint = checkpoint
        self._turn = asyncio.Lock()
        self._offered: list[Pending] = []
        self._behind: list[Pending] = []
        """Rows offered before those of their keys that they follow."""
        self._wake = asyncio.Event()
        self._drained = asyncio.Event()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.get_ident()
        self._departures = Departures()
        self.on_their_way = self._departures.on_their_way
        self.confirmed = self._departures.confirmed
        self._over: dict[int, Collection[int]] = {}
        """Claims whose rows need no lease any more: tokens, and which of their rows were sent."""

    # -- the fast path ---------------------------------------------------------------------------------------

    def offer(self, pending: Sequence[Pending]) -> None:
        """Publish these committed rows soon, in the order they are offered, from the relay's own task."""
        if threading.get_ident() != self._thread and self._loop is not None:
            # The rows are committed; after the loop has ended, a sweeper elsewhere or the next start sends them.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.offer, pending)
            return
        if not pending:
            return
        ids = [each.id for each in pending]
        if len(self._offered) < MOST_HELD:
            self._departures.come(ids)
            self._offered.extend(pending)
        else:
            self._departures.withdraw(ids)
        self._wake.set()

    def expect(self, pending: Sequence[Pending]) -> None:
        """These rows are about to be committed; `offer` or `withdraw` follows, and what follows them waits for it."""
        self._departures.expect([each.id for each in pending])

    def withdraw(self, pending: Sequence[Pending]) -> None:
        """The transaction of rows that were expected has failed; if it has committed all the same, they are swept."""
        self._departures.withdraw([each.id for each in pending])
        self._wake.set()

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
                for wave in waves(pending):
                    await self._publish_wave(wave, held)
        finally:
            self.on_their_way.difference_update(each.id for each in pending)

    async def _publish_wave(self, wave: Sequence[Pending], held: set[str | None]) -> None:
        """Publish one wave, but for rows behind one that was not confirmed; their keys are added to `held`."""
        ready = []
        for each in wave:
            # An older row may have failed, or be on its way with the sweeper, whose turn comes after ours.
            if each.row.key in held or self._departures.may_be_pending(each.after):
                self._leave(each, held)
            else:
                ready.append(each)
        receipts = await self._bus.publish([as_message(each.row) for each in ready])
        self._checkpoint("published")
        for each, receipt in zip(ready, receipts, strict=True):
            self.on_their_way.discard(each.id)
            if receipt is Receipt.CONFIRMED:
                self.confirmed.add(each.id)
            else:
                self._leave(each, held)

    def _leave(self, pending: Pending, held: set[str | None]) -> None:
        """Leave a row, and all that follow it with its key, to the sweeper."""
        self._departures.fail(pending.id)
        if pending.row.key is not None:
            held.add(pending.row.key)

    def delete_with(self, writes: Writes) -> set[int]:
        """Delete what is confirmed, with what else the caller writes; returns the ids, for `deleted` or `kept`."""
        return self._departures.delete_with(writes)

    def deleted(self, ids: set[int]) -> None:
        """The transaction that deleted these rows has committed."""
        self._departures.deleted(ids)

    def kept(self, ids: set[int]) -> None:
        """The transaction that was to delete these rows has failed."""
        self._departures.kept(ids)

    # -- the sweeper -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Publish what is offered and sweep what was left lying, until `stop`."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        both = (
            asyncio.create_task(self._run_offers(), name="relay offers"),
            asyncio.create_task(self._run_sweeps(), name="relay sweeps"),
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
        self._wake.set()

    async def flush(self) -> None:
        """Publish what is still offered and delete what is confirmed; the last thing before closing."""
        await self._publish_offered()
        await self.forget_confirmed()

    async def forget_confirmed(self) -> None:
        """Delete what is confirmed, so that nobody sends it again."""
        if self.confirmed or self._over:
            async with self._forgetting():
                pass

    @asynccontextmanager
    async def _forgetting(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that has deleted what is confirmed, and the claims that are over."""
        # While somebody else is deleting rows, their claim still keeps others from sending them again.
        over = [token for token, sent in self._over.items() if not self._departures.leaving(sent)]
        ids = set[int]()
        try:
            async with self._database.transaction() as connection:
                writes = Writes()
                ids = self.delete_with(writes)
                # Behind the rows: once its claim is gone, a row that is still there is anybody's.
                writes.delete(schema.outbox_claim.c.id, over)
                await writes.run(connection)
                yield connection
        except BaseException:
            self.kept(ids)
            raise
        self.deleted(ids)
        for token in over:
            self._over.pop(token, None)

    async def _run_offers(self) -> None:
        while not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            await self._publish_offered()

    async def _publish_offered(self) -> None:
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

    async def _run_sweeps(self) -> None:
        failures = 0
        while not self._stopping:
            try:
                more = await self._sweep_all()
                failures = 0
            except DATABASE_ERRORS as error:
                if not is_transient(error):
                    raise
                failures += 1
                more = False
                if failures == 1:
                    structlog.get_logger().warning("sweep_waits_for_database", error=in_words(error))
            if not more:
                await self._clock.sleep(self._interval * min(failures + 1, 10))

    async def _sweep_all(self) -> bool:
        """Claim and send while every claim is full, each claim while the one before it is on its way.

        Returns whether there was something to do. A claim holds no row behind one that is not confirmed yet, so those
        of a key keep their order.
        """
        claim = await self._claim(claims.BEGINNING)
        something = claim.full and bool(claim.rows)
        looked_at = self._clock.monotonic()
        try:
            while claim.rows:
                sending = asyncio.create_task(self._send(claim), name="relay sends a claim")
                try:
                    if not claim.full or self._stopping:
                        return something
                    # Late commits and rows that were given back lie before what was claimed last.
                    late = self._clock.monotonic() - looked_at > FROM_THE_BEGINNING
                    looked_at = self._clock.monotonic() if late else looked_at
                    claim = await self._claim(claims.BEGINNING if late else claim.upto)
                except asyncio.CancelledError:
                    sending.cancel()
                    raise
                finally:
                    await sending
        except BaseException:
            # What was claimed while the claim before it failed: its lease runs out, and then it may be claimed again.
            self._let_go(claim.rows)
            raise
        return something

    async def sweep(self) -> int:
        """Claim rows past their grace, publish them, delete the confirmed; returns how many were claimed."""
        claim = await self._claim(claims.BEGINNING)
        await self._send(claim)
        return len(claim.rows)

    async def _claim(self, since: datetime) -> Claim:
        """Rows that nobody is sending, ours for the length of a lease."""
        now = self._clock.now()
        async with self._forgetting() as connection:
            if self._bus.connected:
                claim = await claims.claim(connection, now, now + LEASE, self.confirmed, since)
            else:
                # While the broker is away the rows lie better where they are: an attempt would only put them off.
                claim = Claim(None, (), False, since)
        # What is offered here and only waits for its turn is not overtaken by younger rows of its key.
        busy = {each.row.key for each in claim.rows if each.id in self.on_their_way and each.row.key is not None}
        sent = self.confirmed | self.on_their_way
        rows = [each for each in claim.rows if each.id not in sent and each.row.key not in busy]
        if rows:
            self._checkpoint("claimed")
            self.on_their_way.update(each.id for each in rows)
        elif claim.token is not None:
            self._over[claim.token] = ()
        return replace(claim, rows=rows)

    async def _send(self, claim: Claim) -> None:
        if not claim.rows:
            return
        try:
            receipts = await self._publish_claimed(claim.rows)
        finally:
            self._let_go(claim.rows)
        await self._settle(claim, receipts)

    def _let_go(self, rows: Sequence[Pending]) -> None:
        """These are not being sent, or not any more."""
        self.on_their_way.difference_update(each.id for each in rows)

    async def _publish_claimed(self, claimed: Sequence[Pending]) -> dict[int, Receipt | None]:
        """What the broker said of each row; None for a row behind one of its key that was not confirmed."""
        receipts: dict[int, Receipt | None] = {}
        held: set[str] = set()
        async with self._turn:
            for wave in waves(claimed):
                ready = [each for each in wave if each.row.key not in held]
                receipts.update({each.id: None for each in wave if each.row.key in held})
                said = await self._publish_in_slices([as_message(each.row) for each in ready])
                self._checkpoint("published")
                for each, receipt in zip(ready, said, strict=True):
                    receipts[each.id] = receipt
                    if receipt is Receipt.CONFIRMED:
                        self._departures.mended(each.id)
                        continue
                    self._departures.fail(each.id)
                    if each.row.key is not None:
                        held.add(each.row.key)
        self.confirmed.update(identity for identity, receipt in receipts.items() if receipt is Receipt.CONFIRMED)
        return receipts

    async def _publish_in_slices(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        """Publish what is more than the broker may have time for at once; a slice while the one before is confirmed."""
        said: list[Receipt] = []
        under_way: deque[asyncio.Task[Sequence[Receipt]]] = deque()
        try:
            for start in range(0, len(messages), SLICE):
                under_way.append(asyncio.create_task(self._bus.publish(messages[start : start + SLICE])))
                if len(under_way) > 1:
                    said += await under_way.popleft()
            while under_way:
                said += await under_way.popleft()
        finally:
            for each in under_way:
                each.cancel()
        return said

    async def _settle(self, claim: Claim, receipts: Mapping[int, Receipt | None]) -> None:
        failed = {key: said for key, said in receipts.items() if said is not Receipt.CONFIRMED}
        if claim.token is None:
            return
        if not failed:
            self._over[claim.token] = receipts.keys()
            return
        # A lost connection is not the rows' fault: they go out again with the next one.
        cut_off = not self._bus.connected
        async with self._forgetting() as connection:
            await claims.give_back(connection, claim.token, failed, self._clock.now(), cut_off=cut_off)
        tried_in_vain = [said for said in failed.values() if said is not None]
        if tried_in_vain:
            structlog.get_logger().warning(
                "outbox_rows_not_confirmed",
                rows=len(tried_in_vain),
                unroutable=sum(said is Receipt.UNROUTABLE for said in tried_in_vain),
            )
