"""The peers' figures, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.goals import Reached
from benchmarks.peers.engines import Engine, Measured
from benchmarks.record import Record

OURS = "three processes, RabbitMQ, PostgreSQL"


@dataclass(slots=True)
class Report:
    """Everything that was measured, a value a round; `absent` says of an engine why it was not."""

    record: Record
    ours: list[Measured] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    peers: dict[str, tuple[Engine, list[Measured]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def reached(self) -> dict[str, Reached]:
        """What this says of the goals: ratios of medians."""
        ours = _speed(self.ours)
        return {
            key: Reached(ours / _speed(measured), f"{ours:,.0f}/s", f"{_speed(measured):,.0f}/s")
            for key, (_, measured) in self.peers.items()
        }

    def as_json(self) -> dict[str, Any]:
        figures = {
            "ours": _engine(OURS, self.ours),
            "floor": [round(each, 1) for each in self.floor],
            "peers": {engine.name: _engine(engine.shape, measured) for engine, measured in self.peers.values()},
            "absent": self.absent,
        }
        return self.record.document(self.reached(), figures)


def draw(report: Report) -> None:
    """Print the table."""
    console = Console(soft_wrap=True)
    table = Table(title="sagas/s of the same saga on other engines, in turns", title_justify="left")
    table.add_column("")
    for name in ("least", "median", "most", "ours to it", "CPU ms"):
        table.add_column(name, justify="right", no_wrap=True)
    ours = _speed(report.ours)
    rows = [("Amends", report.ours), *((engine.name, found) for engine, found in report.peers.values())]
    for name, measured in rows:
        speeds = [each.sagas_per_second for each in measured]
        cpu = sum(_cpu(measured).values())
        ratio = f"{ours / median(speeds):.1f}"
        table.add_row(
            name, *(f"{each:,.0f}" for each in (min(speeds), median(speeds), max(speeds))), ratio, f"{cpu:.1f}"
        )
    if report.floor:
        values = [f"{each:,.0f}" for each in (min(report.floor), median(report.floor), max(report.floor))]
        table.add_row("the floor", *values, f"{ours / median(report.floor):.2f}", "")
    console.print(table)
    console.print(f"Amends is {OURS}, and its participants keep books.", markup=False, highlight=False)
    for engine, measured in report.peers.values():
        said = ", ".join(f"{name}: {value}" for name, value in measured[0].settings.items())
        console.print(
            f"{engine.name} is {engine.shape}; its steps write nothing ({said}).", markup=False, highlight=False
        )
    for name, reason in report.absent.items():
        console.print(f"NOT MEASURED: {name}: {reason}", markup=False, highlight=False)


def _engine(shape: str, measured: Sequence[Measured]) -> dict[str, Any]:
    speeds = [each.sagas_per_second for each in measured]
    return {
        "shape": shape,
        "sagas_per_second": {
            name: round(of(speeds), 1) for name, of in (("least", min), ("median", median), ("most", max))
        },
        "cpu_ms_per_saga": _cpu(measured),
        "settings": dict(measured[0].settings),
    }


def _in_words(values: Sequence[float]) -> list[str]:
    return [f"{each:,.0f}" for each in (min(values), median(values), max(values))]


def _speed(measured: Sequence[Measured]) -> float:
    return median(each.sagas_per_second for each in measured)


def _cpu(measured: Sequence[Measured]) -> dict[str, float]:
    return {name: round(median(each.cpu_ms[name] for each in measured), 3) for name in measured[0].cpu_ms}
