"""The figures of one orchestrator process, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.answering import TRANSITIONS
from benchmarks.goals import Reached
from benchmarks.transiting import Measured
from messaging.topology import QueueType

COMPARED = "step"
"""The transition that a hand-written loop makes as well: read a row, change it, note it, send a command."""
_ASKED = ("statements", "commits", "round_trips")


@dataclass(slots=True)
class Figures:
    """Everything that was measured on one type of queue, a value a round."""

    type: QueueType
    sagas: int
    batch: int
    ours: list[dict[str, Measured]] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """The median of ours over the median of the floor's."""
        return median(self.a_second(COMPARED)) / median(self.floor) if self.floor else None

    def a_second(self, transition: str) -> list[float]:
        """How many of these transitions a second, a value a round."""
        return [measured[transition].a_second for measured in self.ours]

    def cpu_us(self, transition: str) -> dict[str, float]:
        """CPU microseconds of each process for one of these transitions; medians."""
        rounds = [measured[transition].cpu_us for measured in self.ours]
        return {process: median(each[process] for each in rounds) for process in rounds[0]}

    def asked(self, transition: str) -> dict[str, float]:
        """What one of these transitions asked of the database; medians."""
        rounds = [measured[transition] for measured in self.ours]
        return {what: median(getattr(each.asked, what) / each.count for each in rounds) for what in _ASKED}

    def as_json(self) -> dict[str, Any]:
        return {
            "queues": self.type.value,
            "sagas_per_round": self.sagas,
            "batch": self.batch,
            "floor": _spread(self.floor),
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "transitions": {
                each.name: {
                    "per_second": _spread(self.a_second(each.name)),
                    "cpu_us": {name: round(value, 1) for name, value in self.cpu_us(each.name).items()},
                    "asked": {name: round(value, 4) for name, value in self.asked(each.name).items()},
                }
                for each in TRANSITIONS
            },
            "wrong": self.findings,
        }


def reached(measured: Sequence[Figures]) -> dict[str, Reached]:
    """What this says of the goals, on the type of queue that is the default where several were measured."""
    for figures in sorted(measured, key=lambda each: each.type is not QueueType.QUORUM):
        if figures.ratio is not None:
            ours, floor = median(figures.a_second(COMPARED)), median(figures.floor)
            return {"engine": Reached(figures.ratio, f"{ours:,.0f}/s", f"{floor:,.0f}/s")}
    return {}


def draw(figures: Figures) -> None:
    """Print the tables."""
    console = Console(soft_wrap=True)
    title = f"{figures.type.value} queues, batches of {figures.batch}, {figures.sagas:,} sagas a round"
    speed = Table(title=title, title_justify="left")
    speed.add_column("transitions/s")
    for name in ("least", "median", "most"):
        speed.add_column(name, justify="right")
    for name, values in [("floor", figures.floor), *((each.name, figures.a_second(each.name)) for each in TRANSITIONS)]:
        if values:
            speed.add_row(name, f"{min(values):,.0f}", f"{median(values):,.0f}", f"{max(values):,.0f}")
    console.print(speed)
    if figures.ratio is not None:
        console.print(f"{COMPARED} of the floor: {figures.ratio:.2f}")
    console.print(_costs(figures))
    for finding in figures.findings:
        console.print(f"WRONG: {finding}", markup=False)
    if not figures.findings:
        console.print("every saga has ended, and every history is what replaying it gives")


def _costs(figures: Figures) -> Table:
    table = Table(title="a transition's CPU in µs, and what it asked the database (medians)", title_justify="left")
    table.add_column("")
    for name in (*figures.cpu_us(COMPARED), "statements", "commits", "trips"):
        table.add_column(name, justify="right")
    for each in TRANSITIONS:
        cpu = [f"{value:.0f}" for value in figures.cpu_us(each.name).values()]
        table.add_row(each.name, *cpu, *(f"{value:.3f}" for value in figures.asked(each.name).values()))
    return table


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"least": round(min(values), 1), "median": round(median(values), 1), "most": round(max(values), 1)}
