"""The orchestrator's `handle`: load the instances a batch concerns, fold the machine over it, write it all at
once.

A batch is a constant number of statements whatever its size. The row lock decides who comes first, the revision
proves it.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.message import Event
from contracts.registry import Registry
from messaging import deferred
from messaging.bisecting import HandlerFailed
from messaging.bus import Delivery
from messaging.consumer import Act, Batch
from messaging.database import in_words, took_too_long
from messaging.dead_letters import of_received
from messaging.envelope import text_of
from messaging.inbox import Entry
from messaging.inbox import Status as InboxStatus
from messaging.received import Received, Tick, Unreadable, read
from messaging.senders import Senders
from messaging.work import Work
from orchestrator import timers, tracing, versions
from orchestrator.catalog import Catalog, Target
from orchestrator.folding import Folding
from orchestrator.foreseeing import Foresight
from orchestrator.instance import SOURCE
from orchestrator.loading import Loading
from orchestrator.metering import SagaMeter
from orchestrator.remembered import Remembered
from orchestrator.routing import row_for
from orchestrator.sharding import ALONE, Placement, shard_of

Named = dict[Received, list[Target]]
"""The instances that messages concern."""


class Engine:
    """The consumer that runs sagas."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        patience: timedelta = timedelta(days=1),
        placement: Placement = ALONE,
        senders: Senders | None = None,
    ) -> None:
        self._senders = senders
        self._catalog = catalog
        self._placement = placement
        self._alone = placement == ALONE
        self._patience = patience
        self._remembered = Remembered()
        self._foresees = True
        self.meter = SagaMeter(catalog)
        self._known = [(saga.name, saga.version) for saga in catalog]

    @property
    def name(self) -> str:
        return SOURCE

    @property
    def registry(self) -> Registry:
        return self._catalog.registry

    def read(self, delivery: Delivery) -> Received | Unreadable:
        return read(delivery, self.registry, self._senders)

    def concerns(self, received: Received) -> Sequence[str]:
        """The instances that its key names: an approval and an answer to the same one are not acted on side by side."""
        event = received.message
        try:
            return [text_of(each.saga_id) for each in self._catalog.named(event)] if isinstance(event, Event) else ()
        except Exception:  # noqa: BLE001 - a definition's own key function; `handle` meets it again and says whose it is
            return ()

    async def due(
        self, connection: AsyncConnection, now: datetime, limit: int
    ) -> tuple[Sequence[Tick], datetime | None]:
        """Instances whose deadline has passed, and parked events it is time to look at again."""
        return await timers.due(connection, now, limit, self._known)

    async def handle(self, work: Work, batch: Batch) -> None:
        """`begin`, and what that has begun, where nobody asks which of these are to be acted on."""
        await self.begin(work, batch.fresh, batch.ticks)(work, batch)

    def begin(self, work: Work, messages: Sequence[Received], ticks: Sequence[Tick]) -> Act:
        """Have the instances locked and read that these may concern: what acts will fold over them."""
        named: Named = {}
        for each in messages:
            with suppress(Exception):  # a definition's own key function; `_targets` meets it again and says whose it is
                named[each] = self._named(each)
        targets = [target for each in named.values() for target in self._here(each)]
        ids = {target.saga_id for target in targets} | {each.saga_id for each in _ours(ticks)}
        starting = {target.name for target in targets if target.starts}
        loading = Loading(self._catalog, work, self._remembered, ids, starting, self._placement)
        foresight = Foresight(self._catalog, self._patience, self.meter, self._remembered)
        if len(messages) == len(targets) == 1 and not ticks and not messages[0].deferred and self._foresees:
            foresight.look_soon(work, targets[0], messages[0])
        return partial(self._act, loading, named, foresight)

    async def _act(self, loading: Loading, named: Named, foresight: Foresight, work: Work, batch: Batch) -> None:
        """Fold a batch of events and deadlines over the instances they concern.

        Raises DefinitionChanged where others of these instances' definitions are written down than are loaded here,
        WrongShard where the database has become another shard.
        """
        # Where this process traces, a message is handled as another one, within its span: all would be in vain.
        self._foresees = work.spans is None
        if (draft := foresight.of(batch.fresh, loading)) is not None and not batch.ticks:
            work.adopt(draft)
            return
        plan = Folding(self._catalog, self._patience, work, loading)
        plan.watch = self.meter.watch(work)
        concerned = [(received, self._targets(work, received, named)) for received in batch.fresh]
        ticks = _ours(batch.ticks)
        await loading.read()
        await versions.compare(work.connection, self._catalog, loading.written)
        if work.spans is None:
            for received, targets in concerned:
                for target in targets:
                    plan.event(received, target)
            for tick in ticks:
                plan.tick(tick)
        else:
            tracing.fold(plan, work.spans, concerned, ticks)
        await plan.write()

    async def fail(self, work: Work, received: Received, error: Exception) -> None:
        """An event that breaks the engine itself, alone, becomes a dead letter; one that takes too long waits first."""
        if took_too_long(error):
            self._put_off(work, received, in_words(error))
            return
        story = "".join(traceback.format_exception(error))
        self._bury(work, received, "handler_failed", story[-8000:])

    def _put_off(self, work: Work, received: Received, error: str) -> None:
        tried = received.attempts + 1
        if tried >= deferred.ATTEMPTS:
            story = deferred.exhausted(tried, received.first_at or work.now, error)
            self._bury(work, received, "retries_exhausted", story)
            return
        # Without jitter: whoever waits here was found alone, and not with a thousand others at one moment.
        work.put_off(deferred.row_of(received, work.now, deferred.backoff(tried, 0.0), tried, error))
        work.settled[received.envelope.id] = Entry(InboxStatus.DEFERRED)

    def _named(self, received: Received) -> list[Target]:
        event = received.message
        return self._catalog.targets(received.envelope, event) if isinstance(event, Event) else []

    def _here(self, targets: list[Target]) -> list[Target]:
        if self._alone:
            return targets
        return [target for target in targets if target.saga_id in self._placement]

    def _targets(self, work: Work, received: Received, named: Named) -> list[Target]:
        targets = named.get(received)
        if targets is None:
            try:
                targets = self._named(received)
            except Exception as error:  # a definition's own key function: named for the worker's boundary
                raise HandlerFailed([received], error) from error
        if not targets:
            why = "it answers no saga's command: its correlation id is no saga's, or no saga listens for it"
            self._bury(work, received, "unhandled", why)
        if self._alone:
            return targets
        here = self._here(targets)
        if targets and (received.deferred or not here):
            # Otherwise what concerns others was handed on before it came here. These waited while shards were added.
            numbers = {shard_of(target.saga_id, self._placement.shards) for target in targets}
            work.sends.extend(
                row_for(received, number, work.now) for number in sorted(numbers - {self._placement.number})
            )
        return here

    def _bury(self, work: Work, received: Received, reason: str, error: str) -> None:
        work.bury(of_received(SOURCE, received, work.letter_of(received.envelope), reason, error, work.now))
        work.settled[received.envelope.id] = Entry(InboxStatus.FAILED)
        structlog.get_logger().error(
            "dead_letter", reason=reason, type=received.envelope.type, message_id=str(received.envelope.id)
        )


def _ours(ticks: Sequence[Tick]) -> list[timers.DeadlineDue | timers.ParkedDue]:
    return [tick for tick in ticks if isinstance(tick, (timers.DeadlineDue, timers.ParkedDue))]
