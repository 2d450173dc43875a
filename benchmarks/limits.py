"""What breaks first when there are more sagas: each limit as the sagas a second from which it holds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.sizing import SECONDS_A_DAY, Assumptions, Costs, Footprint, Saga


class Basis(StrEnum):
    """What a limit rests on: our own figure alone, or with one that others have published, or with a guess."""

    MEASURED = "measured"
    CITED = "measured, cited"
    ASSUMED = "measured, assumed"


@dataclass(frozen=True, slots=True)
class Limit:
    """From `sagas_per_second` on one of `what` is not enough; `then` is what is done about it."""

    sagas_per_second: float
    what: str
    then: str
    basis: Basis


def limits(measured: Footprint, cost: Costs, saga: Saga, retention_days: float, given: Assumptions) -> Sequence[Limit]:
    """All limits, the first to be reached first."""
    found = [
        *_processes(measured, cost, saga, given),
        *_brokers(cost, saga, given),
        *_database(cost, retention_days, given),
    ]
    return sorted(found, key=lambda each: each.sagas_per_second)


def _processes(measured: Footprint, cost: Costs, saga: Saga, given: Assumptions) -> list[Limit]:
    core = 1000 * given.busy
    together = (
        cost.orchestrator_ms
        + cost.participants_ms
        + cost.broker_ms
        + cost.orchestrator_database_ms
        + cost.participants_databases_ms
    )
    each = {name: measured.cpu_ms[name] / measured.saga.commands * saga.commands for name in measured.participants}
    each[measured.request.service] += measured.request.cpu_ms
    busiest = max(each, key=lambda name: each[name])
    return [
        Limit(core / cost.orchestrator_ms, "an orchestrator process", "several on one queue", Basis.MEASURED),
        Limit(core / each[busiest], f"a process of {busiest}", "several on one queue", Basis.MEASURED),
        Limit(
            core * given.machine_cores / together,
            f"a machine of {given.machine_cores} cores for everything",
            "broker, databases, processes apart",
            Basis.MEASURED,
        ),
    ]


def _brokers(cost: Costs, saga: Saga, given: Assumptions) -> list[Limit]:
    cluster = given.node_messages * given.busy / saga.messages
    # Leaders and clients are spread over the nodes, so that each has its share of everything.
    node = (max(cost.to_broker, cost.from_broker) + cost.between_nodes) / given.replicas
    return [
        Limit(
            given.queue_messages * given.busy / saga.transitions,
            "a queue for the orchestrator's events",
            "partitions",
            Basis.CITED,
        ),
        Limit(cluster * given.replicas, f"a broker of {given.replicas} nodes", "more nodes", Basis.CITED),
        Limit(
            cluster * given.cluster_nodes, f"a broker of {given.cluster_nodes} nodes", "several brokers", Basis.CITED
        ),
        Limit(given.network_bytes * given.busy / node, "10 Gbit to a broker's node", "more nodes", Basis.ASSUMED),
    ]


def _database(cost: Costs, retention_days: float, given: Assumptions) -> list[Limit]:
    core = 1000 * given.busy
    kept = cost.orchestrator_stored * retention_days * SECONDS_A_DAY
    return [
        Limit(
            given.server_bytes / kept,
            f"a disk for {retention_days:g} days of histories",
            "prune sooner, or shards",
            Basis.ASSUMED,
        ),
        Limit(
            core * given.server_cores / cost.orchestrator_database_ms,
            f"a database server's {given.server_cores} cores",
            "shards",
            Basis.MEASURED,
        ),
        Limit(
            given.server_wal_bytes / cost.orchestrator_wal,
            "a database server's log",
            "shards",
            Basis.ASSUMED,
        ),
    ]
