"""Goals of speed: what is met, and what a floor's words say."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from benchmarks.floor import Floor, command, read
from benchmarks.goals import GOALS, Goal, Known, Reached, Standing, as_json, known, notes, standing, table
from messaging.topology import QueueType

FAST = Goal("fast", "fast enough", 0.75, "make fast")
SMALL = Goal("small", "small enough", 120, "make small", most=True, unit=" MB")


@pytest.mark.parametrize(
    ("goal", "value", "expected"),
    [
        (FAST, 0.75, Standing.MET),
        (FAST, 0.749, Standing.SHORT),
        (FAST, None, Standing.UNKNOWN),
        (SMALL, 120.0, Standing.MET),
        (SMALL, 120.1, Standing.SHORT),
    ],
)
def test_a_goal_is_met_at_its_bound_and_short_beyond_it(goal: Goal, value: float | None, expected: Standing) -> None:
    """At least so much or at most so much; what was not measured is neither."""
    assert standing(goal, None if value is None else Reached(value, "")) is expected


def test_the_latest_word_counts() -> None:
    """Of two files that speak of the same goal, the one that was written later; a program says its own goals only."""
    early = {"at": "2026-03-01T08:00:00+00:00", "goals": as_json({"floor": Reached(0.5, "5/s", "10/s")})}
    late = {"at": "2026-03-02T08:00:00+00:00", "goals": as_json({"floor": Reached(0.8, "8/s", "10/s")})}
    for documents in ([early, late], [late, early]):
        assert known(documents) == {"floor": Known(Reached(0.8, "8/s", "10/s"), "2026-03-02T08:00:00+00:00")}
    with pytest.raises(KeyError):
        as_json({"flor": Reached(0.8, "8/s")})


def test_the_table_names_every_goal_on_a_narrow_terminal() -> None:
    """Eighty columns are enough for every word; what is not measured says by which command it would be."""
    reached = {"floor": Known(Reached(0.8, "1,008/s", "1,260/s"), "2026-03-02T08:00:00+00:00")}
    wide = {goal.key: Known(Reached(123_456.0, "orchestrator", "10,000/s"), "") for goal in GOALS}
    terminal = StringIO()
    Console(width=80, file=terminal).print(table(wide))
    assert "…" not in terminal.getvalue()
    terminal = StringIO()
    Console(width=80, file=terminal).print(table(reached))
    drawn = terminal.getvalue()
    assert "…" not in drawn
    for goal in GOALS:
        assert goal.words in drawn
        assert goal.wanted in drawn
    line = next(line for line in drawn.splitlines() if "against the floor" in line)
    assert line.split() == ["system,", "against", "the", "floor", "1,008/s", "1,260/s", "0.80", "≥", "0.75", "met"]
    document = {"program": "system", "at": "2026-03-02T08:00:00+00:00", "machine": {"cpus": 2, "load": [0.1, 1, 2]}}
    assert notes([document], reached)[0].endswith(", 2 cores, load 0.1 before")
    assert "make bench-peers" in notes([document], reached)[1]


def test_a_floor_is_read_from_its_words() -> None:
    """Sagas a second, CPU by its own names, latency; the last two may be missing, the first may not."""
    text = "RES b=100 | 1278 sagas/s orch_us=350 pg_us=210 idle=4%\nRESLAT n=100 p50=14.5ms p99=33.0ms\n"
    assert read(text) == Floor(1278.0, {"orch": 0.35, "pg": 0.21}, 0.0145, 0.033)
    assert read("12.5 sagas/s") == Floor(12.5)
    assert read("p50=14.5ms") is None
    template = "floor.py {count} {batch} 0 {queue}"
    assert command(template, QueueType.CLASSIC, 250, 3000) == "floor.py 3000 250 0 c"
    assert command("floor.py", QueueType.QUORUM, 250, 3000) == "floor.py"
