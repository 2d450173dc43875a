"""The orchestrator put together: an engine on the queue of every event its sagas want to hear of, and a collector of
everybody's dead letters.
"""

from __future__ import annotations

from typing import Any

from messaging.bus import Bus
from messaging.clock import Clock, SystemClock, SystemEntropy
from messaging.database import Database
from messaging.role import Role
from messaging.service import Service
from messaging.topology import COLLECTED_QUEUE, EVENTS, Binding, Queue, QueueType, Topology, collected_queue
from orchestrator import partitioning, search, stamping, versions
from orchestrator.catalog import Catalog
from orchestrator.dead_letters import Collector
from orchestrator.depths import SagaDepths
from orchestrator.engine import Engine
from orchestrator.instance import SOURCE
from orchestrator.partitioning import QUEUE
from orchestrator.routing import Router, RoutingBus
from orchestrator.settings import OrchestratorSettings
from orchestrator.sharding import ALONE, EXCHANGE, queue_of

__all__ = ["MIGRATIONS", "QUEUE", "orchestrator"]

MIGRATIONS = "orchestrator:migrations"


def orchestrator(
    settings: OrchestratorSettings, catalog: Catalog, bus: Bus, *, clock: Clock | None = None, **options: Any
) -> Service:
    """The orchestrator as a service; `options` are those of `Service`."""
    placement = settings.placement
    roles = [_events(settings, catalog), *_dead_letters(settings)]
    now = (clock or SystemClock()).now

    async def prepare(database: Database) -> None:
        await stamping.check(database, placement)
        await versions.check(database, catalog, settings.accept_changed, now())
        await search.declare(database, catalog, now())

    if placement != ALONE:
        entropy = options.get("entropy") or SystemEntropy()
        router = Router(catalog, placement, settings.allowed)
        bus = RoutingBus(bus, router, {COLLECTED_QUEUE}, clock or SystemClock(), entropy)
    return Service(
        settings, bus, name=SOURCE, roles=roles, migrations=[MIGRATIONS], clock=clock, prepare=prepare, **options
    )


def _events(settings: OrchestratorSettings, catalog: Catalog) -> Role:
    """The engine, on the queues that events come through and, in a shard, on its own."""
    placement, kind = settings.placement, settings.queue_type
    engine = Engine(catalog, patience=settings.parked_patience, placement=placement, senders=settings.allowed)
    bindings = tuple(Binding(EVENTS, wire_type) for wire_type in catalog.event_types())
    alone = placement == ALONE
    queues = partitioning.queues(settings.partitions, bindings, kind, single_active=alone)
    shards = () if alone else tuple(_of_shard(number, kind) for number in range(placement.shards))
    return Role(
        engine,
        (*queues, *(each for each in shards if each.name == queue_of(placement.number))),
        partitioning.spreads(settings.partitions, bindings),
        lambda bus: partitioning.left_over(bus, settings.partitions, bindings),
        # Each orchestrator collects dead letters, whatever partitions it is active on.
        common=COLLECTED_QUEUE,
        # Of all shards, so that what is handed on finds a queue also before that shard's first process starts.
        also=Topology(exchanges=() if alone else (EXCHANGE,), queues=shards),
        meters=(engine.meter,),
        looks=(SagaDepths(catalog),),
        watched=catalog.participants(),
        lanes=settings.lanes,
    )


def _of_shard(number: int, type: QueueType) -> Queue:
    return Queue(queue_of(number), (Binding(EXCHANGE, str(number)),), type)


def _dead_letters(settings: OrchestratorSettings) -> list[Role]:
    """Who keeps everybody's dead letters: of several shards the first."""
    if settings.placement.number != 0:
        return []
    # The broker counts what goes back, and drops what has come back too often: here that goes to no other queue.
    return [Role(Collector(settings.allowed), (collected_queue(settings.queue_type),), finishes=True)]
