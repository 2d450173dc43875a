"""The capacity model: what one saga was measured to cost, multiplied; every expectation computed by hand."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.capacity import in_bytes, main
from benchmarks.limits import Basis, limits
from benchmarks.sizing import Assumptions, Count, Footprint, Request, Saga, Stored, costs, most, size
from tests.acceptance.pages import ROOT, sessions

MEASURED = Footprint(
    steps=3,
    compensated=0.0,
    cpu_ms={
        "orchestrator": 1.4,
        "order": 0.7,
        "payment": 0.35,
        "broker": 0.7,
        "orchestrator database": 0.28,
        "order database": 0.14,
        "payment database": 0.07,
    },
    wal_bytes={"orchestrator": 8000, "order": 3000, "payment": 1500},
    stored={
        "orchestrator": {"saga": Stored(1, 600, 200), "saga_history": Stored(4, 3000, 200)},
        "order": {"orders": Stored(1, 200, 100)},
        "payment": {"journal": Stored(2, 400, 200)},
    },
    sent_bytes={"broker": 4000, "orchestrator": 1, "order": 1, "payment": 1},
    received_bytes={"broker": 6000, "orchestrator": 1, "order": 1, "payment": 1},
    copies=1,
    copied_bytes=0,
    request=Request(service="order", cpu_ms=0.0, database_cpu_ms=0.0, wal_bytes=0),
)
"""Round figures: 3 commands, 8 messages, 4 transitions a saga."""

THE_SAME = Saga(steps=3, compensated=0.0)
GIVEN = Assumptions(
    busy=0.7,
    replicas=3,
    machine_cores=10,
    queue_messages=10_000,
    node_messages=8_000,
    cluster_nodes=7,
    server_cores=20,
    server_wal_bytes=1e8,
    server_bytes=4e12,
    network_bytes=1e9,
)


def test_a_saga_sends_its_steps_and_what_it_undoes() -> None:
    """Three steps, one in ten compensated: 3.1 commands, each answered, a start and an end; 4.1 transitions."""
    saga = Saga(steps=3, compensated=0.1)
    assert saga.commands == pytest.approx(3.1)
    assert saga.messages == pytest.approx(8.2)
    assert saga.transitions == pytest.approx(4.1)


def test_the_saga_that_was_measured_costs_what_was_measured() -> None:
    """Services and databases that are not the orchestrator's are one sum."""
    assert asdict(costs(MEASURED, THE_SAME, GIVEN)) == pytest.approx(
        {
            "orchestrator_ms": 1.4,
            "participants_ms": 1.05,
            "broker_ms": 2.1,
            "orchestrator_database_ms": 0.28,
            "participants_databases_ms": 0.21,
            "orchestrator_wal": 8000,
            "participants_wal": 4500,
            "orchestrator_stored": 4000,
            "participants_stored": 900,
            "to_broker": 4000,
            "from_broker": 6000,
            "between_nodes": 8000,
        }
    )


def test_more_steps_cost_by_the_transition_the_command_and_the_message() -> None:
    """Seven steps: 8 transitions for 4, 7 commands for 3, 16 messages for 8."""
    cost = costs(MEASURED, Saga(steps=7, compensated=0.0), GIVEN)
    assert cost.orchestrator_ms == pytest.approx(2.8)
    assert cost.orchestrator_stored == pytest.approx(8000)
    assert cost.participants_ms == pytest.approx(2.45)
    assert cost.participants_wal == pytest.approx(10_500)
    assert cost.broker_ms == pytest.approx(4.2)
    assert cost.between_nodes == pytest.approx(16_000)
    assert cost.to_broker == pytest.approx(8000)


