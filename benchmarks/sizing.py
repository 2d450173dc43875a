"""How much of everything so many sagas a second need: what one was measured to cost, multiplied. Pure.

A saga of S steps sends S commands. Of the compensated ones, half the steps are taken to have been done when one is
refused: on average S + 1 commands, those that undo included. A command is answered once, a start and an end are told
once, and the orchestrator makes a transition of each answer and of the start:

    commands = S + share compensated
    messages = 2 * commands + 2
    transitions = commands + 1

The orchestrator and its database cost by the transition, participants and theirs by the command (the one that takes
the requests, by the request as well), the broker by the message. With several shards, an event that came to another one
than its saga's is handed on over the broker once more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

ORCHESTRATOR = "orchestrator"
BROKER = "broker"
SECONDS_A_DAY = 86_400


def database_of(service: str) -> str:
    """What the CPU of a service's PostgreSQL is called in a footprint."""
    return f"{service} database"


@dataclass(frozen=True, slots=True)
class Saga:
    """What a saga is like: `compensated` is a share of all, `data_bytes` what each message has beyond the measured."""

    steps: int
    compensated: float
    data_bytes: int = 0

    @property
    def commands(self) -> float:
        return self.steps + self.compensated

    @property
    def messages(self) -> float:
        return 2 * self.commands + 2

    @property
    def transitions(self) -> float:
        return self.commands + 1


@dataclass(frozen=True, slots=True)
class Stored:
    """What one saga leaves in a table."""

    rows: float
    table_bytes: float
    index_bytes: float


@dataclass(frozen=True, slots=True)
class Request:
    """What the request that starts a saga costs the service which takes it, on top: as often as there are sagas."""

    service: str
    cpu_ms: float
    database_cpu_ms: float
    wal_bytes: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one saga was measured to cost.

    Bytes sent are those to a server. Each queue had `copies` members; `copied_bytes` went from one to the others.
    """

    steps: int
    compensated: float
    cpu_ms: Mapping[str, float]
    wal_bytes: Mapping[str, int]
    stored: Mapping[str, Mapping[str, Stored]]
    sent_bytes: Mapping[str, int]
    received_bytes: Mapping[str, int]
    copies: int
    copied_bytes: int
    request: Request

    @property
    def saga(self) -> Saga:
        """The one that was measured."""
        return Saga(self.steps, self.compensated)

    @property
    def participants(self) -> tuple[str, ...]:
        return tuple(service for service in self.stored if service != ORCHESTRATOR)

    def bytes_of(self, service: str) -> float:
        """What one saga leaves in a service's database."""
        return sum(each.table_bytes + each.index_bytes for each in self.stored[service].values())


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What was not measured here; docs/scaling.md says where each comes from."""

    busy: float = 0.7
    """Of anything, at the peak: what is left is for bursts, restarts and what comes back after an outage."""
    replicas: int = 3
    """Members of a quorum queue; where only one was measured, each of the others costs as much as that."""
    machine_cores: int = 16
    queue_messages: float = 10_000
    """A second, in and out of one quorum queue."""
    node_messages: float = 9_500
    """A second, for each node of a broker's cluster, of 16 cores."""
    cluster_nodes: int = 7
    """A broker's cluster with more than that is a thing of its own."""
    server_cores: int = 32
    """Of a PostgreSQL server."""
    server_wal_bytes: float = 100e6
    """A second: the tables are written as well, and a standby replays in one process."""
    server_bytes: float = 4e12
    """What one PostgreSQL server may hold and still be backed up, restored and vacuumed in time."""
    network_bytes: float = 1.25e9
    """A second in each direction, of one machine: 10 Gbit."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one saga of this kind costs: CPU in ms, bytes."""

    orchestrator_ms: float
    participants_ms: float
    broker_ms: float
    orchestrator_database_ms: float
    participants_databases_ms: float
    orchestrator_wal: float
    participants_wal: float
    orchestrator_stored: float
    participants_stored: float
    to_broker: float
    from_broker: float
    between_nodes: float


