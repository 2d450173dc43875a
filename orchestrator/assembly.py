"""The orchestrator put together: an engine on the queue of every event its sagas want to hear of."""

from __future__ import annotations

from typing import Any

from messaging.bus import Bus
from messaging.clock import Clock, SystemClock
from messaging.database import Database
from messaging.service import Role, Service
from messaging.topology import EVENTS, Binding, Queue
from orchestrator import search, versions
from orchestrator.catalog import Catalog
from orchestrator.engine import Engine
from orchestrator.instance import SOURCE
from orchestrator.settings import OrchestratorSettings

MIGRATIONS = "orchestrator:migrations"
QUEUE = f"{SOURCE}.events"


def orchestrator(
    settings: OrchestratorSettings, catalog: Catalog, bus: Bus, *, clock: Clock | None = None, **options: Any
) -> Service:
    """The orchestrator as a service; `options` are those of `Service`."""
    engine = Engine(catalog, patience=settings.parked_patience)
    bindings = tuple(Binding(EVENTS, wire_type) for wire_type in catalog.event_types())
    role = Role(engine, (Queue(QUEUE, bindings, settings.queue_type),))
    now = (clock or SystemClock()).now

    async def prepare(database: Database) -> None:
        await versions.check(database, catalog, settings.accept_changed, now())
        await search.declare(database, catalog, now())

    return Service(
        settings, bus, name=SOURCE, roles=[role], migrations=[MIGRATIONS], clock=clock, prepare=prepare, **options
    )
