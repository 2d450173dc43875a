"""The sweeper: sending what was left lying in the outbox past its grace, a claim at a time.

Never a cursor over serial ids: a row that commits late would be missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from messaging import claims, outbox_rows, schema
from messaging.bulk import Writes
from messaging.bus import Bus, Receipt
from messaging.claims import LEASE, Claim, Claimed
from messaging.clock import Checkpoint, Clock
from messaging.database import DATABASE_ERRORS, Database, in_words, is_transient
from messaging.departures import Departures
from messaging.slices import Slices

FROM_THE_BEGINNING = 1.0
"""Seconds after which a sweeper that has a backlog before it looks at what came in behind it."""


class Sweeper:
    """One process's part in what all sweepers of an outbox do; `turn` is held while rows are being published."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        clock: Clock,
        departures: Departures,
        turn: asyncio.Lock,
        *,
        interval: float,
        checkpoint: Checkpoint,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._departures = departures
        self._turn = turn
        self._interval = interval
        self._checkpoint = checkpoint
        self._stopping = False
        self._over: dict[int, Collection[int]] = {}
        """Claims whose rows need no lease any more: tokens, and which of their rows were sent."""

    async def run(self) -> None:
        """Sweep again and again, until `stop`. Raises what does not pass by itself."""
        failures = 0
        while not self._stopping:
            try:
                more = await self.sweep_all()
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

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping = True

    async def sweep_all(self) -> bool:
        """Claim and send while every claim is full, each claim while the one before it is on its way.

        Returns whether there was something to do. The next one follows as soon as the bus has all of a claim, before
        the last of it is confirmed. A claim holds no row behind one that is not confirmed yet, so those of a key keep
        their order.
        """
        claim = await self._claim(claims.BEGINNING)
        something = claim.full and bool(claim.rows)
        looked_at = self._clock.monotonic()
        sending: deque[asyncio.Task[None]] = deque()
        try:
            while claim.rows:
                sending.append(asyncio.create_task(self._send(claim), name="relay sends a claim"))
                if not claim.full or self._stopping:
                    break
                # What memory holds at most: one claim that the bus is being given, and the one that follows.
                if len(sending) > 1:
                    await sending[0]
                    del sending[0]
                # Late commits and rows that were given back lie before what was claimed last.
                late = self._clock.monotonic() - looked_at > FROM_THE_BEGINNING
                looked_at = self._clock.monotonic() if late else looked_at
                claim = await self._claim(claims.BEGINNING if late else claim.upto)
            await asyncio.gather(*sending)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                for each in sending:
                    each.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
            # What was claimed while a claim before it failed: its lease runs out, and then it may be claimed again.
            self._let_go(claim)
            raise
        return something

    async def sweep(self) -> int:
        """Claim rows past their grace, publish them, delete the confirmed; returns how many were claimed."""
        claim = await self._claim(claims.BEGINNING)
        await self._send(claim)
        return len(claim.rows)

    async def forget_confirmed(self) -> None:
        """Delete what is confirmed, so that nobody sends it again."""
        if self._departures.confirmed or self._over:
            async with self._forgetting():
                pass

    @asynccontextmanager
    async def _forgetting(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that has deleted what is confirmed, and the claims that are over."""
        ids, over = set[int](), list[int]()
        try:
            async with self._database.transaction() as connection:
                # While somebody else is deleting rows, their claim still keeps others from sending them again.
                over.extend(token for token, sent in self._over.items() if not self._departures.leaving(sent))
                writes = Writes()
                ids = self._departures.delete_with(writes)
                # Behind the rows: once its claim is gone, a row that is still there is anybody's.
                writes.delete(schema.outbox_claim.c.id, over)
                await writes.run(connection)
                yield connection
        except BaseException:
            self._departures.kept(ids)
            raise
        self._departures.deleted(ids)
        for token in over:
            self._over.pop(token, None)

    async def _claim(self, since: datetime) -> Claim:
        """Rows that nobody is sending, ours for the length of a lease."""
        now = self._clock.now()
        async with self._forgetting() as connection:
            if self._bus.connected:
                claim = await claims.claim(connection, now, now + LEASE, self._departures.confirmed, since)
            else:
                # While the broker is away the rows lie better where they are: an attempt would only put them off.
                claim = Claim(None, (), False, since)
        claim = replace(claim, rows=self._departures.free(claim.rows))
        if claim.rows:
            self._checkpoint("claimed")
            self._departures.on_their_way.update(claim.ids)
        elif claim.token is not None:
            self._over[claim.token] = ()
        return claim

    async def _send(self, claim: Claim) -> None:
        if not claim.rows:
            return
        try:
            failed = await self._publish_claimed(claim.rows)
            self._departures.arrived(claim.ids.difference(failed))
        finally:
            self._let_go(claim)
        await self._settle(claim, failed)

    def _let_go(self, claim: Claim) -> None:
        """Its rows are not being sent, or not any more."""
        self._departures.on_their_way.difference_update(claim.ids)

    async def _publish_claimed(self, claimed: Sequence[Claimed]) -> dict[int, Receipt | None]:
        """What the broker said of each row that it has not confirmed; None for one behind such a row of its key."""
        failed: dict[int, Receipt | None] = {}
        held: set[str] = set()
        *earlier, last = outbox_rows.waves(claimed)
        slices = Slices(self._bus)
        try:
            async with self._turn:
                for wave in earlier:
                    ready = self._ready(wave, held, failed)
                    await slices.start([each.message for each in ready])
                    self._fail(ready, await slices.finish(), held, failed)
                ready = self._ready(last, held, failed)
                await slices.start([each.message for each in ready])
            # Others have their turn while the end of it is being confirmed.
            self._fail(ready, await slices.finish(), held, failed)
        finally:
            slices.give_up()
        return failed

    def _ready(
        self, wave: Sequence[Claimed], held: Collection[str], failed: dict[int, Receipt | None]
    ) -> Sequence[Claimed]:
        """Rows of a wave but for those behind a row that was not confirmed, which are entered as `failed`."""
        if not held:
            return wave
        failed.update({each.id: None for each in wave if each.key in held})
        return [each for each in wave if each.key not in held]

    def _fail(
        self,
        sent: Sequence[Claimed],
        receipts: Sequence[Receipt],
        held: set[str],
        failed: dict[int, Receipt | None],
    ) -> None:
        """Enter what was not confirmed, and the keys that wait for it."""
        self._checkpoint("published")
        for each, receipt in zip(sent, receipts, strict=True):
            if receipt is not Receipt.CONFIRMED:
                failed[each.id] = receipt
                self._departures.fail(each.id)
                if each.key is not None:
                    held.add(each.key)

    async def _settle(self, claim: Claim, failed: Mapping[int, Receipt | None]) -> None:
        if claim.token is None:
            return
        if not failed:
            self._over[claim.token] = claim.ids
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
