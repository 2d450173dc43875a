"""What is published is counted once, whether it was written at once or not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import cast

from messaging.bus import Answers, Outgoing, Receipt
from messaging.memory import MemoryBroker, MemoryBus
from messaging.telemetry.counting import PublishMeter
from messaging.telemetry.observing import ObservedBus
from tests.contract.messaging.bench import StillClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAINTED = Outgoing("events", "fence.painted", "id", b"{}", "fence.painted", NOON, "fence")


class _Prompt(MemoryBus):
    """It writes at once where it is free; the broker takes two seconds."""

    def __init__(self, clock: StillClock) -> None:
        super().__init__(MemoryBroker(), service="fence")
        self._clock = clock
        self.free = True

    def send_now(self, messages: Sequence[Outgoing]) -> Answers | None:
        return partial(self._answer, messages) if self.free else None

    async def _answer(self, messages: Sequence[Outgoing]) -> Sequence[Receipt]:
        self._clock.advance(2)
        return [Receipt.CONFIRMED] * len(messages)


class _Meter:
    def __init__(self) -> None:
        self.seen: list[tuple[list[Receipt], float]] = []

    def published(self, receipts: Sequence[Receipt], seconds: float) -> None:
        self.seen.append((list(receipts), seconds))


async def test_what_is_sent_now_is_counted_when_it_is_answered() -> None:
    """With the time from the writing on; what was not written is not counted."""
    clock, meter = StillClock(), _Meter()
    inner = _Prompt(clock)
    bus = ObservedBus(inner, cast(PublishMeter, meter), clock, None)
    answers = bus.send_now([PAINTED, PAINTED])
    assert answers is not None
    assert meter.seen == []
    await asyncio.sleep(0)
    clock.advance(1)
    assert await answers() == [Receipt.CONFIRMED] * 2
    inner.free = False
    assert bus.send_now([PAINTED]) is None
    assert meter.seen == [([Receipt.CONFIRMED] * 2, 3.0)]