def test_copies_that_were_measured_are_not_guessed() -> None:
    """On three nodes 1.5 ms and 7,000 bytes between them: half as much more for five, the same for three."""
    measured = replace(MEASURED, cpu_ms={**MEASURED.cpu_ms, "broker": 1.5}, copies=3, copied_bytes=7000)
    three = costs(measured, THE_SAME, GIVEN)
    assert three.broker_ms == pytest.approx(1.5)
    assert three.between_nodes == pytest.approx(7000)
    five = costs(measured, THE_SAME, replace(GIVEN, replicas=5))
    assert five.broker_ms == pytest.approx(2.5)
    assert five.between_nodes == pytest.approx(14_000)


def test_a_request_costs_the_same_however_many_steps_follow() -> None:
    """2.1 ms of the service that takes it, 0.7 ms of its database, 2,000 bytes, on top; that service is a limit."""
    measured = replace(MEASURED, request=Request("order", 2.1, 0.7, 2000))
    cost = costs(measured, Saga(steps=6, compensated=0.0), GIVEN)
    assert cost.participants_ms == pytest.approx(2 * 1.05 + 2.1)
    assert cost.participants_databases_ms == pytest.approx(2 * 0.21 + 0.7)
    assert cost.participants_wal == pytest.approx(2 * 4500 + 2000)
    assert cost.orchestrator_ms == pytest.approx(1.4 * 7 / 4)
    assert [
        round(each.sagas_per_second, 1)
        for each in limits(measured, cost, Saga(steps=6, compensated=0.0), 1, GIVEN)
        if each.what == "a process of order"
    ] == [200.0]


def test_more_data_is_written_and_kept() -> None:
    """A hundred bytes more: 3 times for each of 4 transitions, twice for each of 3 commands, once in each message."""
    cost = costs(MEASURED, replace(THE_SAME, data_bytes=100), GIVEN)
    assert cost.orchestrator_wal == 8000 + 1200
    assert cost.participants_wal == 4500 + 600
    assert cost.orchestrator_stored == 4000 + 400
    assert cost.participants_stored == 900 + 300
    assert cost.to_broker == 4000 + 800
    assert cost.from_broker == 6000 + 800
    assert cost.between_nodes == 2 * (4000 + 800)
    assert cost.orchestrator_ms == 1.4


def test_a_thousand_a_second_for_a_day() -> None:
    """1,000 ms of work a second are 1 / 0.7 cores; three copies of the broker; 86.4 million sagas kept."""
    found = size(costs(MEASURED, THE_SAME, GIVEN), THE_SAME, 1000, 1, GIVEN)
    assert found.messages == 8000
    assert found.transitions == 4000
    assert found.orchestrator_processes == 2
    assert found.participant_processes == 2
    assert found.broker_cores == pytest.approx(3.0)
    assert found.orchestrator_database_cores == pytest.approx(0.4)
    assert found.participants_databases_cores == pytest.approx(0.3)
    assert found.cores == pytest.approx(2.0 + 1.5 + 3.0 + 0.4 + 0.3)
    assert found.event_queues == 1
    assert found.broker_nodes == Count(3, "quorum")
    assert found.broker_clusters == 1
    assert found.shards == Count(1, "one does")
    assert found.orchestrator_stored == pytest.approx(345.6e9)
    assert found.participants_stored == pytest.approx(77.76e9)
    assert found.wal == 12.5e6
    assert found.broker_in == 4e6
    assert found.broker_out == 6e6 + 2 * 4e6


def test_what_decides_a_number_stands_beside_it() -> None:
    """Ten thousand a second: 80,000 messages want 15 nodes of 5,600; 40,000 events 6 queues of 7,000.

    With 26 shards, 25 of 26 events are handed on: 4 * 25 / 26 messages a saga more, 22 nodes.
    """
    cost = costs(MEASURED, THE_SAME, GIVEN)
    found = size(cost, THE_SAME, 10_000, 1, GIVEN)
    assert found.broker_nodes == Count(15, "messages")
    assert found.broker_clusters == 3
    assert found.event_queues == 6
    assert found.shards == Count(1, "one does")
    assert found.messages == 80_000
    kept = size(cost, THE_SAME, 10_000, 30, GIVEN)
    assert kept.messages == pytest.approx(118_461.5)
    assert kept.broker_in == pytest.approx(59_230_769.2)
    assert kept.broker_nodes == Count(22, "messages")
    assert kept.shards == Count(26, "disk")
    assert kept.participants_servers == Count(6, "disk")
    busy = size(cost, THE_SAME, 100_000, 0, GIVEN)
    assert busy.shards == Count(8, "log")


