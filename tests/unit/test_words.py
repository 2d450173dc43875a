"""Facts in words: pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from orchestrator import words
from orchestrator.saga.facts import Fact
from orchestrator.times import clock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DUE = {"due": NOON.isoformat()}
ONCE = {"attempt": 1, "round": 1} | DUE
OUT = {"fact": "command_sent", "step": "dig", "direction": "action"}
BACK = {"fact": "command_sent", "step": "dig", "direction": "compensation"}
MOVED = {"fact": "deadline_moved", "step": "dig"}
MIGRATED = {"fact": "migrated", "from_version": 1, "to_version": 3, "data": {}, "made_from": {}}
STEP = {"step": "dig"}
TRACEBACK = "Traceback (most recent call last):\n  ...\nValueError: no spade\n"

TOLD: list[tuple[dict[str, Any], str | None, str | None]] = [
    ({"fact": "started", "data": {}}, None, None),
    ({"fact": "data_changed", "data": {}}, None, None),
    (OUT | ONCE, "dig: sent", "dig sends work.do"),
    (OUT | ONCE | {"attempt": 2}, "dig: sent again (attempt 2)", "dig sends work.do, attempt 2"),
    (
        BACK | ONCE | {"attempt": 2, "round": 3},
        "dig: compensating again (attempt 2, round 3)",
        "dig compensates with work.do, attempt 2, round 3",
    ),
    (BACK | ONCE | {"round": 2}, "dig: compensating again (round 2)", "dig compensates with work.do, round 2"),
    (
        OUT | ONCE | {"step": "fill"},
        "fill: sent",
        "fill sends a command",
    ),
    ({"fact": "wait_begun", "due": None} | STEP, "dig: waiting", "dig begins to wait"),
    ({"fact": "wait_begun"} | STEP | DUE, f"dig: waiting until {clock(NOON)}", "dig begins to wait"),
    ({"fact": "step_succeeded"} | STEP, "dig: succeeded", "dig succeeds"),
    ({"fact": "step_skipped"} | STEP, "dig: skipped", "dig is skipped"),
    ({"fact": "step_refused"} | STEP, "dig: refused", "dig is refused"),
    ({"fact": "step_in_doubt"} | STEP, "dig: in doubt", "dig is in doubt"),
    ({"fact": "step_compensated"} | STEP, "dig: compensated", "dig is compensated"),
    ({"fact": "compensation_begun", "reason": "no_time"}, "goes back: no_time", "goes back: no_time"),
    (
        {"fact": "became_stuck", "reason": TRACEBACK, "gave_up": []},
        "STUCK: ValueError: no spade",
        "becomes stuck: ValueError: no spade",
    ),
    ({"fact": "resumed"}, "resumed", "goes on"),
    (MOVED | DUE, f"dig: due {clock(NOON)}", "dig has another deadline"),
    (MOVED | {"due": None}, "dig: no deadline any more", "dig has no deadline any more"),
    (MIGRATED | {"renamed": {}}, "goes on as v3, was v1", "goes on as v3, was v1"),
    (
        MIGRATED | {"renamed": {"dig": "mine"}},
        "goes on as v3, was v1",
        "goes on as v3, was v1, dig is called mine",
    ),
    ({"fact": "completed"}, "completed", "completes"),
    ({"fact": "compensated"}, "compensated", "has made amends"),
    ({"fact": "abandoned", "reason": "a test"}, "abandoned: a test", "is abandoned: a test"),
    ({"fact": "came_late", "why": "it has ended"}, "late: it has ended", "comes late: it has ended"),
    ({"fact": "of_tomorrow"}, "of_tomorrow", "of_tomorrow"),
]


@pytest.mark.parametrize(("fact", "note", "sentence"), TOLD)
def test_a_fact_is_told_as_a_note_and_as_a_sentence(
    fact: dict[str, Any], note: str | None, sentence: str | None
) -> None:
    """What only changes the data is told by the data; a fact of a later Amends at least by its name."""
    assert (words.noted(fact), words.of_fact(fact, {"dig": "work.do"})) == (note, sentence)


def test_every_kind_of_fact_has_its_words() -> None:
    """A new one is told here too."""
    told = {fact["fact"].replace("_", "") for fact, _, _ in TOLD}
    assert {kind.__name__.lower() for kind in get_args(Fact)} == told - {"oftomorrow"}
