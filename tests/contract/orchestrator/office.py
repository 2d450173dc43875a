"""An engine between a real database and a broker that does as a test says, and what such tests look at."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Row

from contracts.message import Event
from messaging.bus import Delivery
from messaging.envelope import CONTENT_TYPE, Envelope, encode
from messaging.polling import REST
from orchestrator import history, stamping
from orchestrator.catalog import Catalog
from orchestrator.engine import Engine
from orchestrator.replay import reading
from orchestrator.saga.definition import Saga
from orchestrator.saga.evolving import fold
from orchestrator.saga.state import Direction, command_id, saga_id
from orchestrator.schema import parked_event, saga
from orchestrator.sharding import ALONE
from tests.contract.messaging.bench import NOON, Bench
from tests.unit.work import Begun

__all__ = ["REST", "Office"]


class Office(Bench):
    """A bench whose worker runs sagas."""

    async def employ(self, *sagas: Saga[Any], batch_size: int = 100, **options: Any) -> Engine:
        """Start an engine for these definitions."""
        self.catalog = Catalog(sagas)
        # As each process does before it takes anything in: its database says whose it is.
        await stamping.check(self.database, options.get("placement", ALONE))
        engine = Engine(self.catalog, **options)
        await self.serve(engine, batch_size=batch_size)
        return engine

    def begun(self, number: int) -> Delivery:
        """The event that starts saga number so and so; another message each time."""
        return self.delivery(Begun(id=number), correlation_id=None)

    def answer(
        self,
        number: object,
        step: str,
        event: Event,
        *,
        round: int = 1,
        direction: Direction = Direction.ACTION,
        name: str = "work",
    ) -> Delivery:
        """The answer to a command of saga number so and so."""
        return self.answer_to(saga_id(name, number), step, event, round=round, direction=direction)

    def answer_to(
        self, identity: UUID, step: str, event: Event, *, round: int = 1, direction: Direction = Direction.ACTION
    ) -> Delivery:
        """The answer to a command of this instance."""
        envelope = Envelope(
            id=UUID(int=next(self._ids) + (1 << 64)),
            type=event.wire_type,
            version=event.wire_version,
            source="worker",
            time=NOON,
            correlation_id=str(identity),
            causation_id=str(command_id(identity, step, direction, round)),
        )
        return self.raw(
            encode(envelope, event).encode(), content_type=CONTENT_TYPE, message_id=str(envelope.id), type=envelope.type
        )

    async def sagas(self) -> dict[str, Row[Any]]:
        """Every instance by its key."""
        return {row.key: row for row in await self.rows(saga)}

    async def status_of(self, number: int) -> str:
        """The status of saga number so and so."""
        return str((await self.sagas())[str(number)].status)

    async def parked(self) -> list[Row[Any]]:
        """What is parked."""
        return await self.rows(parked_event)

    def commands(self) -> list[tuple[str, str]]:
        """Type and step of every message published, in order."""
        return [(each.type, str(json.loads(each.body)["data"].get("step", ""))) for each in self.bus.published]

    async def audit(self) -> int:
        """Check that every history is gapless and folds to exactly the stored state; returns how many there are."""
        async with self.database.reading() as connection:
            found = [each async for each in reading.stream(connection)]
        for each in found:
            assert [entry.seq for entry in each.transitions] == list(range(1, len(each.transitions) + 1))
            folded = None
            for entry, version in zip(each.transitions, each.versions(), strict=True):
                folded = fold(folded, history.load_facts(entry.facts, self._definition(each.name, version)))
            stored = history.load_state(
                self._definition(each.name, each.version),
                status=each.status,
                reason=each.reason,
                data=each.data,
                progress=each.progress,
            )
            assert folded == stored
            assert stored.deadline == each.deadline
        revisions = {row.id: row.revision for row in await self.rows(saga)}
        assert {each.id: len(each.transitions) for each in found} == revisions
        return len(found)

    def _definition(self, name: str, version: int) -> Saga[Any]:
        found = self.catalog.get(name, version)
        assert found is not None
        return found
