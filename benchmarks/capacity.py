"""python -m benchmarks.capacity: how much of everything so many sagas a second need, and what breaks first.

It multiplies what `benchmarks.footprint` has measured for one saga; `docs/scaling.md` says what that is worth.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from pydantic import TypeAdapter, ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.limits import Limit, limits
from benchmarks.sizing import Assumptions, Count, Footprint, Saga, Sizing, costs, size

FIGURES = Path(__file__).with_name("footprint.json")
"""What was measured last, and is kept with the code."""

WIDTH = 110
"""Of what is printed elsewhere than on a terminal."""

RATES = [100.0, 1_000.0, 10_000.0, 100_000.0]

MOST, LONGEST = 1e9, 36_500.0
"""Sagas a second and days beyond which nobody needs an answer."""

_FOOTPRINT = TypeAdapter(Footprint)


class Output(StrEnum):
    """How it is printed."""

    TABLE = "table"
    JSON = "json"


def main(
    rates: Annotated[list[float] | None, typer.Argument(metavar="RATE...", help="Sagas a second, at the peak.")] = None,
    *,
    steps: Annotated[int, typer.Option(min=1, help="Commands of a saga that completes.")] = 3,
    compensated: Annotated[float, typer.Option(min=0, max=1, help="Share of sagas that are compensated.")] = 0.1,
    data: Annotated[int, typer.Option(min=0, help="Bytes of data in each message beyond the measured ones.")] = 0,
    retention: Annotated[float, typer.Option(min=0, help="Days that ended sagas are kept.")] = 30,
    figures: Annotated[Path, typer.Option(help="What python -m benchmarks.footprint has written.")] = FIGURES,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="table for people, json for programs.")
    ] = Output.TABLE,
) -> None:
    """Say what a peak of sagas a second needs: cores, processes, queues, nodes, servers, disk, network.

    Example: python -m benchmarks.capacity 500 --steps 5 --retention 7

    Exit codes: 0 printed, 2 the figures cannot be read or a rate is none.
    """
    wanted = rates or RATES
    if any(not 0 < rate <= MOST for rate in wanted):
        _fail(f"a rate is a number of sagas a second above 0, and at most {MOST:,.0f}")
    if not retention <= LONGEST:
        _fail(f"ended sagas are kept for at most {LONGEST:,.0f} days")
    measured = _read(figures)
    saga, given = Saga(steps, compensated, data), Assumptions()
    cost = costs(measured, saga, given)
    sized = [size(cost, saga, rate, retention, given) for rate in wanted]
    found = limits(measured, cost, saga, retention, given)
    if output is Output.JSON:
        document = {
            "saga": asdict(saga),
            "retention_days": retention,
            "costs": asdict(cost),
            "assumptions": asdict(given),
            "needs": [asdict(each) for each in sized],
            "limits": [asdict(each) for each in found],
        }
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(_needs(sized, saga, retention))
    console.print(_breaks(found))


def _read(file: Path) -> Footprint:
    try:
        return _FOOTPRINT.validate_python(json.loads(file.read_text(encoding="utf-8"))["saga"])
    except OSError as error:
        _fail(f"{file} cannot be read: {error.strerror}; measure with python -m benchmarks.footprint")
    except (ValueError, KeyError, TypeError, ValidationError):
        _fail(f"{file} is no file of python -m benchmarks.footprint; measure again, or name another with --figures")


def _fail(words: str) -> NoReturn:
    print(f"amends: {words}", file=sys.stderr)
    raise typer.Exit(2)


def _needs(sized: Sequence[Sizing], saga: Saga, retention: float) -> Table:
    title = (
        f"{saga.steps} steps, {saga.compensated:.0%} compensated, kept for {retention:g} days: "
        f"{saga.messages:.1f} messages and {saga.transitions:.1f} transitions a saga"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("sagas a second", no_wrap=True)
    for each in sized:
        table.add_column(f"{each.sagas_per_second:,g}", justify="right", no_wrap=True)
    rows: list[tuple[str, list[str]]] = [
        ("messages a second", [f"{each.messages:,.0f}" for each in sized]),
        ("cores, all together", [_cores(each.cores) for each in sized]),
        ("  orchestrator processes", [f"{each.orchestrator_processes:,}" for each in sized]),
        ("  participants' processes", [f"{each.participant_processes:,}" for each in sized]),
        ("  the broker's, three copies", [_cores(each.broker_cores) for each in sized]),
        ("  the orchestrator's PostgreSQL", [_cores(each.orchestrator_database_cores) for each in sized]),
        ("  the participants' PostgreSQL", [_cores(each.participants_databases_cores) for each in sized]),
        ("queues for the events", [f"{each.event_queues:,}" for each in sized]),
        ("broker's nodes", [_count(each.broker_nodes) for each in sized]),
        ("brokers", [f"{each.broker_clusters:,}" for each in sized]),
        ("PostgreSQL servers, orchestrator", [_count(each.shards) for each in sized]),
        ("PostgreSQL servers, participants", [_count(each.participants_servers) for each in sized]),
        ("kept, orchestrator", [in_bytes(each.orchestrator_stored) for each in sized]),
        ("kept, participants", [in_bytes(each.participants_stored) for each in sized]),
        ("write-ahead log a second", [in_bytes(each.wal) for each in sized]),
        ("into the broker a second", [in_bytes(each.broker_in) for each in sized]),
        ("out of it, copies included", [in_bytes(each.broker_out) for each in sized]),
    ]
    for name, values in rows:
        table.add_row(name, *values)
    return table


def _breaks(found: Sequence[Limit]) -> Table:
    table = Table(title="what breaks, in this order", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("from sagas/s", justify="right")
    for name in ("one is not enough", "then", "known from"):
        table.add_column(name)
    for each in found:
        table.add_row(f"{each.sagas_per_second:,.0f}", each.what, each.then, str(each.basis))
    return table


def _cores(number: float) -> str:
    return f"{number:,.1f}" if number < 10 else f"{number:,.0f}"


def _count(count: Count) -> str:
    return f"{count.number:,} ({count.because})"


def in_bytes(number: float) -> str:
    """As people write it, in powers of a thousand: 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if number >= 99.5 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} PB"


if __name__ == "__main__":
    typer.run(main)
