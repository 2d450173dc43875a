"""python -m benchmarks.footprint: what one saga costs each part of the system, and what it leaves behind.

CPU, bytes over the network, bytes of write-ahead log, rows and bytes that stay: each service has a PostgreSQL server of
its own here, so that each figure is one service's. `benchmarks.capacity` multiplies them.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import typer

from benchmarks import exits, goals, machine, orders
from benchmarks.endings import Endings
from benchmarks.measuring import Bench, result_of, settled, wrong
from benchmarks.metering import Meter
from benchmarks.sizing import BROKER, Footprint, Request, Stored, database_of
from benchmarks.system import NotMeasurable, System
from benchmarks.usage import Usage, Watched, listener_on
from deploy.killing import three_services
from deploy.servers import PostgresServer, RabbitServer
from deploy.up import Backends, Service
from messaging.database import Database
from messaging.rabbitmq import RabbitBus

STEPS = 3
COMPENSATED = 1 / orders.FAILS_EVERY
REQUESTED = "order"
"""The service whose requests start sagas."""
"""The saga that is measured: three commands, and every tenth compensated."""


@dataclass(frozen=True, slots=True)
class Point:
    """Everything that only grows, at one moment: by service, and the broker's."""

    usage: Usage
    wal: Mapping[str, int]
    stored: Mapping[str, Mapping[str, Stored]]
    sent: Mapping[str, int]
    received: Mapping[str, int]
    copied: int


@dataclass(frozen=True, slots=True)
class Servers:
    """A broker, and a PostgreSQL server for each service, with the services' own doors to them."""

    rabbit: RabbitServer
    followers: Sequence[RabbitServer]
    databases: Mapping[str, PostgresServer]
    names: Mapping[str, str]

    @property
    def urls(self) -> dict[str, str]:
        """Each service's database, past the meters."""
        return {name: server.url_of(self.names[name]) for name, server in self.databases.items()}


def main(
    *,
    sagas: Annotated[int, typer.Option(min=100, help="Sagas that are measured, from order.created.")] = 3000,
    requests: Annotated[
        int, typer.Option(min=100, help="Sagas that are measured from POST /orders, after them.")
    ] = 1000,
    warm: Annotated[int, typer.Option(min=10, help="Sagas before, that nobody measures.")] = 500,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of the broker, each with a copy of each queue.")] = 3,
    output: Annotated[Path, typer.Option("--json", help="Where the figures are written.")] = goals.RECORDS
    / "footprint.json",
) -> None:
    """Measure what one saga costs, on servers that are started for it, and what the request costs that starts it.

    Example: python -m benchmarks.footprint --json benchmarks/footprint.json

    Exit codes: 0 measured and every result right, 1 a result is wrong or work was not ended, 69 no server to be had.
    """
    with exits.told(), ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-footprint-")))
        services = three_services(f"footprint_{os.getpid()}")
        servers = _servers(stack, services, nodes)
        document = asyncio.run(_measure(servers, services, logs, (warm, sagas, requests)))
    goals.write(output, document)
    print(f"figures: {output}; python -m benchmarks.capacity --figures {output} multiplies them", file=sys.stderr)


def _servers(stack: ExitStack, services: list[Service], nodes: int) -> Servers:
    rabbit = stack.enter_context(RabbitServer())
    followers = [stack.enter_context(RabbitServer(beside=rabbit)) for _ in range(nodes - 1)]
    databases = {each.name: stack.enter_context(PostgresServer()) for each in services}
    rabbit.launch()
    for each in services:
        databases[each.name].start()
        databases[each.name].create_database(each.database)
    rabbit.wait()
    for follower in followers:
        follower.start()
        follower.join()
    return Servers(rabbit, followers, databases, {each.name: each.database for each in services})


async def _measure(
    servers: Servers, services: list[Service], logs: Path, counts: tuple[int, int, int]
) -> dict[str, Any]:
    at, described = machine.now(), machine.described()
    described |= await machine.servers(servers.rabbit.url, servers.urls["orchestrator"])
    async with AsyncExitStack() as stack:
        doors = {"broker": servers.rabbit.url, **servers.urls}
        meters = {name: await stack.enter_async_context(_meter(url)) for name, url in doors.items()}
        metered = {name: through(url, meters[name]) for name, url in doors.items()}
        system = System(Backends(metered["broker"], {name: metered[name] for name in servers.urls}), services, logs)
        # In a thread: while tables are made and while they drain, they need the meters, which run here.
        stack.push_async_callback(asyncio.to_thread, system.stop)
        await asyncio.to_thread(system.start)
        await system.ready()
        endings = await stack.enter_async_context(Endings(servers.rabbit.url))
        # Through the meter: the event that starts a saga is the saga's, too.
        bus = RabbitBus(metered["broker"], service="footprint")
        await bus.start()
        stack.push_async_callback(bus.close)
        database = Database(servers.urls["order"], pool_size=1)
        stack.push_async_callback(database.close)
        await orders.fill_stock(database)
        bench = Bench(system, endings, bus, database)
        warm, sagas, requests = counts
        await bench.from_requests(warm)
        await _settled(system, servers, meters)
        # What the tables are tidied up with, there, is nobody's cost: a new beginning.
        begun = await _point(system, servers, meters)
        speed = (await bench.from_events(sagas)).sagas_per_second
        ended = await _settled(system, servers, meters)
        begun_again = await _point(system, servers, meters)
        await bench.from_requests(requests)
        ended_again = await _settled(system, servers, meters)
        findings = wrong(await result_of(servers.urls), bench.placed, bench.failing)
    if findings:
        raise NotMeasurable("; ".join(findings))
    return {
        "program": "footprint",
        "at": at,
        "machine": described | {"load_afterwards": machine.load()},
        "settings": {"warm": warm, "sagas": sagas, "requests": requests, "nodes": 1 + len(servers.followers)},
        "sagas_per_second": round(speed, 1),
        "saga": asdict(
            footprint(
                between(begun, ended, sagas), between(begun_again, ended_again, requests), 1 + len(servers.followers)
            )
        ),
    }


