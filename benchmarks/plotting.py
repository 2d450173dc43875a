"""python -m benchmarks.plotting: the pictures of docs/performance.md, from what the programs have measured.

Needs the packages of requirements-bench.lock; `make bench` installs them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import matplotlib as mpl
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.goals import RECORDS

OURS, FLOOR, POST = "#1f5fa8", "#d1701f", "#6c757d"
PARTS = {
    "orchestrator": "#1f5fa8",
    "order": "#5b9bd5",
    "payment": "#a9cbe8",
    "broker": "#e2a35b",
    "PostgreSQL": "#7a9e5f",
}
"""The colors of the components, the services first."""
DARK = {"orchestrator", "order"}
"""Those that black figures cannot be read on."""
FLOORS_PARTS = {"orch": "orchestrator", "inv": "order", "pay": "payment", "broker": "broker", "pg": "PostgreSQL"}
"""What a floor calls them; what else it names (its own load) is left out, as ours is."""

mpl.rcParams.update(
    {
        "svg.hashsalt": "amends",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e3e6ea",
        "axes.axisbelow": True,
        "legend.frameon": False,
    }
)


def batch_sizes(axes: Axes, sweeping: Mapping[str, Any]) -> None:
    """Sagas a second against the size of batches, the floor's beside ours."""
    _line(axes, _speeds(sweeping["by_batch_size"]), "ours", OURS)
    floor = {int(size): values for size, values in sweeping["floor_by_batch_size"].items()}
    if floor:
        _line(axes, floor, "floor", FLOOR)
        axes.legend()
    _logarithmic(axes, sweeping["by_batch_size"])
    axes.set(xlabel="most messages in a batch", ylabel="sagas/s", title="Throughput against the size of batches")


def in_flight(axes: Axes, sweeping: Mapping[str, Any]) -> None:
    """Sagas a second against how many are on their way at a time."""
    _line(axes, _speeds(sweeping["by_in_flight"]), "ours", OURS)
    _logarithmic(axes, sweeping["by_in_flight"])
    axes.set(xlabel="sagas in flight", ylabel="sagas/s", title="Throughput against sagas in flight")


def latency(axes: Axes, system: Mapping[str, Any]) -> None:
    """How many sagas have ended after so long, at a low rate; of the floor its p50 and p99 alone are known."""
    sides = (("latency_from_order_created", "from order.created", OURS), ("latency_from_post", "from POST", POST))
    for key, label, color in sides:
        if system[key] is not None:
            waits = system[key]["waits_ms"]
            shares = [(number + 1) / len(waits) * 100 for number in range(len(waits))]
            axes.step(waits, shares, where="post", color=color, label=label)
    theirs = (system["floor"] or {}).get("latency_ms", {})
    if len(theirs) == 2:
        axes.plot([theirs["p50"], theirs["p99"]], [50, 99], "D", color=FLOOR, label="floor, p50 and p99")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "25" else ""))
    rate = system["settings"]["asked"]["rate"]
    axes.set(xlabel="ms to the end of the saga", ylabel="% of the sagas", title=f"Latency at {rate:g} sagas/s")
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.45, -0.2), fontsize=8)


def cpu(axes: Axes, system: Mapping[str, Any]) -> None:
    """CPU milliseconds a saga by component, the floor's beside ours."""
    bars = {"from order.created": system["from_order_created"]["cpu_ms_per_saga"]}
    if system["from_post"] is not None:
        bars["from POST"] = system["from_post"]["cpu_ms_per_saga"]
    theirs = (system["floor"] or {}).get("cpu_ms_per_saga", {})
    if theirs:
        floor = {FLOORS_PARTS[name]: value for name, value in theirs.items() if name in FLOORS_PARTS}
        bars = {"floor": floor} | bars
    left = dict.fromkeys(bars, 0.0)
    for part, color in PARTS.items():
        values = [bars[name].get(part, 0.0) for name in bars]
        drawn = axes.barh(list(bars), values, left=list(left.values()), color=color, label=part, height=0.6)
        words = [f"{value:.2f}" if value > 0.06 * _widest(bars) else "" for value in values]
        axes.bar_label(drawn, labels=words, label_type="center", fontsize=8, color="white" if part in DARK else "black")
        left = {name: left[name] + value for name, value in zip(bars, values, strict=True)}
    for name, total in left.items():
        axes.annotate(f" {total:.1f}", (total, name), va="center", fontsize=9)
    axes.set(xlabel="ms of CPU a saga", title="CPU a saga, by component")
    axes.grid(visible=False, axis="y")
    axes.legend(ncols=len(PARTS), loc="upper center", bbox_to_anchor=(0.45, -0.18), fontsize=8, handlelength=1)


PICTURES: Sequence[tuple[str, str, Callable[[Axes, Mapping[str, Any]], None]]] = (
    ("batch-sizes", "sweeping", batch_sizes),
    ("in-flight", "sweeping", in_flight),
    ("latency", "system", latency),
    ("cpu", "system", cpu),
)


def main(
    folder: Annotated[Path, typer.Argument(help="Where the programs have left their figures.")] = RECORDS,
    to: Annotated[Path, typer.Option(help="Where the pictures go.")] = Path("docs/performance"),
) -> None:
    """Draw throughput against batch size and sagas in flight, the latency's distribution, and CPU by component.

    Example: python -m benchmarks.plotting --to pictures

    Exit codes: 0 all drawn, 1 a program has not left its figures yet.
    """
    missing = sorted({name for _, name, _ in PICTURES if not (folder / f"{name}.json").exists()})
    to.mkdir(parents=True, exist_ok=True)
    for picture, name, draw in PICTURES:
        if name in missing:
            continue
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        draw(figure.subplots(), json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
        # No date: the same figures are the same file.
        figure.savefig(to / f"{picture}.svg", metadata={"Date": None})
        print(to / f"{picture}.svg")
    if missing:
        programs = " and ".join(f"benchmarks.{name}" if name != "system" else "benchmarks" for name in missing)
        print(f"amends: {folder} has no figures of {programs} yet; make bench-plots measures them", file=sys.stderr)
        raise typer.Exit(1)


def _speeds(found: Mapping[str, Any]) -> dict[int, list[float]]:
    return {int(size): each["sagas_per_second"] for size, each in found.items()}


def _line(axes: Axes, found: Mapping[int, Sequence[float]], label: str, color: str) -> None:
    """Medians, and a bar from the least to the most."""
    middles = [median(values) for values in found.values()]
    spread = [
        [middle - min(values) for middle, values in zip(middles, found.values(), strict=True)],
        [max(values) - middle for middle, values in zip(middles, found.values(), strict=True)],
    ]
    axes.errorbar(list(found), middles, yerr=spread, marker="o", color=color, label=label, capsize=3)


def _logarithmic(axes: Axes, sizes: Mapping[str, Any]) -> None:
    axes.set_xscale("log")
    axes.set_xticks([int(size) for size in sizes], labels=list(sizes))
    axes.minorticks_off()
    axes.set_ylim(bottom=0)


def _widest(bars: Mapping[str, Mapping[str, float]]) -> float:
    return max(sum(parts.values()) for parts in bars.values())


if __name__ == "__main__":
    typer.run(main)
