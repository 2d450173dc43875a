"""python -m benchmarks.documenting: the tables of docs/performance.md, from what the programs have measured.

A table stands between `<!-- figures: NAME -->` and `<!-- end -->`; all between them is written anew, the rest stays.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from benchmarks.goals import GOALS, RECORDS, known, recorded, standing

Documents = Mapping[str, Mapping[str, Any]]
"""What the programs have left, by their names."""

_SPREAD = ("least", "median", "most")
_PLACE = re.compile(r"(<!-- figures: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def goals(documents: Documents) -> str:
    """Every goal beside what was measured."""
    found = known(documents.values())
    rows = []
    for goal in GOALS:
        reached = found[goal.key].reached if goal.key in found else None
        measured = ("", "", "") if reached is None else (reached.ours, reached.other, f"{reached.value:.2f}")
        rows.append((goal.words, *measured, goal.wanted, standing(goal, reached).value))
    return _table(("", "ours", "beside it", "figure", "wanted", ""), rows)


def speed(documents: Documents) -> str:
    """Sagas a second and milliseconds, as `make bench` measured them. Raises KeyError where it has not."""
    system = documents["system"]
    rows: list[tuple[str, ...]] = []
    for words, found in (
        ("floor, sagas/s", system["floor"]),
        ("from `order.created`, sagas/s", system["from_order_created"]),
        ("from `POST /orders`, sagas/s", system["from_post"]),
        ("at batch size 1, sagas/s", system["batch_size_1"]),
    ):
        if found is not None:
            rows.append((words, *(f"{found['sagas_per_second'][each]:,.0f}" for each in _SPREAD)))
    for words, key in (("from `order.created`", "latency_from_order_created"), ("from POST", "latency_from_post")):
        if system[key] is not None:
            for name in ("p50", "p99"):
                values = system[key][f"{name}_ms"]
                rows.append((f"{words}, {name}, ms", *(f"{values[each]:.1f}" for each in _SPREAD)))
    for name, value in (system["floor"] or {}).get("latency_ms", {}).items():
        rows.append((f"floor, {name}, ms", "", f"{value:.1f}", ""))
    return _table(("", *_SPREAD), rows)


def cpu(documents: Documents) -> str:
    """CPU a saga and memory by component. Raises KeyError where `make bench` has not run."""
    system = documents["system"]
    events = system["from_order_created"]["cpu_ms_per_saga"]
    posts = (system["from_post"] or {}).get("cpu_ms_per_saga", {})
    names = {"orchestrator": "orch", "order": "inv", "payment": "pay", "broker": "broker", "PostgreSQL": "pg"}
    theirs = (system["floor"] or {}).get("cpu_ms_per_saga", {})
    rows: list[tuple[str, ...]] = [
        (
            name,
            f"{value:.2f}",
            f"{posts[name]:.2f}" if posts else "",
            f"{theirs[names[name]]:.2f}" if names[name] in theirs else "",
            f"{system['rss_mb'][name]:.0f}" if name in system["rss_mb"] else "",
        )
        for name, value in events.items()
    ]
    counted = [theirs[name] for name in names.values() if name in theirs]
    sums = [sum(each) if each else None for each in (list(events.values()), list(posts.values()), counted)]
    rows.append(("together", *("" if each is None else f"{each:.2f}" for each in sums), ""))
    return _table(("", "CPU a saga, ms", "from POST, ms", "the floor's, ms", "resident, MB"), rows)


def peers(documents: Documents) -> str:
    """The other engines. Raises KeyError where `make bench-peers` has not run."""
    document = documents["peers"]
    ours = document["ours"]
    rows: list[tuple[str, ...]] = []
    for name, each in {"Amends": ours, **document["peers"]}.items():
        found = each["sagas_per_second"]
        ratio = ours["sagas_per_second"]["median"] / found["median"]
        said = ", ".join(f"{key} {value}" for key, value in each["settings"].items())
        shape = f"{each['shape']}{f' ({said})' if said else ''}"
        total = sum(each["cpu_ms_per_saga"].values())
        spread = [f"{found[which]:,.0f}" for which in _SPREAD]
        rows.append((name, *spread, f"{ratio:.1f}", f"{total:.1f}", shape))
    for name, reason in document["absent"].items():
        rows.append((name, "", "not measured", "", "", "", reason))
    return _table(("sagas/s", *_SPREAD, "ours to it", "CPU a saga, ms", "what it is"), rows)


def scale(documents: Documents) -> str:
    """A full database beside an empty one. Raises KeyError where `benchmarks.at_scale` has not run."""
    document = documents["at_scale"]
    rows = []
    for which, speeds in document["sagas_per_second"].items():
        spent = document["cpu_ms_per_saga"][which]
        spread = [f"{each:,.0f}" for each in (min(speeds), median(speeds), max(speeds))]
        rows.append((which, *spread, f"{spent['orchestrator']:.2f}", f"{spent['PostgreSQL']:.2f}"))
    return _table(("sagas/s", *_SPREAD, "orchestrator, CPU ms a saga", "PostgreSQL"), rows)


def where(documents: Documents) -> str:
    """The machine, the versions and the load. Raises KeyError where nothing has been measured by `make bench`."""
    document = documents["system"]
    machine = document["machine"]
    day = datetime.fromisoformat(document["at"]).strftime("%d %B %Y")
    settings = ", ".join(f"{name} {value}" for name, value in machine["postgresql_settings"].items())
    load = f"{machine['load'][0]:.1f} before and {machine['load_afterwards'][0]:.1f} after"
    return (
        f"Measured on {day} on {machine['cpus']} cores ({machine['cpu']}, {machine['memory_gib']:.0f} GiB) with Python "
        f"{machine['python']}, {machine['broker']} and PostgreSQL {machine['postgresql']} ({settings}); load average "
        f"{load}. Rounds: {document['settings']['asked']['rounds']} of {document['settings']['sagas_per_round']:,} "
        f"sagas, {document['settings']['queues']} queues, batches of at most {document['settings']['batch_size']}.\n"
    )


TABLES: Mapping[str, Callable[[Documents], str]] = {
    "goals": goals,
    "where": where,
    "speed": speed,
    "cpu": cpu,
    "peers": peers,
    "scale": scale,
}


def written(page: str, documents: Documents) -> tuple[str, list[str]]:
    """The page with every table anew, and the names of those that nobody has measured, which stay as they were.

    Raises ValueError for a place that no table is made for.
    """
    missing = []

    def replace(place: re.Match[str]) -> str:
        name = place.group(2)
        if name not in TABLES:
            raise ValueError(f"nobody makes the table {name!r}; there are {', '.join(TABLES)}")
        try:
            return f"{place.group(1)}{TABLES[name](documents)}{place.group(3)}"
        except KeyError:
            missing.append(name)
            return place.group(0)

    return _PLACE.sub(replace, page), missing


def main(
    page: Annotated[Path, typer.Argument(help="The page.")] = Path("docs/performance.md"),
    folder: Annotated[Path, typer.Option(help="Where the programs have left their figures.")] = RECORDS,
) -> None:
    """Write the page's tables anew.

    Example: python -m benchmarks.documenting docs/performance.md

    Exit codes: 0 all written, 1 some have not been measured and are as they were.
    """
    documents = {str(each.get("program")): each for each in recorded(folder)}
    text, missing = written(page.read_text(encoding="utf-8"), documents)
    page.write_text(text, encoding="utf-8")
    if missing:
        print(f"amends: not measured yet, and left as they were: {', '.join(missing)}", file=sys.stderr)
        raise typer.Exit(1)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    typer.run(main)
