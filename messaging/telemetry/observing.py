"""What stands between a worker and its consumer, and between a relay and its bus, and takes note of what passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.registry import Registry
from messaging.bus import Answers, Bus, Delivery, Outgoing, QueueState, Receipt, Subscription
from messaging.clock import Clock
from messaging.consumer import Act, Batch, Consumer
from messaging.received import Received, Tick, Unreadable
from messaging.telemetry.counting import BatchMeter, PublishMeter
from messaging.topology import Topology
from messaging.work import Work

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from messaging.telemetry.tracing import Tracing

_MOST_AGAIN = 10_000
"""Redelivered messages that are remembered as such until they are handled."""


class ObservedConsumer:
    """A consumer as it is, counted once a batch; its messages have spans where there is `tracing`."""

    def __init__(self, consumer: Consumer, meter: BatchMeter, clock: Clock, tracing: Tracing | None) -> None:
        self._consumer = consumer
        self._meter = meter
        self._clock = clock
        self._tracing = tracing
        self._again: dict[UUID, None] = {}

    @property
    def name(self) -> str:
        return self._consumer.name

    @property
    def registry(self) -> Registry:
        return self._consumer.registry

    def read(self, delivery: Delivery) -> Received | Unreadable:
        found = self._consumer.read(delivery)
        if self._tracing is not None and delivery.redelivered and isinstance(found, Received):
            self._again[found.envelope.id] = None
            while len(self._again) > _MOST_AGAIN:
                del self._again[next(iter(self._again))]
        return found

    def concerns(self, received: Received) -> Sequence[str]:
        return self._consumer.concerns(received)

    async def due(
        self, connection: AsyncConnection, now: datetime, limit: int
    ) -> tuple[Sequence[Tick], datetime | None]:
        return await self._consumer.due(connection, now, limit)

    def begin(self, work: Work, messages: Sequence[Received], ticks: Sequence[Tick]) -> Act:
        return partial(self._handle, self._consumer.begin(work, messages, ticks))

    async def _handle(self, act: Act, work: Work, batch: Batch) -> None:
        messages = len(batch.fresh) + len(batch.repeated) + len(batch.ticks)
        if self._tracing is None:
            await act(work, batch)
        else:
            await self._traced(self._tracing, act, work, batch)
        # Not the work itself: it would hold what holds it, until somebody looks for garbage.
        work.after_commit.append(partial(self._committed, work.now, messages))

    async def fail(self, work: Work, received: Received, error: Exception) -> None:
        with nullcontext() if self._tracing is None else self._tracing.at(received.envelope.traceparent):
            await self._consumer.fail(work, received, error)
        work.after_commit.append(self._meter.failed)

    async def _traced(self, tracing: Tracing, act: Act, work: Work, batch: Batch) -> None:
        work.spans = spans = tracing.batch(self._again)
        try:
            fresh = [spans.begin(each) for each in batch.fresh]
            await act(work, Batch(fresh, batch.repeated, batch.ticks))
        except Exception as error:
            spans.failed(error, work.opened)
            raise
        ids = [each.envelope.id for each in batch.fresh] if self._again else []

        def committed() -> None:
            spans.end()
            for identity in ids:
                self._again.pop(identity, None)

        work.after_commit.append(committed)

    def _committed(self, began: datetime, messages: int) -> None:
        # Somebody may have set the clock back meanwhile.
        self._meter.committed(messages, max((self._clock.now() - began).total_seconds(), 0.0))


class ObservedBus:
    """A bus as it is; what is published through it is counted once a call, and has spans where there is `tracing`."""

    def __init__(self, bus: Bus, meter: PublishMeter, clock: Clock, tracing: Tracing | None) -> None:
        self._bus = bus
        self._meter = meter
        self._clock = clock
        self._tracing = tracing

    @property
    def connected(self) -> bool:
        return self._bus.connected

    async def start(self) -> None:
        await self._bus.start()

    async def declare(self, topology: Topology) -> None:
        await self._bus.declare(topology)

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        if not messages:
            return await self._bus.publish(messages)
        return await self._observed(
            self._clock.monotonic(), self._spans(messages), partial(self._bus.publish, messages)
        )

    def send_now(self, messages: Sequence[Outgoing]) -> Answers | None:
        began = self._clock.monotonic()
        answers = self._bus.send_now(messages)
        return None if answers is None else partial(self._observed, began, self._spans(messages), answers)

    def prepare(self, messages: Sequence[Outgoing]) -> None:
        self._bus.prepare(messages)

    def _spans(self, messages: Sequence[Outgoing]) -> list[Span | None] | None:
        return None if self._tracing is None else self._tracing.publishing(messages)

    async def _observed(self, began: float, spans: list[Span | None] | None, answers: Answers) -> Sequence[Receipt]:
        receipts = await answers()
        self._meter.published(receipts, self._clock.monotonic() - began)
        if self._tracing is not None and spans is not None:
            self._tracing.published(spans, receipts)
        return receipts

    async def subscribe(self, queue: str, *, prefetch: int, deliver: Callable[[Delivery], None]) -> Subscription:
        return await self._bus.subscribe(queue, prefetch=prefetch, deliver=deliver)

    async def inspect(self, queue: str) -> QueueState | None:
        return await self._bus.inspect(queue)

    async def close(self) -> None:
        await self._bus.close()