@dataclass(frozen=True, slots=True)
class Each:
    """What lies between two moments, for one saga."""

    cpu_ms: Mapping[str, float]
    wal_bytes: Mapping[str, int]
    stored: Mapping[str, Mapping[str, Stored]]
    sent_bytes: Mapping[str, int]
    received_bytes: Mapping[str, int]
    copied_bytes: int


def between(before: Point, after: Point, sagas: int) -> Each:
    """What each of so many sagas has cost between two moments."""
    return Each(
        cpu_ms={name: round(each / sagas * 1000, 3) for name, each in after.usage.since(before.usage).items()},
        wal_bytes={name: round((each - before.wal[name]) / sagas) for name, each in after.wal.items()},
        stored={name: _grown(before.stored[name], each, sagas) for name, each in after.stored.items()},
        sent_bytes={name: round((each - before.sent[name]) / sagas) for name, each in after.sent.items()},
        received_bytes={name: round((each - before.received[name]) / sagas) for name, each in after.received.items()},
        copied_bytes=round((after.copied - before.copied) / sagas),
    )


def footprint(announced: Each, requested: Each, copies: int) -> Footprint:
    """What a saga costs from its start event on, and what the request costs that makes one."""
    database = database_of(REQUESTED)
    return Footprint(
        steps=STEPS,
        compensated=COMPENSATED,
        cpu_ms=announced.cpu_ms,
        wal_bytes=announced.wal_bytes,
        stored=announced.stored,
        sent_bytes=announced.sent_bytes,
        received_bytes=announced.received_bytes,
        copies=copies,
        copied_bytes=announced.copied_bytes,
        request=Request(
            service=REQUESTED,
            cpu_ms=max(0.0, round(requested.cpu_ms[REQUESTED] - announced.cpu_ms[REQUESTED], 3)),
            database_cpu_ms=max(0.0, round(requested.cpu_ms[database] - announced.cpu_ms[database], 3)),
            wal_bytes=max(0, requested.wal_bytes[REQUESTED] - announced.wal_bytes[REQUESTED]),
        ),
    )


def _grown(before: Mapping[str, Stored], after: Mapping[str, Stored], sagas: int) -> dict[str, Stored]:
    """By how much each table has grown for one saga; those that have not are left out."""
    return {
        table: Stored(
            round((now.rows - before[table].rows) / sagas, 3),
            round((now.table_bytes - before[table].table_bytes) / sagas, 1),
            round((now.index_bytes - before[table].index_bytes) / sagas, 1),
        )
        for table, now in after.items()
        if now.rows > before[table].rows
    }


async def _settled(system: System, servers: Servers, meters: Mapping[str, Meter]) -> Point:
    """The moment at which nothing is left to do."""
    await settled(servers.urls)
    return await _point(system, servers, meters)


async def _point(system: System, servers: Servers, meters: Mapping[str, Meter]) -> Point:
    own = system.watched(*servers.names).usage()
    pids = {database_of(name): listener_on(server.url) for name, server in servers.databases.items()}
    others = Watched(pids).usage()
    brokers = Watched({each.node: listener_on(each.url) for each in (servers.rabbit, *servers.followers)}).usage()
    wal, stored = {}, {}
    for name, url in servers.urls.items():
        connection = await asyncpg.connect(url)
        try:
            wal[name] = await connection.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        finally:
            await connection.close()
    await _vacuum(servers)
    for name, url in servers.urls.items():
        connection = await asyncpg.connect(url)
        try:
            stored[name] = {table: Stored(*sizes) for table, *sizes in await connection.fetch(_TABLES)}
        finally:
            await connection.close()
    return Point(
        Usage({**own.cpu, **others.cpu, BROKER: sum(brokers.cpu.values())}, {**own.rss, **others.rss}),
        wal,
        stored,
        {name: meter.sent for name, meter in meters.items()},
        {name: meter.received for name, meter in meters.items()},
        sum(map(_copied, (servers.rabbit, *servers.followers))),
    )


def _copied(node: RabbitServer) -> int:
    """Bytes that a node of the broker has sent to the others so far."""
    sent = "{ok, [{send_oct, Sent}]} = inet:getstat(Port, [send_oct]), Sent"
    told = node.ctl(
        "eval",
        f"lists:sum([begin {sent} end || {{Node, Port}} <- erlang:system_info(dist_ctrl), is_port(Port), "
        "lists:member(Node, nodes())]).",
    )
    return int(told)


async def _vacuum(servers: Servers) -> None:
    """Make what died free again, as autovacuum would: else the sizes tell of its moods."""
    for url in servers.urls.values():
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("VACUUM ANALYZE")
        finally:
            await connection.close()


_TABLES = """
SELECT relname AS name,
       (xpath('/row/rows/text()', query_to_xml(format('SELECT count(*) AS rows FROM %I', relname), true, true, '')))[1]
       ::text::bigint AS rows, pg_table_size(oid) AS table_bytes, pg_indexes_size(oid) AS index_bytes
FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


def _meter(url: str) -> Meter:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return Meter(parts.hostname, parts.port)


def through(url: str, meter: Meter) -> str:
    """The same server, through its meter."""
    parts = urlsplit(url)
    login, _, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.hostname}:{meter.port}"))


if __name__ == "__main__":
    typer.run(main)