def costs(measured: Footprint, saga: Saga, given: Assumptions) -> Costs:
    """What was measured, for a saga of this kind, on a broker with so many copies of each queue.

    Each byte more in a message is written by the orchestrator three times for a transition (the input in the history,
    the state, the outbox) and kept once; by a participant twice for a command (its own row, the outbox) and kept once.
    """
    transition = saga.transitions / measured.saga.transitions
    command = saga.commands / measured.saga.commands
    message = saga.messages / measured.saga.messages
    more = saga.data_bytes
    others = measured.participants
    followers = given.replicas - 1
    copied = measured.copied_bytes / (measured.copies - 1) if measured.copies > 1 else measured.sent_bytes[BROKER]
    return Costs(
        orchestrator_ms=measured.cpu_ms[ORCHESTRATOR] * transition,
        participants_ms=sum(measured.cpu_ms[each] for each in others) * command + measured.request.cpu_ms,
        broker_ms=measured.cpu_ms[BROKER] / measured.copies * given.replicas * message,
        orchestrator_database_ms=measured.cpu_ms[database_of(ORCHESTRATOR)] * transition,
        participants_databases_ms=sum(measured.cpu_ms[database_of(each)] for each in others) * command
        + measured.request.database_cpu_ms,
        orchestrator_wal=measured.wal_bytes[ORCHESTRATOR] * transition + 3 * more * saga.transitions,
        participants_wal=sum(measured.wal_bytes[each] for each in others) * command
        + measured.request.wal_bytes
        + 2 * more * saga.commands,
        orchestrator_stored=measured.bytes_of(ORCHESTRATOR) * transition + more * saga.transitions,
        participants_stored=sum(map(measured.bytes_of, others)) * command + more * saga.commands,
        to_broker=measured.sent_bytes[BROKER] * message + more * saga.messages,
        from_broker=measured.received_bytes[BROKER] * message + more * saga.messages,
        between_nodes=(copied * message + more * saga.messages) * followers,
    )


@dataclass(frozen=True, slots=True)
class Count:
    """How many, and what decides it."""

    number: int
    because: str


@dataclass(frozen=True, slots=True)
class Sizing:
    """What a peak of sagas a second needs. Cores leave room; bytes are a second's, but for what is stored."""

    sagas_per_second: float
    messages: float
    transitions: float
    orchestrator_processes: int
    participant_processes: int
    broker_cores: float
    orchestrator_database_cores: float
    participants_databases_cores: float
    cores: float
    event_queues: int
    broker_nodes: Count
    broker_clusters: int
    shards: Count
    participants_servers: Count
    orchestrator_stored: float
    participants_stored: float
    wal: float
    broker_in: float
    broker_out: float


def size(cost: Costs, saga: Saga, rate: float, retention_days: float, given: Assumptions) -> Sizing:
    """What so many sagas a second need, kept for so many days at that rate."""

    def cores(milliseconds: float) -> float:
        return rate * milliseconds / 1000 / given.busy

    orchestrating, participating = cores(cost.orchestrator_ms), cores(cost.participants_ms)
    databases = cores(cost.orchestrator_database_ms), cores(cost.participants_databases_ms)
    kept = rate * retention_days * SECONDS_A_DAY
    shards = _servers(databases[0], rate * cost.orchestrator_wal, kept * cost.orchestrator_stored, given)
    messages = saga.messages + saga.transitions * (shards.number - 1) / shards.number
    more = messages / saga.messages
    brokering = cores(cost.broker_ms * more)
    nodes = most(
        (given.replicas, "quorum"),
        (rate * messages / (given.node_messages * given.busy), "messages"),
        (brokering / given.machine_cores, "cores"),
    )
    return Sizing(
        sagas_per_second=rate,
        messages=rate * messages,
        transitions=rate * saga.transitions,
        orchestrator_processes=math.ceil(orchestrating),
        participant_processes=math.ceil(participating),
        broker_cores=brokering,
        orchestrator_database_cores=databases[0],
        participants_databases_cores=databases[1],
        cores=orchestrating + participating + brokering + sum(databases),
        event_queues=math.ceil(rate * saga.transitions / (given.queue_messages * given.busy)),
        broker_nodes=nodes,
        broker_clusters=math.ceil(nodes.number / given.cluster_nodes),
        shards=shards,
        participants_servers=_servers(
            databases[1], rate * cost.participants_wal, kept * cost.participants_stored, given
        ),
        orchestrator_stored=kept * cost.orchestrator_stored,
        participants_stored=kept * cost.participants_stored,
        wal=rate * (cost.orchestrator_wal + cost.participants_wal),
        broker_in=rate * cost.to_broker * more,
        broker_out=rate * (cost.from_broker + cost.between_nodes) * more,
    )


def _servers(cores: float, wal: float, stored: float, given: Assumptions) -> Count:
    """PostgreSQL servers: what is most of what they have to bear."""
    return most(
        (1, "one does"),
        (cores / given.server_cores, "cores"),
        (wal / given.server_wal_bytes, "log"),
        (stored / given.server_bytes, "disk"),
    )


def most(*needs: tuple[float, str]) -> Count:
    """The greatest of several needs, in whole machines; the first of equals."""
    number, because = max(((math.ceil(need), why) for need, why in needs), key=lambda each: each[0])
    return Count(number, because)
