"""What a worker runs: what differs between one service and another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.registry import Registry
from messaging.bus import Delivery
from messaging.inbox import Entry
from messaging.received import Received, Tick, Unreadable
from messaging.work import Work


@dataclass(frozen=True, slots=True)
class Batch:
    """What a consumer gets: messages to act on, commands that were answered before, and what its poller found due."""

    fresh: list[Received] = field(default_factory=list)
    repeated: list[tuple[Received, Entry]] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)


class Act(Protocol):
    """What is done with a batch, inside its transaction. Raises HandlerFailed to say whose fault it was, CannotGoOn."""

    async def __call__(self, work: Work, batch: Batch) -> None: ...


class CannotGoOn(Exception):
    """A consumer must handle nothing any more: its worker ends with this, what it has in hand stays on the queues."""


class Consumer(Protocol):
    """What differs between one service and another."""

    @property
    def name(self) -> str:
        """Under this name the inbox remembers what was handled."""

    @property
    def registry(self) -> Registry:
        """The messages it can read."""

    def read(self, delivery: Delivery) -> Received | Unreadable:
        """What a delivery is to it; `messaging.received.read` for everybody who collects no dead letters."""

    def concerns(self, received: Received) -> Sequence[str]:
        """Correlation ids beside its own that it moves: what is of one of them is not acted on at the same time."""

    def begin(self, work: Work, messages: Sequence[Received], ticks: Sequence[Tick]) -> Act:
        """What will act on a batch of these, once it is known which of them nobody has acted on before.

        What it adds to `work.writes` is done in one round trip with finding that out, and after it.
        """

    async def fail(self, work: Work, received: Received, error: Exception) -> None:
        """Decide, in a transaction of its own, what becomes of a message that failed alone."""

    async def due(
        self, connection: AsyncConnection, now: datetime, limit: int
    ) -> tuple[Sequence[Tick], datetime | None]:
        """What has come due by itself, and when the next will."""
