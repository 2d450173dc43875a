"""The figures, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.floor import Floor
from benchmarks.goals import Reached
from benchmarks.measuring import Latency, Throughput
from benchmarks.record import Record

MEGABYTE = 1_000_000


@dataclass(slots=True)
class Report:
    """Everything that was measured, a value a round."""

    record: Record
    floor: list[Floor] = field(default_factory=list)
    from_events: list[Throughput] = field(default_factory=list)
    from_requests: list[Throughput] = field(default_factory=list)
    batch_one: list[Throughput] = field(default_factory=list)
    event_latency: list[Latency] = field(default_factory=list)
    request_latency: list[Latency] = field(default_factory=list)
    memory: list[Mapping[str, int]] = field(default_factory=list)

    def reached(self) -> dict[str, Reached]:
        """What this says of the goals: ratios of medians."""
        ours, found = _speed(self.from_events), {}
        if self.floor:
            floor = median(each.sagas_per_second for each in self.floor)
            found["floor"] = Reached(ours / floor, f"{ours:,.0f}/s", f"{floor:,.0f}/s")
        if self.batch_one:
            one = _speed(self.batch_one)
            found["batch_one"] = Reached(ours / one, f"{ours:,.0f}/s", f"{one:,.0f}/s")
        for name in ("p50", "p99"):
            theirs = [getattr(each, name) for each in self.floor if getattr(each, name) is not None]
            if self.event_latency and theirs:
                mine, other = median(getattr(each, name) for each in self.event_latency), median(theirs)
                found[f"latency_{name}"] = Reached(mine / other, f"{mine * 1000:.1f} ms", f"{other * 1000:.1f} ms")
        if self.memory:
            name, size = max(self.resident().items(), key=lambda each: each[1])
            found["rss"] = Reached(size / MEGABYTE, name)
        return found

    def resident(self) -> dict[str, int]:
        """The most bytes each process of ours had; the broker and PostgreSQL, which are not ours, are left out."""
        names = [name for name in self.memory[0] if name not in ("broker", "PostgreSQL")]
        return {name: max(each[name] for each in self.memory) for name in names}

    def as_json(self) -> dict[str, Any]:
        figures = {
            "floor": None
            if not self.floor
            else {
                "sagas_per_second": _spread([each.sagas_per_second for each in self.floor]),
                "cpu_ms_per_saga": _medians([each.cpu_ms for each in self.floor]),
                "latency_ms": {
                    name: round(median(values) * 1000, 1)
                    for name in ("p50", "p99")
                    if (values := [getattr(each, name) for each in self.floor if getattr(each, name) is not None])
                },
            },
            "from_order_created": _throughput(self.from_events),
            "from_post": _throughput(self.from_requests),
            "batch_size_1": _throughput(self.batch_one),
            "latency_from_order_created": _latency(self.event_latency),
            "latency_from_post": _latency(self.request_latency),
            "rss_mb": {name: round(size / MEGABYTE, 1) for name, size in self.resident().items()},
            "rss_mb_at_start": {name: round(size / MEGABYTE, 1) for name, size in self.memory[0].items()},
        }
        return self.record.document(self.reached(), figures)


def draw(report: Report) -> None:
    """Print the tables."""
    console = Console(soft_wrap=True)
    said = report.record.settings
    title = (
        f"{said['sagas_per_round']:,} sagas a round, every tenth compensated; "
        f"{said['queues']} queues, batches of at most {said['batch_size']}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in ("least", "median", "most"):
        table.add_column(name, justify="right")
    rows = [
        ("sagas/s of the floor", [each.sagas_per_second for each in report.floor]),
        ("sagas/s from order.created", _speeds(report.from_events)),
        ("sagas/s from POST /orders", _speeds(report.from_requests)),
        ("sagas/s at batch size 1", _speeds(report.batch_one)),
        *_waits("the floor's", report.floor),
        *_waits("from order.created", report.event_latency),
        *_waits("from POST /orders", report.request_latency),
    ]
    for name, values in rows:
        if values:
            digits = 1 if name.startswith("ms") else 0
            table.add_row(name, *(f"{each:,.{digits}f}" for each in (min(values), median(values), max(values))))
    console.print(table)
    console.print(_costs(report))
    report.record.tell(console)


def _waits(whose: str, measured: Sequence[Floor] | Sequence[Latency]) -> list[tuple[str, list[float]]]:
    found = []
    for name in ("p50", "p99"):
        values = [getattr(each, name) for each in measured]
        found.append((f"ms {name}, {whose}", [each * 1000 for each in values if each]))
    return found


def _costs(report: Report) -> Table:
    events, requests = _cpu(report.from_events), _cpu(report.from_requests)
    table = Table(title="CPU milliseconds a saga (medians), and most resident memory", title_justify="left")
    for name in ("", "from order.created", "from POST", "MB"):
        table.add_column(name, justify="left" if not name else "right")
    resident = report.resident()
    for name in events:
        size = f"{resident[name] / MEGABYTE:.0f}" if name in resident else ""
        table.add_row(name, f"{events[name]:.2f}", f"{requests[name]:.2f}" if requests else "", size)
    table.add_row("together", f"{sum(events.values()):.2f}", f"{sum(requests.values()):.2f}" if requests else "")
    floor = _medians([each.cpu_ms for each in report.floor])
    if floor:
        words = ", ".join(f"{name} {value:.2f}" for name, value in floor.items())
        table.caption = f"the floor: {words}; together {sum(floor.values()):.2f}"
    return table


def _speeds(measured: Sequence[Throughput]) -> list[float]:
    return [each.sagas_per_second for each in measured]


def _speed(measured: Sequence[Throughput]) -> float:
    return median(_speeds(measured))


def _cpu(measured: Sequence[Throughput]) -> dict[str, float]:
    return _medians([each.cpu_ms for each in measured])


def _medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    if not rounds:
        return {}
    return {name: round(median(each[name] for each in rounds), 3) for name in rounds[0]}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"least": round(min(values), 1), "median": round(median(values), 1), "most": round(max(values), 1)}


def _throughput(measured: Sequence[Throughput]) -> dict[str, Any] | None:
    if not measured:
        return None
    return {"sagas_per_second": _spread(_speeds(measured)), "cpu_ms_per_saga": _cpu(measured)}


def _latency(measured: Sequence[Latency]) -> dict[str, Any] | None:
    if not measured:
        return None
    return {
        "p50_ms": _spread([each.p50 * 1000 for each in measured]),
        "p99_ms": _spread([each.p99 * 1000 for each in measured]),
        "waits_ms": sorted(round(wait * 1000, 2) for each in measured for wait in each.waits),
    }
