"""How several processes share the tests."""

from __future__ import annotations

import pytest
from hypothesis.internal.conjecture import providers

from tests.sharing import AT_THE_USUAL_PORTS, HERE, TOGETHER, pytest_xdist_auto_num_workers, unit


def test_what_is_done_together_is_there() -> None:
    """A file that was renamed would quietly be torn apart."""
    assert [name for name in (*TOGETHER, *AT_THE_USUAL_PORTS) if not (HERE.parent / name).is_file()] == []


def test_examples_do_not_depend_on_what_else_is_loaded() -> None:
    """Hypothesis would draw numbers and words that are written in any module of the process: another one each time."""
    assert [providers._get_local_constants().set_for_type(kind) for kind in (int, float, bytes, str)] == [set()] * 4


def test_a_test_is_done_by_itself_or_with_its_file() -> None:
    """Two seeds go to one process; two cases of another test may go to two."""
    seeds = [f"tests/simulation/test_simulation.py::test_the_properties_hold[from-{first}]" for first in (0, 25)]
    assert {unit(each) for each in seeds} == {"tests/simulation/test_simulation.py"}
    assert len({unit(f"{name}::test_a") for name in AT_THE_USUAL_PORTS}) == 1
    assert unit("tests/unit/test_help.py::test_a[x::y]") == "tests/unit/test_help.py::test_a[x::y]"


def test_nobody_shares_a_vhost_that_all_would_have_to_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a broker whose control is not ours one process runs all tests; otherwise one a processor and one more."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setenv("TEST_AMQP_URL", "amqp://somewhere/")
    monkeypatch.setenv("TEST_RABBITMQCTL", "")
    assert pytest_xdist_auto_num_workers() == 0
    monkeypatch.setenv("TEST_RABBITMQCTL", "/somewhere/rabbitmqctl")
    assert pytest_xdist_auto_num_workers() == 3
    monkeypatch.setenv("TEST_AMQP_URL", "")
    assert pytest_xdist_auto_num_workers() == 3
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert pytest_xdist_auto_num_workers() == 9
