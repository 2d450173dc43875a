"""python -m benchmarks.peers: the same saga on DBOS Transact and on Restate, in turns with ours."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import structlog
import typer

from benchmarks import exits, floor, goals
from benchmarks.measuring import bench_of, settled
from benchmarks.peers.engines import Absent, Engine, Measured, engines, run
from benchmarks.peers.report import Report, draw
from benchmarks.record import Record
from benchmarks.system import System, open_system
from messaging.topology import QueueType

WARM = 500


def main(
    *,
    sagas: Annotated[int, typer.Option(min=10, help="Sagas of ours in one round.")] = 3000,
    theirs: Annotated[int, typer.Option(min=10, help="Sagas of each peer in one round.")] = 600,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, in turns; the medians count.")] = 3,
    dbos: Annotated[int, typer.Option(min=1, help="Workflows that DBOS has at a time.")] = 32,
    restate: Annotated[int, typer.Option(min=1, help="Requests that Restate has at a time.")] = 64,
    queue: Annotated[QueueType, typer.Option(help="Type of our queues.")] = QueueType.QUORUM,
    floor: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="A floor to run in turns as well, as for make bench.")
    ] = None,
    output: Annotated[Path, typer.Option("--json", help="Where the figures are written.")] = goals.RECORDS
    / "peers.json",
) -> None:
    """Measure sagas a second of other engines and of ours, on the same machine and the same PostgreSQL, in turns.

    Ours is three processes and a broker, with books kept by each participant; a peer is what its line says.

    Example: python -m benchmarks.peers --rounds 1

    Exit codes: 0 measured and every result right, 1 a result is wrong or work was not ended, 69 no server, or a peer
    that is not installed.
    """
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    settings = {"sagas_per_round": sagas, "peers_sagas_per_round": theirs, "rounds": rounds, "queues": queue.value}
    report = Report(Record("peers", settings))
    peers = engines(dbos, restate)
    with exits.told(), ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amends-peers-")))
        system, scratch = open_system(stack, os.environ, logs, given={"AMENDS_QUEUE_TYPE": queue.value})
        stack.callback(system.remove_queues)
        stack.callback(system.stop)
        asyncio.run(_measure(report, system, scratch, peers, sagas, theirs, rounds, queue, floor))
    draw(report)
    goals.write(output, report.as_json())
    goals.draw(output.parent)
    if report.absent:
        raise typer.Exit(69)


async def _measure(
    report: Report,
    system: System,
    scratch: str,
    peers: tuple[Engine, ...],
    sagas: int,
    theirs: int,
    rounds: int,
    queue: QueueType,
    command: str | None,
) -> None:
    await report.record.met(system.amqp_url, scratch)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        report.ours.append(await _ours(system, sagas))
        if command is not None:
            words = floor.command(command, queue, floor.BATCH, sagas)
            measured_floor = await floor.run(words, system.amqp_url, scratch, latency=False)
            report.floor.append(measured_floor.sagas_per_second)
        for each in peers:
            try:
                measured = await run(each, system.amqp_url, scratch, theirs)
            except Absent as error:
                report.absent[each.name] = str(error)
                continue
            report.peers.setdefault(each.key, (each, []))[1].append(measured)
    report.record.ended()


async def _ours(system: System, sagas: int) -> Measured:
    """One round of ours, started for it and ended after it, so that nobody is in the peers' way.

    Raises NotMeasurable.
    """
    await system.restart({})
    try:
        async with bench_of(system) as bench:
            await bench.from_events(WARM)
            await settled(system.databases)
            measured = await bench.from_events(sagas)
            await settled(system.databases)
    finally:
        await asyncio.to_thread(system.stop)
    return Measured(measured.sagas_per_second, measured.cpu_ms, {})


if __name__ == "__main__":
    typer.run(main)
