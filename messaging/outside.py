"""Handlers that talk to the outside world: run outside any transaction, many at a time, with a time limit.

The command waits in `deferred` while it is under way, so that a crash repeats the call with the same
idempotency key; the outcome comes back into the worker's loop, where the answer commits with the inbox row.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from contracts.message import Event
from messaging.participant import Handler, RetryLater
from messaging.received import Arrival, Received
from messaging.subject_keys import KeysUnavailable
from messaging.telemetry import traceparent

MARGIN = timedelta(seconds=30)
"""How much longer than its time limit a call keeps its command to itself."""
MOST_HELD = 1_000
"""Commands of one handler that are called or wait for it in memory; the rest waits in the table. Several lanes may each
begin a batch more: none counts what another has not committed yet."""
_REMEMBERED_OUTCOMES = 10_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: with an answer, or with what it raised."""

    answer: Event | None = None
    error: Exception | None = None


class OutsideCalls:
    """The calls under way in this process."""

    def __init__(self) -> None:
        self._submit: Callable[[Arrival], None] | None = None
        self._limits: dict[str, asyncio.Semaphore] = {}
        self._running: dict[UUID, asyncio.Task[None]] = {}
        self._of_type: Counter[str] = Counter()
        self._outcomes: dict[UUID, Outcome] = {}

    def connect(self, submit: Callable[[Arrival], None]) -> None:
        """Where outcomes go: the worker's loop."""
        self._submit = submit

    def __contains__(self, identity: UUID) -> bool:
        return identity in self._running

    def __len__(self) -> int:
        return len(self._running)

    def room(self, handler: Handler) -> int:
        """How many more commands of this handler may be started or queued here."""
        return max(handler.concurrency, MOST_HELD) - self._of_type[handler.message.wire_type]

    def outcome(self, identity: UUID) -> Outcome | None:
        """The outcome that has come back for this command, if one has."""
        return self._outcomes.get(identity)

    def settled(self, identity: UUID) -> None:
        """The outcome of this command is committed."""
        self._outcomes.pop(identity, None)

    def start(self, received: Received, handler: Handler) -> None:
        """Begin the call, or queue it behind as many as the handler allows at a time."""
        identity = received.envelope.id
        if identity in self._running or identity in self._outcomes:
            return
        task = asyncio.create_task(self._call(received, handler), name=f"outside {identity}")
        self._running[identity] = task
        self._of_type[received.envelope.type] += 1
        task.add_done_callback(lambda _: self._of_type.subtract((received.envelope.type,)))

    async def close(self) -> list[UUID]:
        """Give up the calls under way; their commands wait in `deferred` and are tried again with the same keys.

        Returns these commands, and those whose outcome nobody has committed.
        """
        given_up = [*self._running, *self._outcomes]
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return given_up

    async def _call(self, received: Received, handler: Handler) -> None:
        identity = received.envelope.id
        limit = self._limits.setdefault(received.envelope.type, asyncio.Semaphore(max(handler.concurrency, 1)))
        try:
            async with limit:
                self._outcomes[identity] = await self._outcome(received, handler)
                while len(self._outcomes) > _REMEMBERED_OUTCOMES:
                    # Of a command that another process has taken over meanwhile nobody asks any more.
                    del self._outcomes[next(iter(self._outcomes))]
        finally:
            del self._running[identity]
        if self._submit is not None:
            self._submit(Arrival(received=received))

    async def _outcome(self, received: Received, handler: Handler) -> Outcome:
        seconds = (handler.time_limit or MARGIN).total_seconds()
        try:
            with traceparent.inside(received.envelope.traceparent):
                async with asyncio.timeout(seconds):
                    return Outcome(answer=await handler.call(received.message, received.envelope.id))
        except TimeoutError:
            return Outcome(error=RetryLater(f"no answer from outside within {seconds:g} s"))
        except KeysUnavailable as error:
            # The call is made again: this outcome would be the same, however long a batch waited.
            return Outcome(error=RetryLater(str(error)))
        except Exception as error:  # noqa: BLE001 - a handler's error is an outcome; the worker's loop decides about it
            structlog.get_logger().info(
                "outside_call_failed", type=received.envelope.type, message_id=str(received.envelope.id)
            )
            return Outcome(error=error)
