"""One saga's story as a mermaid sequence diagram, in text.

Who takes part: whoever the story's events came from, the services its commands went to (named by the first word of
the command), the orchestrator, the clock, and every person who acted.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.cli.pictures import plain
from orchestrator.cli.timeline import DEADLINE, ORCHESTRATOR, Entry, Story


def sequence(told: Story) -> str:
    """The diagram; paste it between ```mermaid fences, or into any mermaid viewer."""
    people = {each.source for each in told.entries if each.kind == "person"}
    names = dict.fromkeys(name for each in told.entries for name in _concerned(each))
    ids = {name: f"p{number}" for number, name in enumerate(dict.fromkeys([*names, ORCHESTRATOR]), 1)}
    lines = ["sequenceDiagram"]
    for name, identity in ids.items():
        lines.append(f"    {'actor' if name in people else 'participant'} {identity} as {_escaped(name)}")
    me = ids[ORCHESTRATOR]
    for each in told.entries:
        lines.extend(f"    {line}" for line in _told(each, ids, me))
    lines.extend(f"    Note over {me}: parked: {_escaped(f'{each.type} ({each.reason})')}" for each in told.parked)
    lines.append(f"    Note over {me}: {_escaped(_end(told))}")
    return "\n".join(lines)


def _concerned(entry: Entry) -> Iterator[str]:
    yield entry.source
    yield from (message.to for message in entry.sent if message.command)


def _told(entry: Entry, ids: dict[str, str], me: str) -> Iterator[str]:
    words = f"{entry.seq}. {DEADLINE if entry.kind == 'deadline' else entry.input}"
    yield f"{ids[entry.source]}->>{me}: {_escaped(words)}"
    for note in entry.notes:
        yield f"Note over {me}: {_escaped(note)}"
    for message in entry.sent:
        again = f" (attempt {message.attempt})" if message.attempt > 1 else ""
        if message.command:
            yield f"{me}->>{ids[message.to]}: {_escaped(message.type + again)}"
        else:
            yield f"Note over {me}: publishes {_escaped(message.type)}"


def _end(told: Story) -> str:
    return f"{told.status}, waiting for {told.step}" if told.step else told.status


def _escaped(text: str) -> str:
    """Text that mermaid takes for nothing but text: it ends a line at `;`, and reads `#` and `<` as markup."""
    marks = {"#": "#35;", ";": "#59;", "<": "#lt;", ">": "#gt;"}
    escaped = "".join(marks.get(each, each) for each in plain(" ".join(text.split())))
    return escaped.replace("%%", "#37;#37;")
