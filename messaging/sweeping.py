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
from messaging.bus import Bus, Outgoing, Receipt
from messaging.claims import LEASE, Claim
from messaging.clock import Checkpoint, Clock
from messaging.database import DATABASE_ERRORS, Database, in_words, is_transient
from messaging.departures import Departures
from messaging.outbox_rows import Pending, as_message

SLICE = 500
"""Rows published together: as many as a RabbitMQ channel should have unconfirmed."""
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
        # What is offered here and only waits for its turn is not overtaken by younger rows of its key.
        busy = {
            each.row.key for each in claim.rows if each.id in self._departures.on_their_way and each.row.key is not None
        }
        sent = self._departures.confirmed | self._departures.on_their_way
        rows = [each for each in claim.rows if each.id not in sent and each.row.key not in busy]
        if rows:
            self._checkpoint("claimed")
            self._departures.on_their_way.update(each.id for each in rows)
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
        self._departures.on_their_way.difference_update(each.id for each in rows)

    async def _publish_claimed(self, claimed: Sequence[Pending]) -> dict[int, Receipt | None]:
        """What the broker said of each row; None for a row behind one of its key that was not confirmed."""
        receipts: dict[int, Receipt | None] = {}
        held: set[str] = set()
        async with self._turn:
            for wave in outbox_rows.waves(claimed):
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
        self._departures.confirmed.update(
            identity for identity, receipt in receipts.items() if receipt is Receipt.CONFIRMED
        )
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
