"""What other engines are given to do is what ours does, and a wrong result is found."""

from __future__ import annotations

import pytest

from benchmarks.peers.engines import Engine, Measured
from benchmarks.peers.report import Report
from benchmarks.peers.work import OutOfStock, findings, move, saga


async def _results(count: int) -> tuple[list[dict[str, int | str]], list[str]]:
    taken: list[str] = []

    async def step(name: str, number: int) -> int:
        taken.append(f"{name} {number}")
        return move(name, number)

    return [await saga(step, number, (OutOfStock,)) for number in range(count)], taken


async def test_every_tenth_saga_is_undone_and_the_others_are_paid() -> None:
    """Three steps; where the last is refused two compensations, the latest step's first; no money stays held."""
    results, taken = await _results(2)
    assert results == [
        {"status": "compensated", "held": 0, "captured": 0},
        {"status": "completed", "held": 0, "captured": 1499},
    ]
    assert taken == [
        *("authorize 0", "confirm 0", "capture 0", "cancel 0", "void 0"),
        *("authorize 1", "confirm 1", "capture 1"),
    ]


async def test_what_is_missing_or_wrong_is_found() -> None:
    """A saga that has not ended, one that ended otherwise, money that is not where it belongs."""
    results, _ = await _results(20)
    assert findings(results, 20) == []
    assert findings(results[:-1], 20) == [
        "ended: 19, where 20 is right",
        "completed: 17, where 18 is right",
        f"captured: {17 * 1499}, where {18 * 1499} is right",
    ]
    kept = [{**results[0], "held": 1499}, *results[1:]]
    assert findings(kept, 20) == ["held: 1499, where 0 is right"]


def test_a_peer_is_compared_by_medians() -> None:
    """Ours to it, each the median of its rounds; a peer that is absent has no figure."""
    engine = Engine("dbos", "DBOS Transact", "one process", 32)
    report = Report("2026-03-01T08:00:00+00:00", {}, {})
    report.ours = [Measured(value, {"order": 0.5}, {}) for value in (900.0, 1000.0, 5000.0)]
    report.peers = {"dbos": (engine, [Measured(value, {"dbos": 9.0}, {}) for value in (50.0, 80.0, 90.0)])}
    report.absent = {"Restate": "no restate-server"}
    document = report.as_json()
    assert document["goals"] == {
        "dbos": {"value": pytest.approx(12.5), "ours": "1,000/s", "other": "80/s", "standing": "met"}
    }
    assert document["absent"] == {"Restate": "no restate-server"}
