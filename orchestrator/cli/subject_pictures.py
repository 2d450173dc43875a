"""What is told of a person's key: in words, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from rich.table import Table

from messaging.commandline import counted
from messaging.subjects.erasing import Erasure, Subject
from messaging.subjects.rewrapping import Rewrapped
from orchestrator.cli.pictures import plain, safe
from orchestrator.times import clock


def shown(found: Subject) -> list[str]:
    """A person's key in words, a line each."""
    made = f"the key {found.id} of {plain(found.subject)}"
    if found.erased_at is not None:
        lines = [f"{plain(found.subject)} was erased {clock(found.erased_at)} by {plain(found.erased_by or '')}"]
        lines.append(f"because: {plain(found.erased_why or '')}")
        never = "there was no key yet"
        return [*lines, never if found.made_at is None else f"{made} was made {clock(found.made_at)}"]
    since = "" if found.made_at is None else f" was made {clock(found.made_at)}"
    return [f"{made}{since}", f"it is wrapped by the master key {found.master}"]


def whom(wanted: Sequence[Erasure], there: Mapping[str, Subject]) -> str:
    """Who is meant, and whether there is a key of theirs."""
    if len(wanted) == 1:
        name = wanted[0].subject
        return f"{plain(name)}, {f'key {there[name].id}' if name in there else 'of whom there is no key yet'}"
    unseen = sum(each.subject not in there for each in wanted)
    return f"{len(wanted)} persons{f', {unseen} of whom there is no key yet' if unseen else ''}"


def table(found: Sequence[Erasure]) -> Table:
    """Who was erased, a row each."""
    rows = Table("person", "erased", "by", "why", box=None, pad_edge=False)
    for each in found:
        rows.add_row(safe(each.subject), clock(each.at), safe(each.by), safe(each.why))
    return rows


def keys(number: int) -> str:
    """So many."""
    return counted(number, "key")


def as_json(found: Subject | Rewrapped | Sequence[Erasure]) -> str:
    """The same for programs; moments as RFC 3339 writes them."""
    plainly = [asdict(each) for each in found] if isinstance(found, Sequence) else asdict(found)
    return json.dumps(plainly, indent=2, default=_moment)


def _moment(value: datetime) -> str:
    return value.isoformat()
