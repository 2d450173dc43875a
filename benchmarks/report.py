"""The figures, as a table for people and as JSON for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Latency, Throughput

SERVICES = ("orchestrator", "order", "payment")
MEBIBYTE = 1 << 20


@dataclass(slots=True)
class Report:
    """Everything that was measured, a value a round."""

    sagas: int
    floor: list[float] = field(default_factory=list)
    from_events: list[Throughput] = field(default_factory=list)
    from_requests: list[Throughput] = field(default_factory=list)
    latency: Latency | None = None
    memory: list[Mapping[str, int]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """The median of ours over the median of the floor's."""
        if not self.floor:
            return None
        return median(each.sagas_per_second for each in self.from_events) / median(self.floor)

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
            "sagas_per_round": self.sagas,
            "floor": _spread(self.floor),
            "from_order_created": _throughput(self.from_events),
            "from_post": _throughput(self.from_requests),
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "latency": None
            if self.latency is None
            else {
                "per_second": self.latency.rate,
                "samples": self.latency.samples,
                "p50_ms": round(self.latency.p50 * 1000, 1),
                "p99_ms": round(self.latency.p99 * 1000, 1),
            },
            "rss_mib": {name: round(size / MEBIBYTE, 1) for name, size in self.memory[-1].items()},
            "rss_mib_at_start": {name: round(size / MEBIBYTE, 1) for name, size in self.memory[0].items()},
            "wrong": self.findings,
        }


def draw(report: Report) -> None:
    """Print the table."""
    console = Console(soft_wrap=True)
    table = Table(title=f"{report.sagas:,} sagas a round, every tenth compensated", title_justify="left")
    table.add_column("sagas/s")
    for name in ("least", "median", "most"):
        table.add_column(name, justify="right")
    rows = [
        ("floor, order.created to the end", report.floor),
        ("order.created to the end", [each.sagas_per_second for each in report.from_events]),
        ("POST /orders to the end", [each.sagas_per_second for each in report.from_requests]),
    ]
    for name, values in rows:
        if values:
            table.add_row(name, f"{min(values):,.0f}", f"{median(values):,.0f}", f"{max(values):,.0f}")
    console.print(table)
    if report.ratio is not None:
        console.print(f"of the floor: {report.ratio:.2f}")
    console.print(_costs(report))
    if report.latency is not None:
        latency = report.latency
        console.print(
            f"from POST to the end at {latency.rate:g}/s ({latency.samples} orders): "
            f"p50 {latency.p50 * 1000:.1f} ms, p99 {latency.p99 * 1000:.1f} ms"
        )
    for finding in report.findings:
        console.print(f"WRONG: {finding}", markup=False)
    if not report.findings:
        console.print("every order ended as it had to, and every unit of money and stock is where it belongs")


def _costs(report: Report) -> Table:
    events, requests = _cpu(report.from_events), _cpu(report.from_requests)
    table = Table(title="what it cost (CPU: medians)", title_justify="left")
    for name in ("", "ms of CPU a saga", "from POST", "MiB at the start", "MiB at the end"):
        table.add_column(name, justify="left" if not name else "right")
    for name in events:
        table.add_row(
            name,
            f"{events[name]:.2f}",
            f"{requests[name]:.2f}" if requests else "",
            f"{report.memory[0][name] / MEBIBYTE:.0f}",
            f"{report.memory[-1][name] / MEBIBYTE:.0f}",
        )
    table.add_row("together", f"{sum(events.values()):.2f}", f"{sum(requests.values()):.2f}" if requests else "")
    return table


def _cpu(measured: Sequence[Throughput]) -> dict[str, float]:
    if not measured:
        return {}
    return {name: median(each.cpu_ms[name] for each in measured) for name in measured[0].cpu_ms}


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"least": round(min(values), 1), "median": round(median(values), 1), "most": round(max(values), 1)}


def _throughput(measured: Sequence[Throughput]) -> dict[str, Any] | None:
    if not measured:
        return None
    return {
        "sagas_per_second": _spread([each.sagas_per_second for each in measured]),
        "cpu_ms_per_saga": {name: round(value, 3) for name, value in _cpu(measured).items()},
    }
