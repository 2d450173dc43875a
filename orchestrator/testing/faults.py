"""Handlers that fail because a test says so, as if their own code had raised."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.message import Message
from contracts.registry import Registry
from messaging.bisecting import HandlerFailed
from messaging.bus import Delivery
from messaging.consumer import Act, Batch
from messaging.received import Received, Tick, Unreadable
from messaging.serving import ParticipantConsumer
from messaging.work import Work


class Faults:
    """What is to fail next. A message that was chosen fails until the worker has decided what becomes of it."""

    def __init__(self) -> None:
        self._armed: list[tuple[type[Message], Exception]] = []
        self._chosen: dict[UUID, Exception] = {}

    def arm(self, kind: type[Message], error: Exception) -> None:
        """The next message of this class fails with this error."""
        self._armed.append((kind, error))

    def of(self, received: Received) -> Exception | None:
        """The error this message is to fail with, if it is."""
        known = self._chosen.get(received.envelope.id)
        if known is not None:
            return known
        for place, (kind, error) in enumerate(self._armed):
            if isinstance(received.message, kind):
                del self._armed[place]
                self._chosen[received.envelope.id] = error
                return error
        return None

    def settled(self, identity: UUID) -> None:
        """It has been put off or buried; tried again, it works."""
        self._chosen.pop(identity, None)


class FaultyConsumer:
    """A participant's consumer with faults in its handlers; implements `messaging.worker.Consumer`."""

    def __init__(self, inner: ParticipantConsumer, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults
        self.calls = inner.calls

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def registry(self) -> Registry:
        return self._inner.registry

    def read(self, delivery: Delivery) -> Received | Unreadable:
        return self._inner.read(delivery)

    def begin(self, work: Work, messages: Sequence[Received], ticks: Sequence[Tick]) -> Act:
        return self.handle

    async def handle(self, work: Work, batch: Batch) -> None:
        for received in batch.fresh:
            error = self._faults.of(received)
            if error is not None:
                raise HandlerFailed([received], error)
        await self._inner.handle(work, batch)

    async def fail(self, work: Work, received: Received, error: Exception) -> None:
        self._faults.settled(received.envelope.id)
        await self._inner.fail(work, received, error)

    def concerns(self, received: Received) -> Sequence[str]:
        return self._inner.concerns(received)

    async def due(
        self, connection: AsyncConnection, now: datetime, limit: int
    ) -> tuple[Sequence[Tick], datetime | None]:
        return await self._inner.due(connection, now, limit)