def test_the_first_of_equal_needs_is_the_reason() -> None:
    """Whole machines are compared: 0.2 of one is one."""
    assert most((1, "one does"), (0.2, "cores"), (0.9, "disk")) == Count(1, "one does")
    assert most((1, "one does"), (2.1, "cores"), (2.9, "disk")) == Count(3, "cores")


def test_what_breaks_first_comes_first() -> None:
    """Cores, messages and network at 70 %, disk and write-ahead log at what they take, over one saga's cost."""
    found = limits(MEASURED, costs(MEASURED, THE_SAME, GIVEN), THE_SAME, 30, GIVEN)
    reached = [(round(each.sagas_per_second, 1), each.what, each.basis) for each in found]
    assert reached == [
        (385.8, "a disk for 30 days of histories", Basis.ASSUMED),
        (500.0, "an orchestrator process", Basis.MEASURED),
        (1000.0, "a process of order", Basis.MEASURED),
        (1388.9, "a machine of 10 cores for everything", Basis.MEASURED),
        (1750.0, "a queue for the orchestrator's events", Basis.CITED),
        (2100.0, "a broker of 3 nodes", Basis.CITED),
        (4900.0, "a broker of 7 nodes", Basis.CITED),
        (12500.0, "a database server's log", Basis.ASSUMED),
        (50000.0, "a database server's 20 cores", Basis.MEASURED),
        (150000.0, "10 Gbit to a broker's node", Basis.ASSUMED),
    ]


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345, "12.3 kB"), (999_600, "1.0 MB"), (2.5e15, "2.5 PB")],
)
def test_bytes_are_written_as_people_do(number: float, words: str) -> None:
    """In powers of a thousand, three digits at most."""
    assert in_bytes(number) == words


def _capacity(*words: str) -> Any:
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "120"})


def test_what_is_kept_with_the_code_can_be_multiplied() -> None:
    """As a table with a column a rate, and as JSON with what it rests on."""
    table = _capacity("100", "5000")
    assert table.exit_code == 0
    assert " 100 " in table.stdout
    assert "5,000" in table.stdout
    assert "what breaks, in this order" in table.stdout

    document = json.loads(_capacity("200", "--steps", "5", "--retention", "7", "-o", "json").stdout)
    assert document["saga"] == {"steps": 5, "compensated": 0.1, "data_bytes": 0}
    assert [each["sagas_per_second"] for each in document["needs"]] == [200]
    assert document["assumptions"]["busy"] == 0.7
    rates = [each["sagas_per_second"] for each in document["limits"]]
    assert rates == sorted(rates)
    assert all(rate > 0 for rate in rates)


def test_the_page_shows_what_the_program_prints() -> None:
    """After measuring again, or changing the model, its output goes there."""
    (session,) = (each for each in sessions(ROOT / "docs" / "scaling.md") if "benchmarks.capacity" in each.commands)
    assert session.printed is not None
    printed = [line.rstrip() for line in _capacity().stdout.strip().splitlines()]
    assert session.printed.splitlines() == printed


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"saga": {"steps": 3}}'])
def test_figures_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    """With one line that says how to get some, and exit code 2."""
    file = tmp_path / "figures.json"
    file.write_text(content)
    ended = _capacity("--figures", str(file))
    assert ended.exit_code == 2
    assert "is no file of python -m benchmarks.footprint" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words", [("0",), ("inf",), ("nan",), ("1e300",), ("1", "--retention", "inf"), ("1", "--retention", "40000")]
)
def test_what_is_no_number_of_anything_is_refused(words: tuple[str, ...]) -> None:
    """Before anything is computed."""
    ended = _capacity(*words)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
