"""What released versions of the sagas have done goes on replaying: a history in a database outlives the code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.replay.replaying import Difference, replay
from tests.golden.files import FOLDER, catalog, golden, read, write

SHAPES = {
    "book_trip_v1": {"approved": 7, "cheap": 6, "hotel_full": 4, "not_approved": 6, "withdrawn": 6},
    "fulfill_order_v1": {
        "canceled_by_customer": 4,
        "card_declined": 3,
        "completed": 4,
        "late_answers": 8,
        "out_of_stock": 5,
        "payment_silent": 6,
        "stuck_void_resolved": 15,
    },
    "move_house_v2": {"migrated_halfway": 6, "migrated_then_refused": 5, "migrated_turning_back": 5},
}


def told(difference: Difference) -> str:
    """A difference for whoever broke a history."""
    sides = "\n".join(
        [f"  recorded: {line}" for line in difference.recorded] + [f"  now:      {line}" for line in difference.now]
    )
    return (
        f"{difference.sentence}\n  at transition {difference.seq}, {difference.input}\n{sides}\n"
        "Instances of this version are in databases: give the changed definition a new version and keep the old one."
    )


@pytest.mark.parametrize("path", golden(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_golden_history_replays(path: Path) -> None:
    """Every transition is as recorded, and the row is what they fold to."""
    replayed = replay(read(path), catalog())
    assert replayed.difference is None, told(replayed.difference)
    assert replayed.transitions == SHAPES[path.parent.name][path.stem]


def test_what_was_migrated_is_replayed_by_both_versions() -> None:
    """It was begun by one and ended by the other, and a command went out under the name its step had then."""
    recorded = read(FOLDER / "move_house_v2" / "migrated_halfway.json")
    assert recorded.versions() == (1, 1, 2, 2, 2, 2)
    (fact, *_) = json.loads(recorded.transitions[2].facts)
    assert fact["renamed"] == {"keys": "locks", "van": "transport"}
    assert fact["made_from"] == {"locks": {"owner": "customer-42", "van": "", "keys": 0, "wishes": []}}
    assert fact["data"] == {"owner": "customer-42", "van": "HH-MV 7", "keys": 0, "wishes": []}


def test_no_golden_history_is_lost() -> None:
    """Each released version keeps its shapes."""
    found: dict[str, set[str]] = {}
    for path in golden():
        found.setdefault(path.parent.name, set()).add(path.stem)
    assert found == {version: set(shapes) for version, shapes in SHAPES.items()}


def test_a_golden_history_is_never_written_over(tmp_path: Path) -> None:
    """What was recorded once stays."""
    recorded = read(golden()[0])
    write(recorded, tmp_path / "one.json")
    assert read(tmp_path / "one.json") == recorded
    with pytest.raises(FileExistsError):
        write(recorded, tmp_path / "one.json")
