"""What is wanted, as ratios and bounds, and how far it is reached: one table over what all programs have measured.

`python -m benchmarks.goals` prints it from the files that the programs have left in `.bench`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

RECORDS = Path(".bench")
"""Where each program leaves its figures, in a file named after it."""


@dataclass(frozen=True, slots=True)
class Goal:
    """At least (or at most) so much; `command` is what measures it."""

    key: str
    words: str
    bound: float
    command: str
    most: bool = False
    unit: str = ""

    def met(self, value: float) -> bool:
        """Whether so much is enough."""
        return value <= self.bound if self.most else value >= self.bound

    @property
    def wanted(self) -> str:
        """The bound, as people write it."""
        return f"{'≤' if self.most else '≥'} {self.bound:g}{self.unit}"


@dataclass(frozen=True, slots=True)
class Reached:
    """What was measured for a goal; `ours` and `other` are the figures behind the value, in words."""

    value: float
    ours: str
    other: str = ""


class Standing(StrEnum):
    """How a goal stands."""

    MET = "met"
    SHORT = "short"
    UNKNOWN = "?"


GOALS = (
    Goal("floor", "system, against the floor", 0.75, "make bench"),
    Goal("dbos", "system, against DBOS Transact", 10, "make bench-peers"),
    Goal("restate", "system, against Restate", 2.5, "make bench-peers"),
    Goal("batch_one", "system, against batches of 1", 8, "make bench"),
    Goal("latency_p50", "p50 latency, against floor", 1.3, "make bench", most=True),
    Goal("latency_p99", "p99 latency, against floor", 1.5, "make bench", most=True),
    Goal("engine", "transitions, against the loop", 0.6, "make bench-long"),
    Goal("at_scale", "a million sagas, against none", 0.9, "make bench-long"),
    Goal("drain", "backlog, against memory", 0.7, "make bench-long"),
    Goal("rss", "memory of the largest process", 120, "make bench", most=True, unit=" MB"),
    Goal("rss_slope", "its growth in 100,000 sagas", 1, "make bench-long", most=True, unit=" MB"),
    Goal("embedded", "embedded mode, on SQLite", 500, "make bench-long", unit="/s"),
    Goal("start", "slowest start of a process", 1, "make bench-long", most=True, unit=" s"),
)
"""All of them. `the loop` is a hand-written one that pipelines; both sides of a ratio ran in turns."""


def standing(goal: Goal, reached: Reached | None) -> Standing:
    """How a goal stands by what was measured."""
    if reached is None:
        return Standing.UNKNOWN
    return Standing.MET if goal.met(reached.value) else Standing.SHORT


def as_json(reached: Mapping[str, Reached]) -> dict[str, dict[str, Any]]:
    """For a program's file, under `goals`. Raises KeyError where there is no such goal."""
    known = {goal.key: goal for goal in GOALS}
    return {
        key: {**asdict(each), "value": round(each.value, 3), "standing": standing(known[key], each)}
        for key, each in reached.items()
    }


def write(file: Path, document: Mapping[str, Any]) -> None:
    """Leave a program's figures: `program`, `at`, `machine`, `goals` and whatever else it has."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Known:
    """What was measured for a goal, and when."""

    reached: Reached
    at: str


def known(documents: Iterable[Mapping[str, Any]]) -> dict[str, Known]:
    """Of several programs' files the latest word on each goal."""
    found: dict[str, Known] = {}
    for document in documents:
        at = str(document.get("at", ""))
        for key, each in document.get("goals", {}).items():
            if key not in found or at > found[key].at:
                found[key] = Known(Reached(float(each["value"]), str(each["ours"]), str(each["other"])), at)
    return found


def recorded(folder: Path) -> list[dict[str, Any]]:
    """The programs' files; one that cannot be read is said on stderr and left out."""
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            print(f"amends: {file} is not JSON ({error}); measure again", file=sys.stderr)
            continue
        if isinstance(document, dict):
            found.append(document)
    return found


def table(reached: Mapping[str, Known], goals: Sequence[Goal] = GOALS) -> Table:
    """Every goal beside what was measured."""
    title = "what is wanted, and what was measured"
    # Eighty columns are enough for it without margins.
    drawn = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False
    )
    for name in ("", "ours", "beside it", "figure", "wanted"):
        drawn.add_column(name, justify="left" if not name else "right", no_wrap=True)
    drawn.add_column("", no_wrap=True)
    for goal in goals:
        known = reached.get(goal.key)
        stands = standing(goal, known.reached if known is not None else None)
        if known is None:
            drawn.add_row(goal.words, "", "", "", goal.wanted, stands)
            continue
        value = known.reached.value
        figure = f"{value:.2f}" if value < 100 else f"{value:,.0f}"
        drawn.add_row(goal.words, known.reached.ours, known.reached.other, figure, goal.wanted, stands)
    return drawn


def notes(documents: Iterable[Mapping[str, Any]], reached: Mapping[str, Known]) -> list[str]:
    """What to know beside the table: when and where each program ran, and what would measure the rest."""
    found = []
    for each in documents:
        machine = each.get("machine", {})
        when = datetime.fromisoformat(str(each["at"])).astimezone().strftime("%d %b %H:%M") if each.get("at") else "?"
        load = machine.get("load", ["?"])[0]
        found.append(f"{each.get('program', '?')}: {when}, {machine.get('cpus', '?')} cores, load {load} before")
    missing = dict.fromkeys(goal.command for goal in GOALS if goal.key not in reached)
    if missing:
        found.append(f"not measured yet: {', '.join(missing)}")
    return found


def draw(folder: Path) -> None:
    """Print the table of everything that the files in a folder say."""
    documents = recorded(folder)
    reached = known(documents)
    console = Console(soft_wrap=True)
    console.print(table(reached), "", sep="\n")
    for each in notes(documents, reached):
        console.print(each, markup=False, highlight=False)


def main(
    folder: Annotated[Path, typer.Argument(help="Where the programs have left their figures.")] = RECORDS,
) -> None:
    """Print every goal, what was measured for it last, and whether it is met.

    Example: python -m benchmarks.goals

    Exit codes: 0 printed, 1 nothing has been measured.
    """
    if not recorded(folder):
        print(f"amends: nothing has been measured in {folder}; run make bench first", file=sys.stderr)
        raise typer.Exit(1)
    draw(folder)


if __name__ == "__main__":
    typer.run(main)
