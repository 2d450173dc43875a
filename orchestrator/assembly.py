"""The orchestrator put together: an engine on the queue of every event its sagas want to hear of."""

from __future__ import annotations

from typing import Any

from messaging.bus import Bus
from messaging.service import Role, Service
from messaging.topology import EVENTS, Binding, Queue
from orchestrator.catalog import Catalog
from orchestrator.engine import SOURCE, Engine
from orchestrator.settings import OrchestratorSettings

MIGRATIONS = "orchestrator:migrations"
QUEUE = f"{SOURCE}.events"


def orchestrator(settings: OrchestratorSettings, catalog: Catalog, bus: Bus, **options: Any) -> Service:
    """The orchestrator as a service; `options` are those of `Service` (clock, ids, database)."""
    engine = Engine(catalog, patience=settings.parked_patience)
    bindings = tuple(Binding(EVENTS, wire_type) for wire_type in catalog.event_types())
    role = Role(engine, (Queue(QUEUE, bindings, settings.queue_type),))
    return Service(settings, bus, name=SOURCE, roles=[role], migrations=[MIGRATIONS], **options)
