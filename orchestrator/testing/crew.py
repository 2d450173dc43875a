"""The services of a harness: the real orchestrator and the user's participants, each with a database in memory."""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import SecretStr
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts.message import Message
from contracts.registry import Registry
from messaging.database import Database
from messaging.participant import Participant
from messaging.role import Role, participant_role
from messaging.service import Service
from messaging.serving import ParticipantConsumer
from messaging.settings import MEMORY, ServiceSettings
from messaging.topology import COMMANDS, EVENTS, Binding, Queue, Topology
from orchestrator.assembly import orchestrator
from orchestrator.catalog import Catalog
from orchestrator.saga.definition import Saga
from orchestrator.settings import OrchestratorSettings
from orchestrator.testing.faults import Faults, FaultyConsumer
from orchestrator.testing.memory_database import MemoryDatabase
from orchestrator.testing.virtual_clock import SeededEntropy, VirtualClock
from orchestrator.testing.wire import Wire

Tables = MetaData | Callable[[AsyncConnection], Awaitable[None]]
"""A service's own tables: SQLAlchemy metadata, or whatever makes them (and fills them) on a connection."""
GRACE = timedelta(seconds=10)
_SELDOM = timedelta(days=1).total_seconds()
"""How often a service looks by itself for what it has overlooked: a harness looks for it."""
EVERYTHING = Topology(
    queues=(
        Queue("test.everything", (Binding(EVENTS, "#"), Binding(COMMANDS, "#")), dead_letter_exchange=None, ring=True),
    )
)
"""A queue that nobody reads, so that what nobody listens for leaves its outbox and holds nothing up behind it."""

S = TypeVar("S", bound=ServiceSettings)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all services of one harness share."""

    wire: Wire
    clock: VirtualClock
    faults: Faults
    seed: int
    batch_size: int


def run_sagas(sagas: Iterable[Saga[Any]], around: Surroundings) -> tuple[Service, Catalog]:
    """The orchestrator. Raises InvalidSaga where two definitions claim one name and version."""
    catalog = Catalog(sagas)
    service = orchestrator(
        _settings(OrchestratorSettings, around),
        catalog,
        around.wire.bus("orchestrator"),
        clock=around.clock,
        entropy=SeededEntropy(f"orchestrator {around.seed}"),
        database=MemoryDatabase(),
        interval=_SELDOM,
    )
    return service, catalog


def run_participant(participant: Participant, tables: Tables | None, around: Surroundings) -> Service:
    """A participant as a service of its own, with its own tables."""
    settings, entropy = _settings(ServiceSettings, around), SeededEntropy(f"{participant.name} {around.seed}")
    role = participant_role(participant, settings.queue_type, around.clock, entropy, settings)

    async def prepare(database: Database) -> None:
        if tables is not None:
            async with database.transaction() as connection:
                await _make(tables, connection)

    return Service(
        settings,
        around.wire.bus(participant.name),
        name=participant.name,
        roles=[_with_faults(role, around.faults)],
        clock=around.clock,
        entropy=entropy,
        database=MemoryDatabase(),
        interval=_SELDOM,
        prepare=prepare,
    )


def by_name(participants: Iterable[Participant], tables: Mapping[str, Tables]) -> dict[str, Participant]:
    """The participants by name. Raises ValueError where two share one, or tables belong to nobody."""
    found: dict[str, Participant] = {}
    for each in participants:
        if each.name in found or each.name == "orchestrator":
            raise ValueError(f"two services are called {each.name!r}; a name is that of a service's queues")
        found[each.name] = each
    for name in tables:
        if name not in found:
            raise ValueError(f"tables are given for {name!r}, but the participants are {', '.join(found) or 'none'}")
    return found


def known_messages(catalog: Catalog, participants: Iterable[Participant], others: Iterable[type[Message]]) -> Registry:
    """Every message class that a saga, a handler or the test names. Raises TypeError for two of one wire type."""
    known = Registry(others)
    for saga in catalog:
        for function in (saga.on_completed, saga.on_compensated):
            outcome = typing.get_type_hints(function).get("return") if function is not None else None
            if isinstance(outcome, type) and issubclass(outcome, Message):
                known.add(outcome)
    for registry in (catalog.registry, *(each.registry for each in participants)):
        known = known.union(registry)
    return known


async def _make(tables: Tables, connection: AsyncConnection) -> None:
    if isinstance(tables, MetaData):
        await connection.run_sync(tables.create_all)
    else:
        await tables(connection)


def _with_faults(role: Role, faults: Faults) -> Role:
    if not isinstance(role.consumer, ParticipantConsumer):
        raise TypeError(f"{role.consumer!r} runs no participant")
    return replace(role, consumer=FaultyConsumer(role.consumer, faults))


def _settings(kind: type[S], around: Surroundings) -> S:
    return kind(
        database_url=SecretStr("sqlite://"),
        amqp_url=SecretStr(MEMORY),
        port=0,
        migrate_on_start=True,
        outbox_grace=GRACE,
        batch_size=around.batch_size,
    )
