"""What other engines are given to do is what ours does, and a wrong result is found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.peers import engines
from benchmarks.peers.engines import Engine, Measured
from benchmarks.peers.report import Report
from benchmarks.peers.work import OutOfStock, findings, move, saga
from benchmarks.record import Record
from benchmarks.system import NotMeasurable


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
    report = Report(Record("peers", {}))
    report.ours = [Measured(value, {"order": 0.5}, {}) for value in (900.0, 1000.0, 5000.0)]
    report.peers = {"dbos": (engine, [Measured(value, {"dbos": 9.0}, {}) for value in (50.0, 80.0, 90.0)])}
    report.absent = {"Restate": "no restate-server"}
    document = report.as_json()
    assert document["goals"] == {
        "dbos": {"value": pytest.approx(12.5), "ours": "1,000/s", "other": "80/s", "standing": "met"}
    }
    assert document["absent"] == {"Restate": "no restate-server"}


async def test_a_peer_that_is_not_installed_is_said_and_not_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without its environment, and with one that lacks the server, the engine says what is missing and what to run."""
    monkeypatch.setattr(engines, "ENVIRONMENT", tmp_path)
    monkeypatch.setattr(engines, "_SERVERS", tmp_path / "servers")
    dbos, restate = engines.engines(32, 64)
    with pytest.raises(engines.Absent, match="make bench-peers installs it"):
        await engines.run(dbos, "amqp://nowhere", "postgresql://nowhere", 10)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    assert dbos.command("postgresql://here", 10)[-3:] == ["postgresql://here", "10", "32"]
    with pytest.raises(engines.Absent, match=r"no restate-server in .*; make bench-peers installs it, and needs npm"):
        restate.command("postgresql://here", 10)


@pytest.mark.parametrize(
    ("prints", "complaint"),
    [
        ("print('well')", "printed no figures, but 'well"),
        ('print(\'{"findings": ["ended: 9, where 10 is right"]}\')', "did not do the work right: ended: 9, where 10"),
    ],
)
async def test_a_peer_that_did_not_do_the_work_has_no_figure(
    monkeypatch: pytest.MonkeyPatch, prints: str, complaint: str
) -> None:
    """Neither one that prints nothing of use nor one whose sagas did not end as they had to is compared."""
    monkeypatch.setattr(engines.Engine, "command", lambda *_: [sys.executable, "-c", prints])
    with pytest.raises(NotMeasurable, match=complaint):
        await engines.run(engines.engines(32, 64)[0], "amqp://127.0.0.1:1", "postgresql://127.0.0.1:1/x", 10)
