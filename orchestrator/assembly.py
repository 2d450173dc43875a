"""The orchestrator put together: an engine on the queue of every event its sagas want to hear of, and a collector of
everybody's dead letters.
"""

from __future__ import annotations

from typing import Any

from messaging.bus import Bus
from messaging.clock import Clock, SystemClock
from messaging.database import Database
from messaging.service import Role, Service
from messaging.topology import COLLECTED_QUEUE, EVENTS, Binding, collected_queue
from orchestrator import partitioning, search, versions
from orchestrator.catalog import Catalog
from orchestrator.dead_letters import Collector
from orchestrator.engine import Engine
from orchestrator.instance import SOURCE
from orchestrator.partitioning import QUEUE
from orchestrator.settings import OrchestratorSettings

__all__ = ["MIGRATIONS", "QUEUE", "orchestrator"]

MIGRATIONS = "orchestrator:migrations"


def orchestrator(
    settings: OrchestratorSettings, catalog: Catalog, bus: Bus, *, clock: Clock | None = None, **options: Any
) -> Service:
    """The orchestrator as a service; `options` are those of `Service`."""
    engine = Engine(catalog, patience=settings.parked_patience)
    bindings = tuple(Binding(EVENTS, wire_type) for wire_type in catalog.event_types())
    roles = [
        Role(
            engine,
            partitioning.queues(settings.partitions, bindings, settings.queue_type),
            partitioning.spreads(settings.partitions, bindings),
            lambda bus: partitioning.left_over(bus, settings.partitions, bindings),
            # Each orchestrator collects dead letters, whatever partitions it is active on.
            common=COLLECTED_QUEUE,
        ),
        Role(Collector(), (collected_queue(settings.queue_type),)),
    ]
    now = (clock or SystemClock()).now

    async def prepare(database: Database) -> None:
        await versions.check(database, catalog, settings.accept_changed, now())
        await search.declare(database, catalog, now())

    return Service(
        settings, bus, name=SOURCE, roles=roles, migrations=[MIGRATIONS], clock=clock, prepare=prepare, **options
    )
