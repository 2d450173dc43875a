"""What a replay came to, on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from orchestrator.cli.pictures import WIDEST, safe, safe_lines, sentence
from orchestrator.replay.difference import Difference, Replayed
from orchestrator.replay.tally import Counted, Tally


def verdict(found: Replayed, console: Console) -> None:
    """One instance."""
    sentence(console, f"[bold]{safe(found.name)}[/] v{found.version}  {found.id}  key {safe(found.key)}")
    if found.difference is None:
        sentence(console, f"[green]same[/]: {_number(found.transitions, 'transition')} as recorded")
    else:
        difference(found.difference, console)


def difference(found: Difference, console: Console) -> None:
    """The sentence, where it is, and both sides beside each other."""
    _sentence(found, console)
    _place(found, console)


def tally(found: Tally, seconds: float, console: Console) -> None:
    """A line a saga and version, then each finding with an example."""
    if found.counted:
        console.print(_table(found))
    for (name, version, _), finding in found.findings.items():
        example = finding.examples[0]
        if example.difference is None:
            continue
        console.print()
        _sentence(example.difference, console)
        ids = ", ".join(str(each.id) for each in finding.examples)
        more = ", …" if finding.instances > len(finding.examples) else ""
        sentence(console, f"{_number(finding.instances, 'instance')} of {safe(name)} v{version}: {ids}{more}")
        _place(example.difference, console, f"in {example.id} " if finding.instances > 1 else "")
    if found.unlisted:
        console.print()
        sentence(console, f"{_number(found.unlisted, 'more instance')} with other differences; choose some with --saga")
    verdict = f"{found.different:,} different" if found.different else "all the same" if found.instances else "no saga"
    words = f"{_number(found.instances, 'instance')}, {_number(found.transitions, 'transition')}, {seconds:.1f} s"
    if found.counted:
        console.print()
    sentence(console, f"{words}: {verdict}", style="dim")


def _sentence(found: Difference, console: Console) -> None:
    sentence(console, f"[bold red]different[/]: {safe_lines(found.sentence)}")


def _place(found: Difference, console: Console, where: str = "") -> None:
    if found.seq:
        came = f": {safe(found.input)}" if found.input else ""
        sentence(console, f"{where}at transition {found.seq}{came}")
    if found.recorded or found.now:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("recorded", overflow="fold", ratio=1)
        table.add_column("this checkout", overflow="fold", ratio=1)
        table.add_row(_side(found.recorded), _side(found.now))
        console.print(Padding(table, (0, 0, 0, 2)), width=min(console.width, WIDEST))


def _table(found: Tally) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("saga", no_wrap=True)
    for column in ("instances", "transitions", "same", "different"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("how", overflow="fold")
    for (name, version), counted in sorted(found.counted.items()):
        different = counted.different.total()
        table.add_row(
            f"{safe(name)} v{version}",
            f"{counted.instances:,}",
            f"{counted.transitions:,}",
            f"[green]{counted.same:,}[/]",
            f"[bold red]{different:,}[/]" if different else "0",
            _by_kind(counted),
        )
    return table


def _by_kind(counted: Counted) -> str:
    return ", ".join(f"{number:,} {kind.value.replace('_', ' ')}" for kind, number in counted.different.most_common())


def _side(lines: Sequence[str]) -> str:
    return safe_lines("\n".join(lines) or "nothing")


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def as_json(found: Replayed) -> dict[str, Any]:
    """One instance for programs."""
    return asdict(found) | {"id": str(found.id), "same": found.difference is None}


def tally_as_json(found: Tally) -> dict[str, Any]:
    """All of it for programs."""
    return {
        "instances": found.instances,
        "transitions": found.transitions,
        "different": found.different,
        "sagas": [
            {
                "name": name,
                "version": version,
                "instances": counted.instances,
                "transitions": counted.transitions,
                "same": counted.same,
                "different": dict(counted.different),
            }
            for (name, version), counted in sorted(found.counted.items())
        ],
        "findings": [
            {
                "name": name,
                "version": version,
                "sentence": sentence,
                "instances": finding.instances,
                "examples": [as_json(each) for each in finding.examples],
            }
            for (name, version, sentence), finding in found.findings.items()
        ],
        "unlisted": found.unlisted,
    }
