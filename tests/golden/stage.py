"""A real engine on a SQLite database, and one instance that is led through a story."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy.engine import Row

from contracts.message import Event
from messaging import schema
from messaging.database import Database
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from messaging.relay import Relay
from orchestrator import queries, versions
from orchestrator.operations.action import Operator, Result
from orchestrator.replay.reading import recorded
from orchestrator.replay.recorded import Recorded
from orchestrator.saga.definition import Saga
from orchestrator.saga.inputs import Action, PersonActed
from orchestrator.saga.state import Direction, command_id, saga_id
from orchestrator.schema import metadata
from tests.contract.messaging.bench import PATIENCE, ScriptedBus
from tests.contract.orchestrator.office import Office

_KEYS = UUID("0195d3a2-7c00-7000-8000-00000000c0de")


class Stage(Office):
    """One instance of one saga."""

    async def put_on(self, saga: Saga[Any], story: str) -> None:
        """Start an engine for it; every story is that of another order or trip."""
        self._saga = saga
        self.turn_to(uuid5(_KEYS, story))
        await self.employ(saga)

    def turn_to(self, key: UUID) -> None:
        """From now on it is the instance with this key that is spoken of."""
        self.key = key
        self.identity = saga_id(self._saga.name, key)

    async def comes(self, event: Event, source: str) -> None:
        """An event that answers nothing: the start, an approval, a cancellation."""
        await self._deliver(event, source, None)

    async def answers(
        self, step: str, event: Event, *, direction: Direction = Direction.ACTION, round: int = 1
    ) -> None:
        """The answer to a step's command, some milliseconds after it was sent."""
        source = event.wire_type.partition(".")[0]
        await self._deliver(event, source, command_id(self.identity, step, direction, round))

    async def undone(self, step: str, event: Event, *, round: int = 1) -> None:
        """The answer to a step's compensation."""
        await self.answers(step, event, direction=Direction.COMPENSATION, round=round)

    async def silence(self, deadlines: int = 1) -> None:
        """Nothing comes until so many deadlines have passed."""
        for _ in range(deadlines):
            revision = (await self._row()).revision
            while (await self._row()).revision == revision:
                await self.next_deadline()

    async def next_deadline(self) -> None:
        """It is the moment after the next deadline of any instance, and the engine has acted on it."""
        waiting = [row for row in (await self.sagas()).values() if row.deadline is not None]
        assert waiting, "nothing is due"
        first = min(waiting, key=lambda row: (row.deadline, row.id))
        # Only while the worker sleeps: then the same happens at the same moment each time.
        await self.until(lambda: self.clock.sleepers > 0, "the worker waits for the time to pass")
        due = first.deadline + timedelta(milliseconds=1)
        self.clock.advance(max(0.0, (due - self.clock.now()) / timedelta(seconds=1)))
        async with asyncio.timeout(PATIENCE):
            while (await self.sagas())[first.key].revision == first.revision:  # noqa: ASYNC110 - it is in the database
                await asyncio.sleep(0.002)
        await self.until(lambda: self.worker.in_hand_since is None, "the worker has done what it has in hand")

    async def person(self, action: Action, why: str, step: str | None = None, answer: Event | None = None) -> None:
        """Somebody acts, a quarter of an hour later."""
        self.clock.advance(900)
        given = PersonActed(self.clock.now(), action, "bea", why, step, answer)
        outcome = await Operator(self.database, self.catalog, self.clock).act(self.identity, given)
        assert outcome.result is Result.DONE, outcome.why

    async def goes_on_as(self, before: Saga[Any], after: Saga[Any]) -> None:
        """A process that has both versions takes the place of the one before, and somebody migrates the instance."""
        await self.retire()
        self.bus = ScriptedBus()
        self.relay = Relay(self.database, self.bus, self.clock)
        self._saga = after
        await self.employ(before, after)
        await versions.check(self.database, self.catalog, (), self.clock.now())
        given = PersonActed(
            self.clock.now(),
            Action.MIGRATE,
            "bea",
            f"v{after.version} is out",
            from_version=before.version,
            to_version=after.version,
        )
        outcome = await Operator(self.database, self.catalog, self.clock).act(self.identity, given)
        assert outcome.result is Result.DONE, outcome.why

    async def told(self) -> Recorded:
        """What the database now holds of it."""
        async with self.database.reading() as connection:
            return await recorded(connection, await queries.find(connection, str(self.identity)))

    async def _row(self) -> Row[Any]:
        async with self.database.reading() as connection:
            return await queries.find(connection, str(self.identity))

    async def _deliver(self, event: Event, source: str, cause: UUID | None) -> None:
        self.clock.advance(0.007)
        envelope = Envelope(
            id=self.entropy.message_id(self.clock.now()),
            type=event.wire_type,
            version=event.wire_version,
            source=source,
            time=self.clock.now(),
            correlation_id=None if cause is None else str(self.identity),
            causation_id=None if cause is None else str(cause),
        )
        body = encode(envelope, event).encode()
        await self.handle(self.raw(body, content_type=CONTENT_TYPE, message_id=str(envelope.id), type=event.wire_type))


@asynccontextmanager
async def stage(folder: Path, saga: Saga[Any], story: str) -> AsyncIterator[Stage]:
    """A stage for one story, with its database in `folder`."""
    database = Database(f"sqlite:///{folder / 'golden.db'}")
    async with database.transaction() as connection:
        await connection.run_sync(schema.metadata.create_all)
        await connection.run_sync(metadata.create_all)
    found = Stage(database)
    await found.put_on(saga, story)
    try:
        yield found
    finally:
        await found.close()
